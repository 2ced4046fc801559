"""The tables of `immref bench`: what was measured, the paper's Table 5 beside it, and the targets."""

from immref_trainers.bench.results import BRUTE, EXACT, LAP, NEAR, NUMPY, OFFICIAL, OURS, PLAIN, PRODUCT, SCIPY, Record, Row
from immref_trainers.bench.settings import PHOTOS, PIXELS, Case
from immref_trainers.bench.targets import Target, on_gpu, targets
from immref_trainers.tables import NOTHING, Table

PAPER_BATCHES = (128, 256, 512, 1024)
PAPER_ASSIGNMENT = (5.4, 6.7, 8.8, 22.8)  # Table 5, ms on an A5000
PAPER_KNN = (0.2, 0.2, 0.3, 0.7)
MIB = 2**20

Rows = dict[str, Row]
Series = tuple[float | None, ...]


def all_tables(record: Record) -> list[Table]:
    """Every table, in reading order."""
    tables = [knn_numpy(record)]
    for place in record.devices:
        tables += [knn_time(record, place), knn_memory(record, place), calls(record, place), solvers(record, place), kept(record, place)]
    return [*tables, *(table5(record, place) for place in record.devices), goals(record), *([goals_on_gpu(record)] if record.gpus else [])]


def knn_numpy(record: Record) -> Table:
    """Ours on the reference."""
    rows = [
        [
            *_shape(case),
            _ms(found, PLAIN),
            _ms(found, OURS),
            _times(found[OURS].times_plain),
            _mib(found, OURS),
            _share(found[OURS].drop_kept),
        ]
        for case, found in record.each("knn", NUMPY)
    ]
    return Table(
        "KNN on NumPy",
        "ms: the least of interleaved rounds. × plain: in multiples of one plain normal draw of the same shape. peak: memory beyond "
        "what was held before, the result included. drop kept: of the distance drop that drawing all k noises is expected to give, ± .5 %.",
        ["batch", "D", "k", "plain\nnoise ms", "immref\n.knn ms", "\n× plain", "peak\nMiB", "drop\nkept"],
        rows,
    )


def knn_time(record: Record, place: str) -> Table:
    """All contestants on torch."""
    rows = []
    for case, found in record.each("knn", place):
        cells = [
            cell
            for way in (OURS, BRUTE, OFFICIAL)
            for cell in (_ms(found, way), _times(found[way].times_plain) if way in found else NOTHING)
        ]
        rows.append([*_shape(case), _ms(found, PLAIN), *cells, _ratio(found, OFFICIAL, OURS)])
    return Table(
        f"KNN on {place}",
        "brute force: k noises an image in float32, a few images at a time, by |n|² - 2 <n, x>. official form: all noises at once, "
        f"float16 differences by broadcasting, norm, argmin. {_once(record)}",
        [
            *("batch", "D", "k", "plain\nnoise ms", "immref\n.knn ms", "\n× plain", "brute\nforce ms", "\n× plain", "official\nform ms"),
            *("\n× plain", "official\n÷ ours"),
        ],
        rows,
    )


def knn_memory(record: Record, place: str) -> Table:
    """What KNN takes and keeps on torch."""
    ways = (OURS, BRUTE, OFFICIAL)
    rows = [
        [*_shape(case), f"{4 * case.batch * case.dimension / MIB:.1f}", *(_mib(found, way) for way in ways)]
        + [_share(found[way].drop_kept) if way in found else NOTHING for way in ways]
        for case, found in record.each("knn", place)
    ]
    return Table(
        f"KNN on {place}: peak memory and the drop kept",
        "noise: the result's own size. Brute force and the official form choose among the same candidates as exact arithmetic; "
        "ours as on NumPy, ± .5 %.",
        [
            *("batch", "D", "k", "noise\nMiB", "immref.knn\nMiB", "brute force\nMiB", "official\nMiB"),
            *("immref.knn\nkept", "brute force\nkept", "official\nkept"),
        ],
        rows,
    )


