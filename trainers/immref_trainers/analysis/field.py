"""Which part of a gain is the pairing's, the network's, the prior's: the exact field beside what was trained."""

from matplotlib.figure import Figure

from immref import KNN, Pairing
from immref_trainers import exact_field, tables
from immref_trainers.analysis.parts import Part, Picture
from immref_trainers.analysis.subjects import Shared
from immref_trainers.figures import COLOURS, exact_lines
from immref_trainers.results import ExactRow, Score, counted, written
from immref_trainers.tables import NOTHING, Table

CANDIDATES = (1, 2, 4, 8, 16, 32, 64)
POINTS = 600  # noises that are followed


def part(shared: Shared) -> Part:
    """The field for k = 1 … 64, and the end of every run under every prior."""
    rows = list(exact_field.table(shared.images, shared.judge, shared.subjects[0].run, POINTS, tuple(map(of, CANDIDATES))))
    first, last = min(rows[0].fd), max(rows[0].fd)
    return Part(
        "The exact field: what a perfect network would do",
        [
            f"Samples of the exact field lie at {rows[0].fd[first]:.2f} after {counted(first)} with k = 1 and at {rows[-1].fd[first]:.2f} "
            f"with k = {CANDIDATES[-1]}; its paths have curvature {rows[0].curvature:.3f} and {rows[-1].curvature:.3f}.",
            f"After {counted(last)} they lie at {rows[0].fd[last]:.2f} and {rows[-1].fd[last]:.2f} from N(0, I), at "
            f"{rows[0].fd_matched[last]:.2f} and {rows[-1].fd_matched[last]:.2f} from matched noise. For k = 1 both are one law: what lies "
            "between them there is the metric's noise.",
        ],
        [exact_table(rows, shared.judge.floor(POINTS)), trained_table(shared)],
        [
            Picture(
                "field",
                "The exact field under KNN: Fréchet distance by the sampler's steps from N(0, I), and from noise paired with training "
                "images (diamonds).",
                curves(rows),
                ["k", "steps", "Fréchet distance", "prior"],
                [
                    [row.pairing.k, steps, value, prior]
                    for row in rows
                    for prior, found in (("gaussian", row.fd), ("matched", row.fd_matched))
                    for steps, value in found.items()
                ],
            )
        ],
    )


def of(k: int) -> Pairing:
    """Vanilla, or KNN."""
    return KNN(k=k) if k > 1 else Pairing()


def exact_table(rows: list[ExactRow], floor: list[Score]) -> Table:
    """Every k."""
    last = max(rows[0].fd)
    return Table(
        "The exact field for every k",
        f"No network, no training: the optimal denoiser of the training images, followed from {POINTS} noises; floor (as many training "
        f"images drawn again): {written([score.fd for score in floor], 2)}. It memorises: it tells what pairing and prior do, not what a "
        f"network learns. Where {last} steps from N(0, I) lie above the floor and matched noise does not, the prior is the reason.",
        *tables.exact_cells(rows),
    )


def trained_table(shared: Shared) -> Table:
    """What the runs reached, by steps and prior."""
    counts = shared.subjects[0].run.evaluation.sampler_steps
    rows: list[list[str]] = []
    for subject in shared.subjects:
        rows += [
            [f"{subject.name}, {prior}", *(f"{scores[count].fd:.3f}" if count in scores else NOTHING for count in counts)]
            for prior, scores in subject.outcome.priors.items()
        ]
    return Table(
        "What the networks reached",
        "Fréchet distance at the end of training, from N(0, I), from the Gaussian fitted to the noise of training (moment), from noise "
        "matched with held-out images, and for vanilla from noise of another deviation, the control of every gain at few steps.",
        ["run", *(counted(count) for count in counts)],
        rows,
    )


def curves(rows: list[ExactRow]) -> Figure:
    """Distance over steps."""
    figure = Figure(figsize=(5.5, 3.8))
    axes = figure.subplots()
    exact_lines(axes, rows, dict(zip((row.pairing for row in rows), COLOURS, strict=False)))
    axes.legend(frameon=False, fontsize=9)
    return figure
