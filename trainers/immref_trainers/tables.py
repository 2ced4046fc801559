"""The tables of a comparison, as text: the terminal and the report show the same."""

from dataclasses import dataclass

from immref import Pairing
from immref.miscibility import Skew
from immref_trainers.results import Comparison, ExactRow, Outcome, Score, by_pairing, counted, speedups, spread, written
from immref_trainers.samplers.priors import PRIORS

NOTHING = "–"
ASKED = {"accuracy": "accuracy", "distance": "fd_within_class", "CLIPScore": "clip_score"}
START = {"gaussian": "from N(0, I)", "moment": "from the moment prior", "matched": "from matched noise"}


@dataclass(frozen=True)
class Table:
    """A title, a caption that tells how to read it, and rows of text; a column's name may have two lines."""

    title: str
    caption: str
    columns: list[str]
    rows: list[list[str]]


def all_tables(comparison: Comparison) -> list[Table]:
    """Every table, in reading order."""
    tables = [quality(comparison), speed(comparison), other_views(comparison)]
    if comparison.exact:
        tables.insert(0, exact(comparison))
    if comparison.outcomes[0].run.network.class_conditional:
        tables.append(asked(comparison))
    if any(outcome.one_step for outcome in comparison.outcomes):
        tables.append(one_step(comparison))
    return tables


def exact(comparison: Comparison) -> Table:
    """The training-free field."""
    steps = list(comparison.exact[0].fd)
    last = steps[-1]
    floor = written([score.fd for score in comparison.floor_exact], 2)
    followed = "Euler" if comparison.outcomes[0].run.sampler.method == "multistep" else sampler_name(comparison)
    return Table(
        "Exact field, no training",
        f"Fréchet distance of samples after {steps[0]} … {last} {followed} steps from N(0, I), and from noise paired "
        f"with training images (matched). Floor (training images drawn again): {floor}. The field is the limit of a perfect network that "
        f"memorises; linear assignment has no closed form. Curvature: of its paths in {last} equal steps of flow matching's time.",
        *exact_cells(comparison.exact),
    )


