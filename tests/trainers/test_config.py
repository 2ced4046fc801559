"""A run's record: there and back through run.json, and a sentence for every mistake."""

import dataclasses
import json

import pytest

from immref import KNN, ImageScaling, LinearAssignment, Pairing, Vanilla
from immref_trainers import recipes
from immref_trainers.config import Consistency, Evaluation, Objective, Optimizer, Run, Sampler, load_run, parse_pairing
from immref_trainers.data.settings import Digits, Directory
from immref_trainers.networks.settings import PolicyUNet, UNet
from immref_trainers.strict_json import read, to_json

RUN = Run(recipe="digits-flow")
DDIM = {"objective": Objective("ddpm", "epsilon"), "sampler": Sampler("ddim")}
CONSISTENCY = {"objective": Consistency(), "sampler": Sampler("multistep"), "evaluation": Evaluation(sampler_steps=(1, 2))}
PAIRINGS = (Vanilla(), KNN(k=4), KNN(k=64, score="dot", scale=1.5), LinearAssignment("sqeuclidean", within="label"), ImageScaling(2.0))


@pytest.mark.parametrize("pairing", PAIRINGS, ids=str)
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_survives_run_json(name, pairing, tmp_path):
    run = dataclasses.replace(recipes.find(name).run(), seed=3)
    labelled = not isinstance(run.network, PolicyUNet) and getattr(run.network, "prompt", "") is not None
    run = dataclasses.replace(run, pairing=pairing if labelled else dataclasses.replace(pairing, within="batch"))
    (tmp_path / "run.json").write_text(to_json(run), encoding="utf-8")
    assert load_run(tmp_path) == run


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_recipe_knows_its_own_name_and_its_plan_differs_in_pairing_and_seed_alone(name):
    recipe = recipes.find(name)
    plan = recipes.plan(recipe.run(), recipe.pairings, seeds=2)
    assert [(run.pairing, run.seed) for run in plan] == [(pairing, seed) for seed in (0, 1) for pairing in recipe.pairings]
    assert {dataclasses.replace(run, pairing=Pairing(), seed=0) for run in plan} == {recipe.run()}
    assert recipe.run().recipe == name


def altered(**changes):
    """run.json with some of its values replaced; a dotted name reaches inside."""
    record = json.loads(to_json(RUN))
    for name, value in changes.items():
        *path, last = name.split("__")
        place = record
        for key in path:
            place = place[key]
        place[last] = value
    return json.dumps(record)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (altered(sede=1), "run has an unknown key 'sede'; known: recipe, .*did you mean 'seed'"),
        (
            altered(pairing__kk=1),
            r"run.pairing has an unknown key 'kk'; known: method, k, score, scale, cost, solver, within; did you mean 'k'\?",
        ),
        ('{"recipe": "digits-flow"}', "run lacks data, network, objective, pairing, .*, max_train_steps"),
        (altered(seed="0"), "run.seed must be a int, got '0'"),
        (altered(seed=0.0), "run.seed must be a int, got 0.0"),
        (altered(seed=True), "run.seed must be a int, got True"),
        (altered(optimizer__learning_rate=True), "run.optimizer.learning_rate must be a float, got True"),
        (altered(data=None), "run.data must be an object, got None"),
        (altered(evaluation__at_steps=800), "run.evaluation.at_steps must be a list, got 800"),
        (altered(evaluation__sampler_steps=[4, "16"]), r"run.evaluation.sampler_steps\[1\] must be a int, got '16'"),
        (altered(pairing__method="knm"), "run.pairing.method must be one of 'vanilla', 'knn', 'linear_assignment', got 'knm'; .*'knn'"),
        (altered(pairing__k=4), "k=4 needs method 'knn', got 'vanilla'"),
        (altered(pairing__scale=float("nan")), "scale must be finite and > 0, got nan"),
        (altered(objective="flow"), "run.objective must be an object, got 'flow'"),
        (altered(objective__prediction="epsilom"), "run.objective.prediction must be one of .*, got 'epsilom'; did you mean 'epsilon'"),
        (altered(objective__prediction="epsilon"), "objective.prediction must be velocity for flow, got 'epsilon'"),
        (altered(sampler__spacing="leading"), "run.sampler has an unknown key 'spacing'; known: method, timestep_spacing, clip_sample"),
        (altered(sampler__clip_sample=1), "run.sampler.clip_sample must be a bool, got 1"),
        ("[]", r"run must be an object, got \[\]"),
        ("{", "Expecting property name"),
    ],
)
def test_the_loader_is_strict(text, words):
    with pytest.raises(ValueError, match=words):
        read(Run, text)


