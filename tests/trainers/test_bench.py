"""`immref bench`: the contestants do what their names say, the measuring measures, and the command writes what it promises."""

import dataclasses
import json
import re
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import kstest, ncx2

from immref import LinearAssignment, Vanilla, __main__, diffusion, dispatch, theory
from immref import assignment as solvers
from immref_trainers import config, objectives
from immref_trainers.bench import assignment, batches, figure, knn, measure, run, settings, tables, targets, training_step, write
from immref_trainers.bench.results import BRUTE, CPU, EXACT, LAP, NEAR, NUMPY, OFFICIAL, OURS, PLAIN, PRODUCT, SCIPY, Record, Row
from immref_trainers.bench.settings import EQUAL, NORMAL, PHOTOS, REPEATED, Case, Plan
from immref_trainers.results import Environment

D, K = 192, 4
HALF, SINGLE = (float(np.finfo(dtype).eps) / 2 for dtype in (np.float16, np.float32))  # unit roundoffs
TINY = Plan(
    (
        *(Case("knn", batch, D, k=K) for batch in (8, 16)),
        *(Case("linear_assignment", 24, D, cost=cost, data=data) for cost in ("l2", "sqeuclidean") for data in (PHOTOS, EQUAL)),
        Case("linear_assignment", 40, D, cost="l2", data=PHOTOS),
    ),
    seconds=0.0,
    most_numbers=10 * D * K,
    most_scipy=30,
)
WHERE = Environment("cpu", "torch", 1, "3", "machine", {"immref": "0"})