def calls(record: Record, place: str) -> Table:
    """Whole calls of linear assignment."""
    ways = (PRODUCT, OFFICIAL, SCIPY, LAP, EXACT, NEAR)
    rows = [
        [*_kind(case), *(_ms(found, way) for way in ways), _ratio(found, OFFICIAL, _exact(found)), _ratio(found, OFFICIAL, NEAR)]
        for case, found in record.each("linear_assignment", place)
    ]
    return Table(
        f"Linear assignment on {place}, D {PIXELS}: the whole call, ms",
        "Images and noises given, permuted noises out. X Nᵀ: the product that every form needs, a floor. official form: "
        "float16 distances × .1, to the host, SciPy; it always minimises l2. SciPy, exact, near-exact: immref.linear_assignment with "
        f"solver='scipy', 'auto' (with and without the module lap) and 'auction'. {_once(record)}",
        ["data", "cost", "batch", *_heads(ways), "official\n÷ exact", "official\n÷ near"],
        rows,
    )


def solvers(record: Record, place: str) -> Table:
    """The solvers alone."""
    ways = (OFFICIAL, SCIPY, LAP, EXACT, NEAR)
    rows = []
    for case, found in record.each("linear_assignment", place, "solve"):
        best = _exact(found)
        ratios = [_ratio(found, OFFICIAL, best), _ratio(found, SCIPY, best), _ratio(found, SCIPY, NEAR)]
        rows.append([*_kind(case), *(_ms(found, way) for way in ways), *ratios])
    return Table(
        f"Linear assignment on {place}: the solver alone, ms",
        "The B × B matrix is given. exact in the ratios: with lap where it is installed, else without.",
        ["data", "cost", "batch", *_heads(ways), "official\n÷ exact", "SciPy\n÷ exact", "SciPy\n÷ near"],
        rows,
    )


def kept(record: Record, place: str) -> Table:
    """What linear assignment keeps and takes."""
    rows = []
    for case, found in record.each("linear_assignment", place):
        gap = record.rows_of(case, place, "solve")[NEAR].gap
        rows.append(
            [
                *_kind(case),
                *(_share(found[way].drop_kept, 2) if way in found else NOTHING for way in (OFFICIAL, NEAR)),
                NOTHING if gap is None else f"{gap:.2%}",
                _times(found[_exact(found)].times_plain),
                _times(found[NEAR].times_plain),
                *(_mib(found, way) for way in (OFFICIAL, _exact(found), NEAR)),
            ]
        )
    return Table(
        f"Linear assignment on {place}: the drop kept, and peak memory",
        "kept: of the optimal drop of the mean cost of the row, which the exact solver finds; where all images are one, nothing can "
        "drop. gap: at most this share of the gain is missing, certified by the auction's prices; 0 where it ended exactly. × plain: the "
        "whole call in multiples of plain noise of the same shape. near: near-exact.",
        [
            *("data", "cost", "batch", "official\nkept", "near\nkept", "near\ngap", "exact\n× plain", "near\n× plain"),
            *("official\nMiB", "exact\nMiB", "near\nMiB"),
        ],
        rows,
    )


def table5(record: Record, place: str) -> Table:
    """The paper's Table 5 and the same quantities here."""
    official = _at_paper_batches(record, place, OFFICIAL, OFFICIAL)
    ours = _at_paper_batches(record, place, LAP if record.lap else EXACT, OURS)
    rows = []
    for name, (assignment, nearest) in {
        "paper, A5000": (PAPER_ASSIGNMENT, PAPER_KNN),
        f"official form, {place}": official,
        f"immref, {place}": ours,
    }.items():
        rows.append([f"{name}: linear assignment, l2", *_series(assignment)])
        rows.append([f"{name}: KNN{'' if name.startswith('paper') else ', k 8'}", *_series(nearest)])
        ratios = [f"{a / b:.1f}×" if a and b else NOTHING for a, b in zip(assignment, nearest, strict=True)]
        rows.append([f"{name}: assignment ÷ KNN", *ratios, ""])
    return Table(
        f"Table 5 of the paper, and the same on {place}: ms by batch",
        f"The paper states neither k, D nor what a call contains. Here D {PIXELS}, photographs for assignment; KNN draws its noises, "
        "assignment is given them. immref: the exact solver. Absolute times of two machines do not compare; the ratios and trends may.",
        ["", *map(str, PAPER_BATCHES), "1024 ÷ 128"],
        rows,
    )


