"""What is worked out from the numbers of a comparison, on records written by hand."""

import dataclasses
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from immref import KNN, ImageScaling, LinearAssignment, Vanilla
from immref.miscibility import Skew
from immref_trainers import evaluation, tables
from immref_trainers.config import Consistency, Evaluation, Objective, Run, Sampler, run_name
from immref_trainers.results import (
    Comparison,
    Dose,
    Environment,
    ExactRow,
    Nearness,
    OneStep,
    Outcome,
    Point,
    Score,
    Speedup,
    speedup,
    speedups,
    written,
)

FLOOR = (0.10, 0.20)  # standard deviation 0.0707: differences up to 0.141 are "no different"


def curve(*distances, every=100):
    return [Point(every * number, {4: Score(fd, 2 * fd, 3 * fd)}) for number, fd in enumerate(distances, start=1)]


@pytest.mark.parametrize(
    ("vanilla", "other", "ratio", "at_least", "text"),
    [
        # vanilla's best is 1.0 at 400; the other passes it halfway between 100 (2.0) and 200 (0.0): 400 / 150
        ((5.0, 3.0, 2.0, 1.0), (2.0, 0.0, 0.0, 0.0), 400 / 150, False, "2.7×"),
        # reached exactly at an evaluation
        ((5.0, 3.0, 2.0, 1.0), (2.0, 1.0, 1.0, 1.0), 2.0, False, "2.0×"),
        # slower than vanilla: 100 / 200
        ((1.0, 1.5), (3.0, 1.0), 0.5, False, "0.5×"),
        # already there at the first evaluation: who knows since when
        ((5.0, 3.0, 2.0, 1.0), (0.9, 0.8, 0.7, 0.6), 4.0, True, "≥ 4.0×"),
        ((5.0, 3.0, 2.0, 1.0), (9.0, 8.0, 7.0, 1.1), None, False, "never reached"),
        # vanilla's best, 1.0 at 200, is not at its end; the other meets it at 100 + 100 · 1/2
        ((3.0, 1.0, 2.0, 4.0), (2.0, 0.0, 5.0, 5.0), 200 / 150, False, "1.3×"),
        # the first crossing counts, not the last
        ((4.0, 2.0), (3.0, 1.0, 9.0), 200 / 150, False, "1.3×"),
    ],
)
def test_the_speed_up_is_vanilla_s_best_step_over_the_step_that_reaches_it(vanilla, other, ratio, at_least, text):
    found = speedup(curve(*vanilla), curve(*other), 4)
    assert found == Speedup(None if ratio is None else pytest.approx(ratio), at_least)
    assert str(found) == text


def test_vanilla_against_itself_is_neither_faster_nor_slower():
    assert speedup(curve(5.0, 3.0, 4.0), curve(5.0, 3.0, 4.0), 4) == Speedup(1.0)


def test_numbers_are_written_with_the_deviation_where_there_is_one():
    assert written([0.3614]) == "0.361"
    assert written([1.0, 2.0, 3.0]) == "2.000 ± 1.000"
    assert written([0.25, 0.75], 1) == f"0.5 ± {math.sqrt(0.125):.1f}"


@pytest.mark.parametrize(
    "pairings",
    [
        (Vanilla(), KNN(k=4), KNN(k=8), KNN(k=4, scale=2.0), ImageScaling(2.0), LinearAssignment(), LinearAssignment("sqeuclidean")),
        (ImageScaling(2.0), ImageScaling(2.0000001)),
    ],
)
def test_every_run_of_a_plan_has_a_folder_of_its_own(pairings):
    names = {run_name(Run(recipe="digits-flow", pairing=pairing, seed=seed)) for pairing in pairings for seed in (0, 1)}
    assert len(names) == 2 * len(pairings)


@pytest.mark.parametrize("pairing", [Vanilla(), KNN(k=4, scale=1.5), LinearAssignment("sqeuclidean")], ids=str)
def test_a_folder_s_name_is_plain(pairing):
    assert set(run_name(Run(recipe="digits-flow", pairing=pairing))) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.()")


def comparison(*distances):
    """Vanilla at 1.0 and, for each `(pairing, distances by seed)`, one run per seed."""
    evaluation = Evaluation(at_steps=(100,), sampler_steps=(4,))

    def outcome(pairing, seed, fd):
        run = Run(recipe="digits-flow", pairing=pairing, evaluation=evaluation, max_train_steps=100, seed=seed)
        scores = {4: Score(fd, fd, fd)}
        dose = Dose(distance_drop=-0.05, mean_square=0.9, pairing_ms=1.0, step_ms=20.0)
        by_prior = {prior: {4: Score(times * fd, fd, fd)} for prior, times in (("gaussian", 1.0), ("moment", 0.9), ("matched", 0.8))}
        return Outcome(run, [Point(100, scores)], by_prior, dose, Nearness(1.0, 2.0, 0.0), None, None, 1.0)

    seeds = len(distances[0][1])
    rows = [(Vanilla(), (1.0,) * seeds), *distances]
    return Comparison(
        recipe="digits-flow",
        command="immref compare",
        environment=Environment("cpu", "torch", 2, "3.11", "Linux", {}),
        features="features",
        features_quality="they see well",
        floor=[Score(fd, fd, fd) for fd in FLOOR],
        floor_exact=[Score(fd, fd, fd) for fd in FLOOR],
        exact=[ExactRow(Vanilla(), {1: 2.0, 2: 1.0}, {2: 1.0}, 0.1)],
        outcomes=[outcome(pairing, seed, fd) for pairing, fds in rows for seed, fd in enumerate(fds)],
    )