def strict_json(path):
    def refuse(word):
        raise AssertionError(f"{path} holds {word}, which is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def command(monkeypatch, *argv):
    """Run `immref bench ARGV` in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["immref", "bench", *map(str, argv)])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    return ended.value.code


def test_every_knn_keeps_the_drop_that_its_arithmetic_allows():
    """A distance is off by at most 4 roundoffs of about itself in float16, so a wrong choice loses at most twice that."""
    kept = knn.drop_kept(CPU, D, K)
    expected = theory.knn(D, batches.STD**2, K)
    lost = 8 * HALF * expected.before / (expected.before - expected.after)
    assert kept[OURS] == pytest.approx(1, abs=5 * knn.PRECISION)
    assert 1 - lost <= kept[OFFICIAL] <= 1 + 1e-12
    assert 1 - D * lost * SINGLE / HALF <= kept[BRUTE] <= 1 + 1e-12
    assert knn.drop_kept(NUMPY, D, K)[OURS] == pytest.approx(1, abs=5 * knn.PRECISION)


@pytest.mark.parametrize("name", [OURS, BRUTE])
def test_the_nearest_of_k_noises_has_the_law_of_algorithm_1(name):
    """S(|n - x|²)^k of the chosen noise is uniform; with k - 1 candidates the p-value would be below 1e-12."""
    torch.manual_seed(0)
    x_BD = torch.from_numpy(batches.images(NORMAL, 8000, 64))
    noise_BD = knn.ways(x_BD, 8, 2**40, CPU)[name]()
    squared_B = (noise_BD - x_BD).square().sum(1).numpy()
    uniform_B = ncx2.sf(squared_B, 64, x_BD.square().sum(1).numpy()) ** 8
    assert kstest(uniform_B, "uniform").pvalue > 1e-6


def test_brute_force_and_the_official_form_return_noise_for_every_image():
    x_BD = torch.from_numpy(batches.images(NORMAL, 9, D))
    for way in knn.ways(x_BD, K, 2**40, CPU).values():
        noise_BD = way()
        assert noise_BD.shape == x_BD.shape
        assert noise_BD.dtype == torch.float32
        assert len(torch.unique(noise_BD, dim=0)) == len(x_BD)


def test_what_would_draw_too_much_is_left_out():
    x_BD = torch.zeros(2, D)
    assert list(knn.ways(x_BD, K, 2 * D * K, CPU)) == [PLAIN, OURS, BRUTE, OFFICIAL]
    assert list(knn.ways(x_BD, K, 2 * D * K - 1, CPU)) == [PLAIN, OURS]
    assert SCIPY not in assignment.call_ways(x_BD, x_BD, "l2", 1, "torch")
    sentences = list(run.left_out(TINY))
    assert len(sentences) == 2
    assert "batch 16" in sentences[0]
    assert "at batch 40" in sentences[1]


@pytest.fixture(params=["l2", "sqeuclidean"])
def contest(request):
    """Images, noises and what each contestant made of them: (cost, x, noise, calls, solves)."""
    x_BD = torch.from_numpy(batches.images(PHOTOS, 48, D))
    noise_BD = torch.from_numpy(np.random.default_rng(1).standard_normal((48, D), dtype=np.float32))
    arguments = (x_BD, noise_BD, request.param, 48, "torch")
    calls = measure.side_by_side(assignment.call_ways(*arguments), 0)
    return request.param, x_BD, noise_BD, calls, measure.side_by_side(assignment.solve_ways(*arguments), 0)


def test_each_assignment_contestant_returns_a_permutation(contest):
    _, _, noise_BD, calls, solves = contest
    for name, measured in calls.items():
        if name not in (PLAIN, PRODUCT):
            assert Counter(map(bytes, measured.result.numpy())) == Counter(map(bytes, noise_BD.numpy()))
    for measured in solves.values():
        order, gap = measured.result
        assert sorted(order.tolist()) == list(range(48))
        assert 0 <= gap <= 1
    assert set(solves) == set(calls) - {PLAIN, PRODUCT}


def band_of_the_drop(cost, x_BD, noise_BD, permuted_BD):
    """Share of the drop that solvers may differ by: a float32 gain is off by D roundoffs of (|x| + |n|)², for l2 over 2 |n - x|."""
    error = 4 * D * SINGLE * float(x_BD.norm(dim=1).max() + noise_BD.norm(dim=1).max()) ** 2
    before_B, after_B = ((other - x_BD).norm(dim=1) for other in (noise_BD, permuted_BD))
    if cost == "l2":
        return error / float(2 * torch.cdist(x_BD, noise_BD).min()) / float((before_B - after_B).mean())
    return error / float((before_B.square() - after_B.square()).mean())


def test_nobody_drops_more_than_the_exact_solvers_and_they_agree(contest):
    cost, x_BD, noise_BD, calls, _ = contest
    kept = assignment.drops_kept(x_BD, noise_BD, calls, cost)
    band = band_of_the_drop(cost, x_BD.double(), noise_BD.double(), calls[EXACT].result.double())
    assert kept[EXACT] == 1
    for name in kept:
        assert kept[name] <= 1 + band
    assert kept[SCIPY] == pytest.approx(1, abs=band)
    assert kept[OFFICIAL] > 0.9
    assert 0.9 < kept[NEAR] <= 1 + band


def test_the_gap_that_the_near_exact_solver_certifies_covers_what_it_lost(contest):
    cost, x_BD, noise_BD, _, solves = contest
    gain_BB = solvers.gains(x_BD, noise_BD, cost).double().numpy()
    order, gap = solves[NEAR].result
    best, mean = gain_BB[np.arange(48), solves[SCIPY].result[0]].sum(), gain_BB.mean(axis=1).sum()
    assert (best - gain_BB[np.arange(48), order].sum()) / (best - mean) <= gap / (1 - gap)


def test_without_lap_exactness_is_scipy_s_alone(monkeypatch):
    x_BD = torch.from_numpy(batches.images(PHOTOS, 8, D))
    assert (LAP in assignment.call_ways(x_BD, x_BD, "l2", 8, "torch")) == (solvers.lap_module() is not None)
    seen = []
    assignment.without_lap(lambda: seen.append(solvers.lap_module()))
    assert seen == [None]
    monkeypatch.setattr(solvers, "lap_module", lambda: None)
    assert LAP not in assignment.call_ways(x_BD, x_BD, "l2", 8, "torch")


def test_where_all_images_are_one_nothing_can_drop():
    x_BD = torch.from_numpy(batches.images(EQUAL, 8, D))
    calls = measure.side_by_side(assignment.call_ways(x_BD, torch.randn(8, D), "l2", 8, "torch"), 0)
    assert assignment.drops_kept(x_BD, torch.randn(8, D), calls, "l2") == {}


@pytest.mark.parametrize(("data", "times"), [(NORMAL, 1), (PHOTOS, 1), (REPEATED, 4), (EQUAL, 40)])
def test_images_are_what_they_are_called(data, times):
    x_BD = batches.images(data, 40, 3072)
    assert x_BD.shape == (40, 3072)
    assert x_BD.dtype == np.float32
    assert set(Counter(map(bytes, x_BD)).values()) == {times}
    assert batches.images(data, 40, 3072).tobytes() == x_BD.tobytes()


def test_a_slow_way_sits_out_and_a_quick_one_is_called_in_every_round(monkeypatch):
    monkeypatch.setattr(measure, "timed", lambda way, device: (way(), {"slow": 2.0, "quick": 0.01}[way()]))
    found = measure.side_by_side({"slow": lambda: "slow", "quick": lambda: "quick"}, seconds=1.0)
    assert (found["slow"].calls, found["quick"].calls) == (1, measure.ROUNDS)
    assert found["slow"].ms == pytest.approx(2000)
    assert found["quick"].result == "quick"


@pytest.mark.skipif(not measure.new_peak(), reason="the peak of the resident memory can only be set back on Linux")
def test_peak_memory_is_what_a_call_touches_at_once():
    size = 2**26

    def touch():
        first = np.ones(size, dtype=np.uint8)
        del first
        return np.ones(size, dtype=np.uint8)

    peak = measure.side_by_side({"touch": touch}, 0)["touch"].peak_bytes
    assert size <= peak < 1.5 * size  # two at once would be 2


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with run.threads(before + 1) as count:
        assert count == torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def row(case, place, stage, way, ms, **more):
    fields = {"times_plain": None, "times_official": None, "peak_bytes": None, "drop_kept": None, "gap": None}
    return Row(case, place, stage, way, ms, 3, **{**fields, **more})


def verdicts(*rows):
    record = Record(WHERE, None, False, rows, (), 1.0)
    return {target.goal: target.verdict for target in targets.targets(record)}


@pytest.mark.parametrize(("times", "verdict"), [((1.1, 1.5), "met"), ((1.6, 1.1), "missed")])
def test_a_target_for_every_shape_is_missed_where_one_shape_misses_it(times, verdict):
    rows = [row(Case("knn", 8 + n, D, k=8), NUMPY, "call", OURS, 1.0, times_plain=value) for n, value in enumerate(times)]
    found = verdicts(*rows)
    assert found.pop("KNN, NumPy, k 8, every shape: ≤ 1.5 × plain noise") == verdict
    assert set(found.values()) == {"not run"}


@pytest.mark.parametrize(("ms", "verdict"), [(7.9, "missed"), (8.1, "met")])
def test_a_solver_s_target_is_about_the_solver_alone(ms, verdict):
    case = Case("linear_assignment", 1024, settings.PIXELS, cost="l2", data=PHOTOS)
    calls = [row(case, CPU, "call", way, 1.0) for way in (NEAR, SCIPY)]
    solves = [row(case, CPU, "solve", NEAR, 1.0, gap=0.03), row(case, CPU, "solve", SCIPY, ms)]
    found = verdicts(*calls, *solves)
    assert found["near-exact, l2, batch 1024: ≥ 8 × SciPy"] == verdict
    assert found["near-exact, l2, every batch: certified gap ≤ 2%"] == "missed"


@pytest.mark.parametrize(("ms", "times", "verdict"), [(4.9, 1.6, "missed"), (5.1, 1.4, "met")])
def test_a_gpu_is_held_to_its_own_targets(ms, times, verdict):
    knn_case, case = Case("knn", 1024, settings.PIXELS, k=8), Case("linear_assignment", 1024, settings.PIXELS, cost="l2", data=PHOTOS)
    rows = [row(knn_case, place, "call", OURS, 1.0, times_plain=times) for place in ("torch cuda", "cupy cuda")]
    rows += [row(case, place, "call", NEAR, took) for place, took in ((CPU, ms), ("cupy cuda", 1.0))]
    found = {target.goal: target.verdict for target in targets.on_gpu(Record(WHERE, None, False, tuple(rows), (), 1.0))}
    assert found.pop("KNN, cupy cuda, 1024 × 3072, k 8: ≤ 1.5 × plain noise") == verdict
    assert found.pop("near-exact, cupy cuda, l2, batch 1024: ≥ 5 × the CPU") == verdict
    assert set(found.values()) == {"not run"}
    assert targets.on_gpu(Record(WHERE, None, False, (), (), 1.0)) == []


@pytest.mark.parametrize(("reason", "expected"), [(None, ["torch cpu", "torch cuda", "cupy cuda"]), ("no", ["torch cpu", "torch cuda"])])
def test_a_gpu_is_measured_under_every_backend_that_runs(monkeypatch, reason, expected):
    monkeypatch.setattr(dispatch, "load", lambda name: SimpleNamespace(unavailable=lambda device: reason))
    assert list(run.places("cuda")) == expected
    assert list(run.places("cpu")) == ["torch cpu"]


@pytest.fixture
def tiny_plan(monkeypatch):
    """Shapes that take a second, for either answer to --quick, which is kept."""
    asked = []
    monkeypatch.setattr(run, "plan", lambda quick: asked.append(quick) or TINY)
    return asked


@pytest.fixture
def rough(monkeypatch):
    """The drop kept, to a tenth on fewer candidates."""
    monkeypatch.setattr(knn, "PRECISION", 0.1)
    monkeypatch.setattr(knn, "SHARED", 2**16)
    knn.drop_kept.cache_clear()
    yield
    knn.drop_kept.cache_clear()


def test_the_command_writes_numbers_text_and_picture(monkeypatch, tiny_plan, rough, tmp_path, capsys):
    folder = tmp_path / "new" / "bench"
    assert command(monkeypatch, "--quick", "--threads", 1, "--output-dir", folder) == 0
    assert tiny_plan == [True]
    assert sorted(path.name for path in folder.iterdir()) == ["bench.json", "bench.png", "bench.txt"]
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")

    record = strict_json(folder / "bench.json")
    assert record["quick"] is True
    assert record["environment"]["threads"] == 1
    assert len(record["left_out"]) == 2
    places = {row["place"] for row in record["rows"]}
    assert places == {NUMPY, CPU}
    assert all(row["ms"] > 0 and row["calls"] >= 1 for row in record["rows"])
    assert all((row["case"]["k"] is None) != (row["case"]["cost"] is None) for row in record["rows"])
    assert {target["verdict"] for target in record["targets"]} <= {"met", "missed", "not run"}

    printed, written = capsys.readouterr().out, (folder / "bench.txt").read_text(encoding="utf-8")
    assert max(map(len, written.splitlines())) <= write.WIDTH
    assert written.partition("\n\n")[2].rstrip() in printed
    for words in ("machine ", "backend  torch", "Table 5 of the paper", "Targets on a CPU", "Left out", "paper, A5000: KNN"):
        assert words in written
        assert words in printed or words == "Left out"


def test_nothing_is_written_where_no_folder_is_named(monkeypatch, tiny_plan, rough, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch) == 0
    assert tiny_plan == [False]
    assert list(tmp_path.iterdir()) == []


def test_quick_stops_at_512_and_the_default_reaches_4096():
    for quick, largest in ((True, 512), (False, 4096)):
        planned = settings.plan(quick)
        for method in ("knn", "linear_assignment"):
            assert max(case.batch for case in planned.cases if case.method == method) == largest
        assert len(set(planned.cases)) == len(planned.cases)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--threads 0", "threads must be an integer ≥ 1, got 0"),
        ("--threads two", "--threads.*two"),
        ("--quik", "--quik"),
        ("--output-dir full", "output_dir must be a new or empty folder; full already holds something"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_measured(monkeypatch, tiny_plan, tmp_path, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert command(monkeypatch, *argv.split()) == 2
    said = capsys.readouterr()
    assert re.search(words, re.sub(r"[\s│]+", " ", said.out + said.err))
    assert tiny_plan == []


def test_a_device_that_is_unknown_is_refused(monkeypatch, tiny_plan, capsys):
    monkeypatch.setenv(dispatch.DEVICE_VARIABLE, "gpu")
    assert command(monkeypatch) == 2
    assert "device must be one of cpu, cuda, mps" in capsys.readouterr().err
    assert tiny_plan == []


def test_settings_are_read_without_torch():
    code = "import sys, immref_trainers.bench.settings; print(sorted({'torch', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "[]\n"


def test_the_paper_s_numbers_are_drawn_and_told():
    assert [round(a / b, 1) for a, b in zip(tables.PAPER_ASSIGNMENT, tables.PAPER_KNN, strict=True)] == [27.0, 33.5, 29.3, 32.6]
    assert figure.PAPER_BATCHES == tables.PAPER_BATCHES == (128, 256, 512, 1024)


@pytest.mark.parametrize("prediction", ["velocity", "epsilon", "v_prediction", "sample"])
def test_the_bare_loop_learns_what_the_trainer_does(prediction):
    """Its x_t lies on the objective's path at its times, and its target is the objective's."""
    settings = config.Objective("flow" if prediction == "velocity" else "ddpm", prediction)
    x, noise = torch.randn(2, 64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    run = config.Run("digits-flow", objective=settings, sampler=config.Sampler(config.SAMPLERS[settings.method][0]))
    made = training_step.flow(x, noise) if prediction == "velocity" else training_step.ddpm(run, x.device)(x, noise)
    x_t, t, wanted = made
    objective = objectives.build(settings, x)
    a, b = objective.coefficients(t / objective.time_units if prediction == "velocity" else t)
    torch.testing.assert_close(x_t, diffusion.corrupt(x, noise, a, b), rtol=0, atol=1e-5)
    torch.testing.assert_close(wanted, diffusion.target(prediction, x, noise, a, b), rtol=0, atol=1e-5)


def test_a_recipes_steps_are_timed_beside_the_bare_loop(tiny, images, accelerator, tmp_path):
    said = Console(record=True, width=120)
    pairings = (Vanilla(), LinearAssignment())
    rows = training_step.bench(tiny, pairings, images, accelerator, 1e-9, tmp_path / "out", said)
    assert [row.way for row in rows] == [training_step.BARE, "vanilla", "linear assignment", "KNN k=128"]
    assert (rows[0].against_bare, rows[0].pairing_share) == (1, None)
    assert all(0 < row.pairing_share < 1 and row.steps == measure.ENOUGH for row in rows[1:])
    assert all(row.against_bare == pytest.approx(rows[0].ms / row.ms) for row in rows)
    assert all(row.way in said.export_text(clear=False) for row in rows)
    written = strict_json(tmp_path / "out" / "steps.json")
    assert written["steps"] == [dataclasses.asdict(row) for row in rows]
    assert written["run"]["recipe"] == tiny.recipe


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("digits-consistency",), "objective.method must be flow or ddpm to be timed beside a bare loop, got consistency"),
        (("digits-flow", "--mixed-precision", "fp16"), "mixed_precision must be no or bf16 to be timed beside a bare loop"),
    ],
)
def test_what_no_bare_loop_is_written_for_is_refused(monkeypatch, capsys, argv, words):
    assert command(monkeypatch, *argv) == 2
    assert words in " ".join(capsys.readouterr().err.split())