def test_whole_numbers_are_welcome_where_a_float_is_wanted():
    assert read(Run, altered(optimizer__learning_rate=1)).optimizer.learning_rate == 1.0


def end(*at_steps, **others):
    return {"evaluation": lambda: Evaluation(at_steps=at_steps, **others)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_batch_size": 0}, "train_batch_size must be ≥ 1, got 0"),
        ({"gradient_accumulation_steps": -1}, "gradient_accumulation_steps must be ≥ 1, got -1"),
        ({"max_train_steps": 0}, "max_train_steps must be ≥ 1, got 0"),
        (end(100), r"at_steps must increase and end at max_train_steps=\d+, got \(100,\); set both, e.g. --max-train-steps"),
        (end(), "at_steps must increase"),
        (end(0, RUN.max_train_steps), "at_steps must increase"),
        (end(20, 10, RUN.max_train_steps), "at_steps must increase"),
        (end(10, 10, RUN.max_train_steps), "at_steps must increase"),
        (end(RUN.max_train_steps, sampler_steps=()), r"sampler_steps must be one or more numbers ≥ 0, got \(\)"),
        (end(RUN.max_train_steps, sampler_steps=(4, -1)), "sampler_steps must be one or more numbers ≥ 0"),
        (end(RUN.max_train_steps, num_samples=1), "num_samples must be ≥ 2, got 1"),
        (end(RUN.max_train_steps, sampler_steps=(4, 4)), "sampler_steps must differ"),
        ({"seed": -1}, "seed must be"),
        ({"optimizer": lambda: Optimizer(ema_decay=1.0)}, r"ema_decay must be in \[0, 1\), got 1.0"),
        ({"network": lambda: UNet(norm_num_groups=5)}, r"norm_num_groups must divide each of \(16, 32\), got 5"),
        ({"data": lambda: Digits(pixel_std=float("inf"))}, "pixel_std must be finite and > 0, got inf"),
        (
            {"objective": lambda: Objective("ddpm")},
            "objective.prediction must be epsilon or v_prediction or sample for ddpm, got 'velocity'",
        ),
        (
            {"objective": lambda: Objective(num_train_timesteps=500)},
            "objective.num_train_timesteps=500 needs objective.method 'ddpm'",
        ),
        ({"objective": lambda: Objective(beta_end=0.5)}, "objective.beta_end=0.5 needs objective.method 'ddpm'"),
        (
            {"objective": lambda: Objective("ddpm", "sample", beta_schedule="squaredcos_cap_v2", beta_start=0.1)},
            "objective.beta_start=0.1 needs another objective.beta_schedule than 'squaredcos_cap_v2'",
        ),
        ({"objective": lambda: Objective("ddpm", "sample", num_train_timesteps=0)}, "objective.num_train_timesteps must be ≥ 1, got 0"),
        ({"objective": lambda: Objective("ddpm", "sample", beta_start=0.03)}, "beta_end must be > beta_start and < 1, got beta_start=0.03"),
        ({"objective": lambda: Objective("ddim")}, "objective.method must be one of flow, ddpm, got 'ddim'"),
        ({"sampler": lambda: Sampler(clip_sample=True)}, "sampler.clip_sample=True needs sampler.method 'ddim'"),
        ({"sampler": lambda: Sampler(timestep_spacing="trailing")}, "sampler.timestep_spacing='trailing' needs sampler.method 'ddim'"),
        ({"sampler": lambda: Sampler("ddim", "trialing")}, "sampler.timestep_spacing must be one of .*; did you mean 'trailing'"),
        ({"sampler": Sampler("ddim")}, "sampler.method must be euler where objective.method is flow, got ddim"),
        ({"objective": DDIM["objective"]}, "sampler.method must be ddim or ddpm where objective.method is ddpm, got euler"),
        (
            DDIM | {"sampler": Sampler("ddim", "linspace")} | end(RUN.max_train_steps, sampler_steps=(4, 1)),
            r"evaluation.sampler_steps must lie in \[2, 1000\] with spacing linspace, got \[4, 1\]",
        ),
        (
            DDIM | end(RUN.max_train_steps, sampler_steps=(4, 1001)),
            r"evaluation.sampler_steps must lie in \[1, 1000\] with spacing leading, got \[4, 1001\]",
        ),
        ({"objective": lambda: Consistency("consistancy")}, "objective.method must be one of consistency, got 'consistancy'"),
        ({"objective": lambda: Consistency(variant="cd")}, "objective.variant must be one of ct, ict, got 'cd'"),
        ({"objective": lambda: Consistency(distance="l1")}, "objective.distance must be one of pseudo_huber, l2, lpips, got 'l1'"),
        ({"objective": lambda: Consistency(s0=1)}, r"objective.s0 must lie in \[2, s1=1280\], got 1"),
        ({"objective": lambda: Consistency(s0=20, s1=10)}, r"objective.s0 must lie in \[2, s1=10\], got 20"),
        ({"objective": lambda: Consistency(variant="ct", mu0=1.0)}, r"objective.mu0 must be in \(0, 1\), got 1.0"),
        ({"objective": lambda: Consistency(mu0=0.5)}, "objective.mu0=0.5 needs objective.variant 'ct'"),
        ({"objective": lambda: Consistency(sigma_min=80.0)}, "objective.sigma_max must be finite and > sigma_min=80.0, got 80.0"),
        ({"objective": lambda: Consistency(sigma_min=0.0)}, "objective.sigma_min must be > 0, got 0.0"),
        ({"objective": lambda: Consistency(sigma_max=float("inf"))}, "objective.sigma_max must be finite and > sigma_min=0.002, got inf"),
        ({"objective": lambda: Consistency(sigma_data=0.0)}, "objective.sigma_data must be finite and > 0, got 0.0"),
        (
            {"objective": lambda: Consistency(distance="lpips")},
            "objective.lpips_weights must be given with distance lpips: a local .*, got None",
        ),
        ({"objective": lambda: Consistency(lpips_weights="w")}, "objective.lpips_weights='w' needs objective.distance 'lpips'"),
        (CONSISTENCY | {"max_train_steps": 3} | end(3, sampler_steps=(1,)), "max_train_steps: .*"),
        ({"sampler": lambda: Sampler("multistep", levels=())}, r"sampler.levels must rise from 0 and be < 40, got \(\)"),
        ({"sampler": lambda: Sampler("multistep", levels=(5, 9))}, r"sampler.levels must rise from 0 and be < 40, got \(5, 9\)"),
        ({"sampler": lambda: Sampler("multistep", levels=(0, 9, 9))}, "sampler.levels must rise from 0 and be < 40"),
        ({"sampler": lambda: Sampler("multistep", levels=(0, 40))}, "sampler.levels must rise from 0 and be < 40"),
        ({"sampler": lambda: Sampler(levels=(0, 9))}, r"sampler.levels=\(0, 9\) needs sampler.method 'multistep'"),
        (CONSISTENCY | {"sampler": Sampler()}, "sampler.method must be multistep where objective.method is consistency, got euler"),
        (
            CONSISTENCY | end(RUN.max_train_steps, sampler_steps=(1, 3)),
            r"evaluation.sampler_steps must lie in \[1, 2\] with sampler.levels \(0, 24\), got \[1, 3\]",
        ),
        (CONSISTENCY | end(RUN.max_train_steps, sampler_steps=(0,)), r"evaluation.sampler_steps must lie in \[1, 2\] .*, got \[0\]"),
    ],
)
def test_a_run_that_cannot_be_carried_out_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(RUN, **{name: value() if callable(value) else value for name, value in changes.items()})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        DDIM,
        DDIM | {"objective": Objective("ddpm", "v_prediction", beta_schedule="squaredcos_cap_v2")},
        DDIM | {"sampler": Sampler("ddim", "linspace"), "evaluation": Evaluation((RUN.max_train_steps,), (2, 1000))},
        DDIM | {"objective": Objective("ddpm", "sample", 20), "evaluation": Evaluation((RUN.max_train_steps,), (1, 20))},
        CONSISTENCY,
        CONSISTENCY | {"objective": Consistency(variant="ct", distance="lpips", lpips_weights="w.safetensors", s0=2, s1=150)},
        {"evaluation": Evaluation((RUN.max_train_steps,), (1, 2000))},  # Euler's steps have no limit
    ],
)
def test_objectives_and_samplers_that_go_together_survive_run_json(settings):
    run = dataclasses.replace(RUN, **settings)
    assert read(Run, to_json(run)) == run