def exact_cells(rows: list[ExactRow]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table of the exact field."""
    steps = list(rows[0].fd)
    columns = ["pairing", *(counted(count).replace(" ", "\n") for count in steps), f"{counted(steps[-1])}\nmatched", "curvature"]
    return columns, [
        [str(row.pairing), *(f"{row.fd[count]:.2f}" for count in steps), f"{row.fd_matched[steps[-1]]:.2f}", f"{row.curvature:.3f}"]
        for row in rows
    ]


def quality(comparison: Comparison) -> Table:
    """Final Fréchet distance by sampler steps and prior."""
    counts = sampler_steps(comparison)
    told = comparison.outcomes[0].run.network.class_conditional
    alike = "vanilla, scaling and assignment within labels" if told else "vanilla, scaling and assignment"
    rows = []
    for pairing, outcomes in by_pairing(comparison).items():
        rows.append([str(pairing), *(written(fds(outcomes, prior, count)) for count in counts for prior in PRIORS)])
        for control in controls(outcomes):
            cells = [[written(fds(outcomes, control, count)), NOTHING, NOTHING] for count in counts]
            rows.append([f"  {control}", *(cell for group in cells for cell in group)])
    return Table(
        "Trained networks: Fréchet distance",
        f"Sampled in {sampler_name(comparison)} steps. "
        f"Floor (training images drawn again): {written([score.fd for score in comparison.floor])}. "
        "gaussian: sampling starts from N(0, I), as in the paper; moment: from a Gaussian fitted to the noise that training saw; "
        "matched: from noise paired with held-out images. "
        f"For {alike} the three are one law, so their spread is the noise of the metric. "
        "“noise ×” are controls, vanilla started from noise shrunk or widened: what a sampler gains without any pairing.",
        ["pairing", *(f"{counted(count)}\n{prior}" for count in counts for prior in PRIORS)],
        rows,
    )


def speed(comparison: Comparison) -> Table:
    """Speed-ups, dose and cost."""
    counts = sampler_steps(comparison)
    rows = []
    for pairing, outcomes in by_pairing(comparison).items():
        doses = [outcome.dose for outcome in outcomes]
        faster = [
            " / ".join(map(str, speedups(comparison, pairing, count, by_time=by_time))) if pairing != Pairing() else "1"
            for count in counts
            for by_time in (False, True)
        ]
        rows.append(
            [
                str(pairing),
                *faster,
                f"{spread([dose.distance_drop for dose in doses])[0]:+.2%}",
                f"{spread([dose.mean_square for dose in doses])[0]:.3f}",
                written([dose.pairing_ms for dose in doses], 2),
                f"{spread([dose.share for dose in doses])[0]:.1%}",
            ]
        )
    steps = comparison.outcomes[0].run.max_train_steps
    return Table(
        "Speed-up, dose and cost",
        "Speed-up: vanilla's training step of best distance over the step that reaches it, from N(0, I), one number per seed; and the "
        "same in time, each step at its median cost. "
        f"Vanilla is trained for {steps:,} steps; where it still improves at the end, its best is the budget's end. "
        "Distance: change of the mean image-noise distance. E n²: 1 for standard normal noise.",
        [
            "pairing",
            *(f"{what}\n{counted(count)}" for count in counts for what in ("speed-up", "in time")),
            *("distance", "E n²", "pairing\nms a step", "share of\nthe step"),
        ],
        rows,
    )


def other_views(comparison: Comparison) -> Table:
    """The same samples in other features and against unseen images."""
    counts = sampler_steps(comparison)
    views = {"fd_second_features": "second features", "fd_held_out": "held-out images"}
    rows = [
        [
            str(pairing),
            *(written(fds(outcomes, "gaussian", count, view)) for view in views for count in counts),
            written([outcome.nearest.ratio for outcome in outcomes], 2),
            written([100 * outcome.nearest.copies for outcome in outcomes], 1),
        ]
        for pairing, outcomes in by_pairing(comparison).items()
    ]
    floors = [written([getattr(score, view) for score in comparison.floor]) for view in views]
    rows.append(["training images again", *(floor for floor in floors for _ in counts), NOTHING, NOTHING])
    return Table(
        "The same samples, judged otherwise",
        "Fréchet distance from N(0, I) in the features of a second network, and against images that neither the generator nor "
        "the feature networks were fitted on; the training images themselves, drawn again, in the last row. Memorising: the median "
        "distance of samples to their nearest training image over that of held-out images (1: as new as those), and the share of samples "
        "nearer to one than 99 % of held-out images are.",
        ["pairing", *(f"{name}\n{counted(count)}" for name in views.values() for count in counts), "nearest\nimage", "copies\n%"],
        rows,
    )


def asked(comparison: Comparison) -> Table:
    """Conditional sampling: is a sample what was asked for?"""
    counts, starts = sampler_steps(comparison), ("gaussian", "matched")
    first = comparison.outcomes[0].curve[-1].scores[counts[0]]
    views = {name: view for name, view in ASKED.items() if getattr(first, view) is not None}
    rows = []
    for pairing, outcomes in by_pairing(comparison).items():
        skews = [skew.accuracy - skew.chance for skew in skews_of(outcomes)]
        cells = [written(fds(outcomes, prior, count, view)) for view in views.values() for count in counts for prior in starts]
        rows.append([str(pairing), *cells, written(skews) if skews else NOTHING])
    said = {
        "accuracy": "Accuracy: share of samples that the feature network calls by the label asked for. ",
        "distance": "Distance: mean over classes of the Fréchet distance to that class's training images. ",
        "CLIPScore": "CLIPScore: mean of 100 cos between samples and their prompts. ",
    }
    return Table(
        "What was asked for",
        "".join(said[name] for name in views) + "From N(0, I), and from noise matched with held-out images of the label. "
        "Skew: by how much a linear classifier tells the label from the noise of training better than chance; sampling a label from "
        "N(0, I) does not know of it.",
        ["pairing", *(f"{name} {prior}\n{counted(count)}" for name in views for count in counts for prior in starts), "skew"],
        rows,
    )


def one_step(comparison: Comparison) -> Table:
    """Consistency models beside the exact field."""
    rows = []
    for pairing, outcomes in by_pairing(comparison).items():
        found = [outcome.one_step for outcome in outcomes if outcome.one_step is not None]
        numbers = [[one.apart for one in found], [one.chance for one in found], [one.apart / one.chance for one in found]]
        rows.append([str(pairing), *(written(values) if values else NOTHING for values in numbers)])
    return Table(
        "One step beside the exact field",
        "Root mean square difference, pixel by pixel, between the image that the trained network makes of a noise in one step and the one "
        "to which its pairing's exact field leads from the same noise; chance: to the field's image of another noise. The exact field "
        "ends in training images, a network need not: 0 would be a network that memorised. Linear assignment has no exact field.",
        ["pairing", "difference", "chance", "difference\nover chance"],
        rows,
    )


def findings(comparison: Comparison) -> list[str]:
    """What a reader should take away, worked out from the numbers; worse is said as plainly as better."""
    vanilla, *others = by_pairing(comparison).items()
    band = 2 * spread([score.fd for score in comparison.floor])[1]
    sentences = []
    for count in sampler_steps(comparison):
        base = fds(vanilla[1], "gaussian", count)
        for control in controls(vanilla[1]):
            sentences.append(f"control, {counted(count)}: vanilla from {control} {_ratio(fds(vanilla[1], control, count), base, band)}")
        for pairing, outcomes in others:
            parts = []
            for prior in PRIORS if pairing.method == "knn" else ("gaussian",):
                ratio = _ratio(fds(outcomes, prior, count), fds(vanilla[1], prior, count), band)
                parts.append(f"{START[prior]} {ratio}")
            sentences.append(f"{pairing}, {counted(count)}: {', '.join(parts)}")
    told = [skewed(f"{pairing}: ", skews_of(outcomes)) for pairing, outcomes in by_pairing(comparison).items()]
    sentences += [sentence for sentence in told if sentence is not None]
    seeds = len(vanilla[1])
    doubt = (
        "one seed: what another training seed would change is not in that band, --seeds 3 shows it"
        if seeds == 1
        else f"better and worse: in each of {seeds} seeds"
    )
    key = f"× is the distance over vanilla's from the same prior; no different: within {band:.3f}, twice the floor's standard deviation"
    sentences.append(f"{key}; {doubt}")
    return sentences


def skews_of(outcomes: list[Outcome]) -> list[Skew]:
    """Those that were measured."""
    return [outcome.skew for outcome in outcomes if outcome.skew is not None]


def skewed(whose: str, skews: list[Skew]) -> str | None:
    """What a dependence of noise on prompts or labels means where it is large in each of these runs; None where it is not."""
    if not skews or not all(skew.large for skew in skews):
        return None
    told = f"{spread([skew.accuracy for skew in skews])[0]:.0%} of cases (chance {skews[0].chance:.0%})"
    return (
        f"{whose}the noise of training tells what was asked for, a linear classifier in {told}. Noise from N(0, I) does not, so that "
        "samples start where training did not; whether they do less of what was asked for, the scores from matched noise show. Linear "
        "assignment within labels is free of this"
    )


def _ratio(values: list[float], base: list[float], band: float) -> str:
    """'0.73 × (better)': a verdict that every seed must share, beyond the band on average."""
    differences = [value - reference for value, reference in zip(values, base, strict=True)]
    mean = spread(differences)[0]
    same_sign = all(difference * mean > 0 for difference in differences)
    verdict = "no different" if abs(mean) <= band or not same_sign else "better" if mean < 0 else "worse"
    return f"{spread(values)[0] / spread(base)[0]:.2f} × ({verdict})"


def fds(outcomes: list[Outcome], prior: str, count: int, view: str = "fd") -> list[float]:
    """One view of the final score, per seed."""
    scores: list[Score] = [outcome.priors[prior][count] for outcome in outcomes]
    return [getattr(score, view) for score in scores]


def controls(outcomes: list[Outcome]) -> list[str]:
    """The starting noises that only vanilla was sampled from, by name."""
    return [prior for prior in outcomes[0].priors if prior not in PRIORS]


def sampler_name(comparison: Comparison) -> str:
    """'Euler', or 'DDIM (trailing)'."""
    sampler = comparison.outcomes[0].run.sampler
    names = {"euler": "Euler", "ddim": f"DDIM ({sampler.timestep_spacing})", "multistep": "consistency"}
    return names[sampler.method]


def sampler_steps(comparison: Comparison) -> tuple[int, ...]:
    """The sampler's step counts of the comparison."""
    return comparison.outcomes[0].run.evaluation.sampler_steps