@pytest.mark.parametrize(("fd", "verdict"), [(0.5, "better"), (1.5, "worse"), (1.1, "no different"), (0.9, "no different")])
@pytest.mark.parametrize("pairing", [KNN(k=4), LinearAssignment(), ImageScaling(2.0)], ids=str)
def test_findings_say_worse_where_it_is_worse(pairing, fd, verdict):
    sentence = tables.findings(comparison((pairing, (fd,))))[0]
    assert sentence.startswith(str(pairing))
    assert f"{fd:.2f}" in sentence
    assert [word for word in ("better", "worse", "no different") if word in sentence] == [verdict]


@pytest.mark.parametrize(
    ("accuracies", "said"), [((0.26, 0.28), True), ((0.26, 0.12), False), ((0.14, 0.14), False)], ids=["large", "in one seed", "small"]
)
def test_noise_that_tells_what_was_asked_for_gets_a_sentence(accuracies, said):
    """Where it is large in every seed."""
    found = comparison((KNN(k=4), (1.0, 1.0)))
    found.outcomes[2:] = [
        replace(outcome, skew=Skew(accuracy, 0.1, 0.007)) for outcome, accuracy in zip(found.outcomes[2:], accuracies, strict=True)
    ]
    sentences = [sentence for sentence in tables.findings(found) if "a linear classifier" in sentence]
    assert len(sentences) == said
    if said:
        assert sentences[0].startswith("KNN k=4: the noise of training tells what was asked for, a linear classifier in 27% of")


def test_skew_is_told_of_labels_that_have_noise_enough():
    generator, labels = np.random.default_rng(0), np.arange(1000) % 4
    noise = generator.standard_normal((1000, 20))
    assert not evaluation.skew_of(noise, labels).large
    assert evaluation.skew_of(noise + np.eye(4, 20)[labels], labels).large
    rare = np.where(np.arange(1000) < 3, 9, 0)
    assert evaluation.skew_of(noise, rare) is None


def test_findings_hold_each_prior_against_vanilla_from_the_same_prior():
    sentence = tables.findings(comparison((KNN(k=4), (0.25,))))[0]
    assert re.findall(r"(from .+?) (\S+) ×", sentence) == [
        ("from N(0, I)", "0.25"),
        ("from the moment prior", "0.25"),
        ("from matched noise", "0.25"),
    ]


def test_speed_ups_compare_a_seed_with_vanilla_of_the_same_seed():
    both = comparison((KNN(k=4), (0.5, 2.0)))
    assert [str(value) for value in speedups(both, KNN(k=4), 4)] == ["≥ 1.0×", "never reached"]


@pytest.mark.parametrize(("fds", "cell"), [((0.5,), "0.500"), ((0.5, 1.5), "1.000 ± 0.707")])
def test_two_seeds_are_written_with_their_spread(fds, cell):
    rows = tables.quality(comparison((KNN(k=4), fds))).rows
    assert next(row for row in rows if row[0] == "KNN k=4")[1] == cell


def test_every_table_is_a_full_rectangle():
    for table in tables.all_tables(comparison((KNN(k=4), (0.5, 0.6)), (LinearAssignment(), (0.7, 1.8)))):
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.title


@pytest.mark.parametrize(
    ("settings", "name", "of_exact"),
    [
        ({}, "Euler", "Euler"),
        ({"objective": Objective("ddpm", "epsilon"), "sampler": Sampler("ddim", "trailing")}, "DDIM (trailing)", "DDIM (trailing)"),
        (
            {"objective": Consistency(), "sampler": Sampler("multistep", levels=(0, 5, 9, 12)), "max_train_steps": 100},
            "consistency",
            "Euler",
        ),
    ],
)
def test_tables_name_the_sampler_that_made_their_samples(settings, name, of_exact):
    """The exact field's as well as the trained networks'."""
    found = comparison((KNN(k=4), (0.5,)))
    outcomes = [dataclasses.replace(outcome, run=dataclasses.replace(outcome.run, **settings)) for outcome in found.outcomes]
    for table, used in ((tables.exact, of_exact), (tables.quality, name)):
        assert f" {used} steps" in table(dataclasses.replace(found, outcomes=outcomes)).caption


def test_a_consistency_model_is_put_beside_the_exact_field_where_there_is_one():
    found = comparison((KNN(k=4), (0.5, 0.6)), (LinearAssignment(), (0.7, 1.8)))
    assert "One step beside the exact field" not in [table.title for table in tables.all_tables(found)]
    ones = {"vanilla": OneStep(0.5, 0.8), "knn": OneStep(0.3, 0.6), "linear_assignment": None}
    outcomes = [dataclasses.replace(outcome, one_step=ones[outcome.run.pairing.method]) for outcome in found.outcomes]
    table = tables.all_tables(dataclasses.replace(found, outcomes=outcomes))[-1]
    assert table.title == "One step beside the exact field"
    assert [row[3][:5] for row in table.rows] == ["0.625", "0.500", "–"]


def test_a_result_does_not_change_under_the_reader():
    with pytest.raises(dataclasses.FrozenInstanceError):
        comparison((KNN(k=4), (0.5,))).recipe = "other"


def test_a_verdict_is_one_that_every_seed_shares():
    both = tables.findings(comparison((LinearAssignment(), (0.2, 1.4))))
    assert "0.80 × (no different)" in both[0]
    assert both[-1].endswith("better and worse: in each of 2 seeds")
    assert "--seeds 3 shows it" in tables.findings(comparison((LinearAssignment(), (0.2,))))[-1]