@pytest.mark.parametrize(
    ("text", "pairing"),
    [
        ("vanilla", Vanilla()),
        ("knn,k=8,scale=2", KNN(k=8, scale=2.0)),
        ("vanilla,scale=1.5", ImageScaling(1.5)),
        ("knn,k=8,score=dot", KNN(k=8, score="dot")),
        ("linear_assignment,cost=sqeuclidean", LinearAssignment("sqeuclidean")),
        ("linear_assignment,solver=auction,within=label", LinearAssignment(solver="auction", within="label")),
    ],
)
def test_a_pairing_is_read_from_text(text, pairing):
    assert parse_pairing(text) == pairing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nn,k=2", "method must be one of vanilla, knn, linear_assignment, got 'nn'; did you mean 'knn'"),
        ("knn,kk=3", "pairing 'knn,kk=3' has an unknown key 'kk'; known: k, score, scale, cost, solver, within; did you mean 'k'"),
        ("knn,k=x", "pairing 'knn,k=x': k must be int, got 'x'"),
        ("knn,k", "k must be int, got ''"),
        ("knn", "pairing 'knn' needs k, for example knn,k=4"),
        ("knn,k=4,k=8", "sets k twice"),
        ("knn,k=0", "k must be an integer ≥ 1, got 0"),
        ("knn,k=4,scale=nan", "scale must be finite and > 0"),
        ("linear_assignment,cost=euclidean", "cost must be one of l2, sqeuclidean, got 'euclidean'; did you mean 'sqeuclidean'"),
        ("vanilla,k=4", "k=4 needs method 'knn'"),
        ("knn,k=4,cost=sqeuclidean", "cost='sqeuclidean' needs method 'linear_assignment', got 'knn'"),
        ("", "method must be one of"),
    ],
)
def test_a_pairing_that_does_not_exist_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_pairing(text)


@pytest.mark.parametrize(
    ("pairings", "seeds", "words"),
    [
        ((KNN(k=4),), 1, "pairings must include vanilla"),
        ((Vanilla(), KNN(k=4), KNN(k=4)), 1, "pairings must differ, got vanilla, KNN k=4, KNN k=4"),
        ((Vanilla(),), 0, "seeds must be ≥ 1, got 0"),
    ],
)
def test_a_plan_that_compares_nothing_is_refused(pairings, seeds, words):
    with pytest.raises(ValueError, match=words):
        recipes.plan(RUN, pairings, seeds)


def test_a_run_on_a_directory_survives_run_json():
    """With settings that are None and settings that are not."""
    for settings in (
        Directory(train_data_dir="images"),
        Directory(train_data_dir="images", resolution=8, channels=3, held_out_split="test"),
    ):
        run = dataclasses.replace(RUN, data=settings)
        assert read(Run, to_json(run)) == run