def goals(record: Record) -> Table:
    """Met or missed."""
    return _verdicts(
        "Targets on a CPU",
        "Assignment on photographs unless said otherwise. A solver's ratio is that of the solver alone; in the whole call the product "
        "X Nᵀ, which no solver can speed up, comes on top.",
        targets(record),
    )


def goals_on_gpu(record: Record) -> Table:
    """Met or missed, on a GPU."""
    return _verdicts(
        "Targets on a GPU",
        "KNN against torch's normal draw of the same shape; assignment on photographs, whole calls, against the same solver on this "
        "machine's CPU. Memory that CuPy takes for itself is not in the tables' peaks.",
        on_gpu(record),
    )


def _verdicts(title: str, caption: str, found: list[Target]) -> Table:
    """A row for each target."""
    rows = [[target.goal, target.found or NOTHING, target.verdict] for target in found]
    return Table(title, caption, ["target", "found", "verdict"], rows)


def _at_paper_batches(record: Record, place: str, assigned: str, nearest: str) -> tuple[Series, Series]:
    """Milliseconds of assignment and of KNN at the batches of Table 5; None where not measured."""
    assignment = {case.batch: rows for case, rows in record.each("linear_assignment", place, cost="l2", data=PHOTOS)}
    knn = {case.batch: rows for case, rows in record.each("knn", place, dimension=PIXELS, k=8)}
    return (
        tuple(_value(assignment.get(batch, {}), assigned) for batch in PAPER_BATCHES),
        tuple(_value(knn.get(batch, {}), nearest) for batch in PAPER_BATCHES),
    )


def _value(rows: Rows, way: str) -> float | None:
    return rows[way].ms if way in rows else None


def _series(values: Series) -> list[str]:
    """Milliseconds, and the last over the first: the trend."""
    first, last = values[0], values[-1]
    return [*(NOTHING if value is None else _number(value) for value in values), f"{last / first:.1f}×" if first and last else NOTHING]


def _exact(rows: Rows) -> str:
    """The exact solver that runs here."""
    return LAP if LAP in rows else EXACT


def _shape(case: Case) -> list[str]:
    return [str(case.batch), str(case.dimension), str(case.k)]


def _kind(case: Case) -> list[str]:
    return [case.data, str(case.cost), str(case.batch)]


def _heads(ways: tuple[str, ...]) -> list[str]:
    """Names as column heads of two lines."""
    return [{OFFICIAL: "official\nform", NEAR: "near-\nexact"}.get(way, way.replace(", ", ",\n")) for way in ways]


def _number(value: float) -> str:
    """Three digits or so."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _ms(rows: Rows, way: str) -> str:
    """Milliseconds, marked where they come from a single call."""
    return NOTHING if way not in rows else _number(rows[way].ms) + ("*" if rows[way].calls == 1 else "")


def _times(value: float | None) -> str:
    return NOTHING if value is None else _number(value)


def _ratio(rows: Rows, slow: str, fast: str) -> str:
    return f"{_number(rows[slow].ms / rows[fast].ms)}×" if slow in rows and fast in rows else NOTHING


def _mib(rows: Rows, way: str) -> str:
    peak = rows[way].peak_bytes if way in rows else None
    return NOTHING if peak is None else _number(peak / MIB) if peak < 10 * MIB else f"{peak / MIB:.0f}"


def _share(value: float | None, digits: int = 1) -> str:
    return NOTHING if value is None else f"{value:.{digits}%}"


def _once(record: Record) -> str:
    return "*: called once, for it is slow." if any(row.calls == 1 for row in record.rows) else ""
