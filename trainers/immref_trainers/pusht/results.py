"""The numbers of policies, and Table 2 worked out from them. No torch, no drawing."""

import math
import statistics
from dataclasses import dataclass

from scipy.stats import t

from immref import Pairing
from immref_trainers.config import Run
from immref_trainers.results import Dose, Environment, RolledPoint, counted, grouped
from immref_trainers.tables import Table

LAST = 10  # evaluations whose mean the paper reports


@dataclass(frozen=True)
class PolicyOutcome:
    """One trained policy.

    Attributes
    ----------
    final : by the sampler's steps, the last evaluation's largest reward from every start
    seconds : that the training steps took, evaluations aside
    """

    run: Run
    curve: list[RolledPoint]
    final: dict[int, list[float]]
    dose: Dose
    seconds: float


@dataclass(frozen=True)
class PolicyComparison:
    """Everything that `results.json` holds."""

    recipe: str
    command: str
    environment: Environment
    outcomes: list[PolicyOutcome]


@dataclass(frozen=True)
class Difference:
    """By how much a pairing's policies score better than vanilla's, from the same starts and training seeds.

    Attributes
    ----------
    mean : over starts and seeds
    over_starts, over_seeds : its standard errors, with starts or with training seeds as what was drawn; the latter is NaN for one seed
    seeds : how many
    """

    mean: float
    over_starts: float
    over_seeds: float
    seeds: int

    @property
    def verdict(self) -> str:
        """Different only where 0 lies outside both 95 % intervals, Student's over the seeds: 12.7 errors for two, 4.3 for three."""
        if self.seeds < 2:
            return "undecided with one training seed"
        if abs(self.mean) <= max(1.96 * self.over_starts, float(t.ppf(0.975, self.seeds - 1)) * self.over_seeds):
            return "no different"
        return "better" if self.mean > 0 else "worse"


def last_ten(outcome: PolicyOutcome, count: int) -> float:
    """Mean score of the last evaluations, ten or as many as there are."""
    return statistics.fmean(point.scores[count].score for point in outcome.curve[-LAST:])


def largest(outcome: PolicyOutcome, count: int) -> float:
    """The best evaluation's score."""
    return max(point.scores[count].score for point in outcome.curve)


def difference(vanilla: list[PolicyOutcome], other: list[PolicyOutcome], count: int) -> Difference:
    """Of the last evaluations, start by start."""
    base = {outcome.run.seed: outcome.final[count] for outcome in vanilla}
    by_seed = [[a - b for a, b in zip(outcome.final[count], base[outcome.run.seed], strict=True)] for outcome in other]
    of_seeds, of_starts = ([statistics.fmean(values) for values in side] for side in (by_seed, zip(*by_seed, strict=True)))
    over_seeds = standard_error(of_seeds) if len(of_seeds) > 1 else math.nan
    return Difference(statistics.fmean(of_seeds), standard_error(of_starts), over_seeds, len(of_seeds))


def standard_error(values: list[float]) -> float:
    """Of their mean."""
    return statistics.stdev(values) / math.sqrt(len(values))


def percent(values: list[float]) -> str:
    """'82.8 ± 1.2', mean and standard error over the seeds, in per cent."""
    mean = f"{100 * statistics.fmean(values):.1f}"
    return f"{mean} ± {100 * standard_error(values):.1f}" if len(values) > 1 else mean


def table(comparison: PolicyComparison) -> Table:
    """Table 2: coverage under each pairing."""
    groups = grouped(comparison.outcomes)
    vanilla = groups[Pairing()]
    counts = vanilla[0].run.evaluation.sampler_steps
    rows = []
    for pairing, outcomes in groups.items():
        cells = []
        for count in counts:
            found = difference(vanilla, outcomes, count)
            cells += [
                percent([last_ten(outcome, count) for outcome in outcomes]),
                percent([largest(outcome, count) for outcome in outcomes]),
            ]
            cells += [f"{statistics.fmean(outcome.curve[-1].scores[count].solved for outcome in outcomes):.0%}"]
            cells += ["–" if pairing == Pairing() else f"{100 * found.mean:+.1f} ± {100 * found.over_starts:.1f}"]
            cells += [f"{statistics.fmean(outcome.curve[-1].scores[count].action_error for outcome in outcomes):.1f}"]
        dose = [outcome.dose for outcome in outcomes]
        rows.append([str(pairing), *cells, f"{statistics.fmean(one.mean_square for one in dose):.3f}"])
    run = vanilla[0].run
    shown = min(LAST, len(vanilla[0].curve))
    return Table(
        "Policies in the simulator (Table 2)",
        f"Score in per cent: largest coverage of an episode over 0.95, at most 100; mean over {run.evaluation.num_samples} starts, and "
        f"over the last {shown} evaluations or of the best one; ±: standard error over the training seeds, {len(vanilla)} here. "
        "Solved: share of the last evaluation's episodes. Against vanilla: difference of the last "
        "evaluation from the same starts, ± its standard error over the starts. Action error: pixels, on held-out demonstrations. "
        "E n²: of the noise of training, 1 for standard normal noise.",
        [
            "pairing",
            *(
                f"{what}\n{counted(count)}"
                for count in counts
                for what in (f"last {shown}", "best", "solved", "against vanilla", "action error")
            ),
            "E n²",
        ],
        rows,
    )


def findings(comparison: PolicyComparison) -> list[str]:
    """Whether a pairing's policies are better than vanilla's."""
    vanilla, *others = grouped(comparison.outcomes).items()
    sentences = []
    for pairing, outcomes in others:
        for count in outcomes[0].run.evaluation.sampler_steps:
            found = difference(vanilla[1], outcomes, count)
            seeds = "" if math.isnan(found.over_seeds) else f", {100 * found.over_seeds:.1f} over the seeds"
            errors = f"standard errors {100 * found.over_starts:.1f} over the starts{seeds}"
            sentences.append(f"{pairing}, {counted(count)}: {100 * found.mean:+.1f} points against vanilla ({errors}): {found.verdict}")
    return [*sentences, "better and worse: 0 lies outside the 95 % intervals over starts and over seeds"]
