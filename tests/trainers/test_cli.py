"""The command line from argument to folder: what it writes, what it refuses, and what it loads on the way."""

import base64
import json
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from console import command
from safetensors.numpy import load_file

from immref import KNN, Pairing, Vanilla, dispatch
from immref_trainers import config, exact_field
from immref_trainers.config import Run, load_run, run_name
from immref_trainers.loop import Trainer
from immref_trainers.metrics import features
from immref_trainers.samplers import priors
from immref_trainers.strict_json import read

STEPS = 20
SMALL = (
    *("--max-train-steps", STEPS, "--evaluation.at-steps", 10, STEPS, "--evaluation.num-samples", 64, "--evaluation.sampler-steps", 1, 2),
    *("--train-batch-size", 32, "--network.block-out-channels", 8, "--network.norm-num-groups", 4),
)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Judges, priors and the exact field in hundredths of their size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", 10)
        patch.setattr(priors, "MEASURED", 256)
        patch.setattr(exact_field, "POINTS", 40)
        patch.setattr(exact_field, "STEPS", (1, 2))
        patch.setattr(exact_field, "PAIRINGS", (Vanilla(), KNN(k=4)))
        patch.setattr(exact_field, "table", partial(exact_field.table, points=40))
        yield


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a comparison of two pairings under two seeds."""
    folder = tmp_path_factory.mktemp("compare") / "new" / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(dispatch.VARIABLE, "auto")
        patch.setenv(dispatch.DEVICE_VARIABLE, "cpu")
        argv = ("compare", "digits-flow", *SMALL, "--seeds", 2, "--pairings", "vanilla", "knn,k=4", "--output-dir", folder)
        assert command(patch, *argv) == 0
    return folder


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


PLAN = [(seed, pairing) for seed in (0, 1) for pairing in (Vanilla(), KNN(k=4))]


def refuse(constant):
    raise ValueError(f"{constant} is not JSON")


def strict_json(path):
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def folders_of(compared):
    return sorted(path.parent for path in compared.glob("*/run.json"))


def test_results_hold_every_number_per_pairing_and_seed(compared):
    results = strict_json(compared / "results.json")
    assert [(outcome["run"]["seed"], Pairing(**outcome["run"]["pairing"])) for outcome in results["outcomes"]] == PLAN
    for outcome in results["outcomes"]:
        controls = {"noise ×0.93", "noise ×1.08"} if outcome["run"]["pairing"]["method"] == "vanilla" else set()
        starts = {"gaussian", "moment", "matched"} | controls
        assert set(outcome["priors"]) == starts
        assert [point["step"] for point in outcome["curve"]] == [10, 20]
        for scores in [*outcome["priors"].values(), *(point["scores"] for point in outcome["curve"])]:
            assert set(scores) == {"1", "2"}
            views = [[value for value in score.values() if value is not None] for score in scores.values()]
            assert all(np.isfinite(view).all() and len(view) == 3 for view in views)
        assert outcome["dose"]["distance_drop"] < 0 or outcome["run"]["pairing"]["method"] == "vanilla"
        assert outcome["seconds"] > 0
    counts = {label: {steps: len(found) for steps, found in by_steps.items()} for label, by_steps in results["speedups"].items()}
    assert counts == {"vanilla": {"1": 2, "2": 2}, "KNN k=4": {"1": 2, "2": 2}}
    assert results["command"].startswith("immref compare digits-flow --max-train-steps 20")
    assert {"immref", "numpy", "torch", "diffusers"} <= set(results["environment"]["versions"])
    assert results["findings"]
    assert all(len(results[floor]) > 1 for floor in ("floor", "floor_exact"))


def test_the_report_is_one_page_with_its_pictures_inside(compared):
    page = (compared / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|@import|url\(", page)
    sources = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', page)
    pictures = {path.read_bytes() for path in compared.glob("*.png")}
    assert len(pictures) == 3
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert {base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources} == pictures


def test_two_seeds_give_error_bars_in_the_report(compared):
    rows = re.findall(r"<tr>.*?</tr>", (compared / "report.html").read_text(encoding="utf-8"))
    trained = [row for row in rows if row.startswith("<tr><td>KNN k=4</td>") and re.search(r"\d ± \d", row)]
    assert len(trained) >= 2  # the table of distances and the one of other views


def test_each_run_s_folder_tells_what_was_run(compared):
    runs = [load_run(folder) for folder in folders_of(compared)]
    assert sorted((run.seed, str(run.pairing)) for run in runs) == sorted((seed, str(pairing)) for seed, pairing in PLAN)
    for run, folder in zip(runs, folders_of(compared), strict=True):
        assert folder.name == run_name(run)
        assert (run.max_train_steps, run.evaluation.at_steps, run.network.block_out_channels) == (20, (10, 20), (8,))
        assert strict_json(folder / "environment.json") == strict_json(compared / "results.json")["environment"]
        assert strict_json(folder / "outcome.json") in strict_json(compared / "results.json")["outcomes"]
        assert set(load_file(folder / "prior.safetensors")) == {"mean", "directions", "std", "rest_std"}


def test_metrics_have_a_line_for_every_step(compared):
    for folder in folders_of(compared):
        lines = [json.loads(line, parse_constant=refuse) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
        assert [line["step"] for line in lines if "eval/fd@2" in line] == [10, 20]
        assert all({"train/loss", "train/grad_norm", "pairing/distance_ratio", "pairing/ms"} <= set(line) for line in lines)


def test_the_network_opens_where_immref_cannot_be_imported(compared, images, accelerator, tmp_path):
    """In diffusers alone, and with the output of the averaged weights."""
    folder = compared / "knn-k4-seed1"
    trainer = Trainer(load_run(folder), images, accelerator)
    list(trainer.steps())
    x_t, t_B = torch.from_numpy(images.held_out.x[:8]), torch.linspace(0, 1000, 8)
    with torch.no_grad():
        ours = trainer.average(x_t, t_B).sample.numpy()
    np.save(tmp_path / "x_t.npy", x_t.numpy())
    code = f"""
import sys
sys.modules.update(immref=None, immref_trainers=None)
import numpy as np, torch
from diffusers import UNet2DModel
network = UNet2DModel.from_pretrained({str(folder / "unet")!r}, local_files_only=True)
with torch.no_grad():
    out = network(torch.from_numpy(np.load("x_t.npy")), torch.linspace(0, 1000, 8)).sample
np.save("out.npy", out.numpy())
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=100)
    assert np.load(tmp_path / "out.npy") == pytest.approx(ours, abs=1e-5 * float(np.abs(ours).max()))


def test_a_folder_that_holds_a_run_is_never_written_over(compared, monkeypatch, capsys):
    def contents():
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in compared.rglob("*") if path.is_file()}

    before = contents()
    for name in ("compare", "train"):
        assert command(monkeypatch, name, "digits-flow", *SMALL, "--output-dir", compared) == 2
        assert f"output_dir must be a new or empty folder; {compared} already holds something" in capsys.readouterr().err
    assert contents() == before


def trained_on(monkeypatch, folder, *argv):
    assert command(monkeypatch, "train", "digits-flow", *SMALL, "--output-dir", folder, *argv) == 0
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors").exists()
    return strict_json(folder / "environment.json")["backend"]


@pytest.mark.parametrize(
    ("backend", "line"),
    [
        ("reference", f"reference (numpy {np.__version__}): IMMREF_BACKEND is set"),
        ("torch", f"torch (torch {torch.__version__}): IMMREF_BACKEND is set"),
        ("auto", f"torch (torch {torch.__version__}): auto, for torch arrays"),
    ],
)
def test_training_runs_on_the_backend_of_the_variable_and_says_why(monkeypatch, empty, capsys, backend, line):
    monkeypatch.setenv(dispatch.VARIABLE, backend)
    assert trained_on(monkeypatch, empty / "run", "--pairing.method", "knn", "--pairing.k", "4") == line
    assert line in capsys.readouterr().out
    assert load_run(empty / "run").pairing == KNN(k=4)


def test_the_option_wins_over_the_variable_and_is_named_as_the_reason(monkeypatch, empty):
    monkeypatch.setenv(dispatch.VARIABLE, "torch")
    line = trained_on(monkeypatch, empty / "run", "--backend", "reference")
    assert line.startswith(f"reference (numpy {np.__version__}): ")
    assert "IMMREF_BACKEND is set" not in line


REFUSED = {
    "compar digits-flow": "unknown command 'compar'; known: compare, train, .*did you mean 'compare'",
    "train digits-flwo": "unknown recipe 'digits-flwo'; known: digits-flow.*did you mean 'digits-flow'",
    "train --pairing.kk 3": r"--pairing.kk.*Perhaps you meant:.*--pairing.k INT",
    "train --pairing.k 0 --pairing.method knn": "k must be an integer ≥ 1, got 0",
    "train --pairing.method nn": "invalid choice 'nn'.*'vanilla', 'knn', 'linear_assignment'",
    "train --pairing.scale nan": "scale must be finite and > 0, got nan",
    "train --seed one": "--seed.*one",
    "train --train-batch-size 0": "train_batch_size must be ≥ 1, got 0",
    "train --max-train-steps 400": "set both, e.g. --max-train-steps 400 --evaluation.at-steps 100 200 400",
    "train --recipe other": "the recipe is named first",
    "compare --pairings nn,k=2": "method must be one of vanilla, knn, linear_assignment, got 'nn'; did you mean 'knn'",
    "compare --pairings vanilla knn,kk=3": "'knn,kk=3' has an unknown key 'kk'; known: k, score, scale, ",
    "compare --pairings vanilla knn,k=x": "'knn,k=x': k must be int, got 'x'",
    "compare --pairings vanilla knn,k=0": "k must be an integer ≥ 1, got 0",
    "compare --pairings knn,k=4": "pairings must include vanilla",
    "compare --pairings vanilla vanilla": "pairings must differ",
    "compare --pairing.method knn --pairing.k 4": "compare takes --pairings, a list; --pairing.* is for immref train",
    "compare --seeds 0": "seeds must be ≥ 1, got 0",
    "train --backend cupy": "backend 'cupy' .*(cannot be imported .*pip install 'immref\\[cupy\\]'|cannot run: there is no CUDA driver)",
    "train --backend troch": "unknown backend 'troch'; known: auto, reference, .*did you mean 'torch'",
    "train --device gpu": "device must be one of cpu, cuda, mps, or one of them with a number as in cuda:0, got 'gpu'; did you mean 'cpu'",
    "train --report-to tensorbord": "report_to must be one of .*tensorboard.*, got 'tensorbord'; did you mean 'tensorboard'",
    "train --resume-from-checkpoint latest": "output_dir must be given, the folder of the run to go on with, got None",
    "train --checkpointing-steps 0": "checkpointing_steps must be ≥ 1, got 0",
    "train cifar10-ddim": "data.train_data_dir must be given, the local directory with the images",
    "train cifar10-flow --data.train-data-dir nowhere": "pass a local directory, nowhere does not exist; names on the Hub are not",
    "train --network.block-out-channels 8 8 8 8 8": "must have fewer levels: 8×8 images cannot be halved 4 times",
    "verify": "verify needs the folder of a run: immref verify RUN",
    "sample nowhere": "nowhere is not the folder of a finished run: it lacks run.json",
    "recipes all": "recipes takes no arguments, got all",
}


@pytest.mark.parametrize(("argv", "words"), REFUSED.items(), ids=REFUSED)
def test_what_does_not_exist_is_refused_with_the_known_names(monkeypatch, empty, capsys, argv, words):
    assert command(monkeypatch, *argv.split()) == 2
    said = capsys.readouterr()
    assert re.search(words, re.sub(r"[\s│]+", " ", said.out + said.err))
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("--seed -1", "seed"),
        ("--data.held-out 1", "data.held_out must leave 2 digits on either side"),
        ("--data.pixel-std nan", "pixel_std"),
        ("--optimizer.learning-rate -1", "learning_rate"),
        ("--optimizer.learning-rate nan", "learning_rate"),
        ("--optimizer.ema-decay 2", "ema_decay"),
        ("--evaluation.num-samples 1", "num_samples"),
        ("--network.norm-num-groups 5", "norm_num_groups"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_before_anything_is_made(monkeypatch, empty, capsys, setting, words):
    assert command(monkeypatch, "train", "digits-flow", *SMALL, *setting.split()) == 2
    assert words in capsys.readouterr().err
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("source", ["option", "variable"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_refused(monkeypatch, empty, capsys, source):
    argv = ("--device", "cuda") if source == "option" else ()
    if source == "variable":
        monkeypatch.setenv(dispatch.DEVICE_VARIABLE, "cuda")
    assert command(monkeypatch, "train", "digits-flow", *SMALL, *argv) == 2
    assert "device 'cuda' cannot be used (" in capsys.readouterr().err
    assert list(empty.iterdir()) == []


def test_cupy_asked_for_by_the_variable_is_refused_with_its_reason(monkeypatch, empty, capsys):
    monkeypatch.setenv(dispatch.VARIABLE, "cupy")
    assert command(monkeypatch, "compare", "digits-flow", *SMALL) == 2
    assert re.search("backend 'cupy' (cannot be imported|.*cannot run: there is no CUDA driver)", capsys.readouterr().err)
    assert list(empty.iterdir()) == []


def test_another_run_in_the_folder_is_not_gone_on_with(compared, monkeypatch, capsys):
    folder = next(path for path in sorted(compared.iterdir()) if path.name.startswith("knn"))
    argv = ("train", "digits-flow", *SMALL, "--pairing.method", "knn", "--pairing.k", 8, "--resume-from-checkpoint", "latest")
    assert command(monkeypatch, *argv, "--output-dir", folder) == 2
    assert f"{folder} holds another run: its pairing.k is 4, and 8 is asked for" in capsys.readouterr().err


def test_a_comparison_that_is_finished_is_only_drawn_again(compared, monkeypatch, capsys):
    before = strict_json(compared / "results.json")
    argv = ("compare", "digits-flow", *SMALL, "--seeds", 2, "--pairings", "vanilla", "knn,k=4", "--output-dir", compared)
    assert command(monkeypatch, *argv, "--resume-from-checkpoint", "latest") == 0
    assert strict_json(compared / "results.json")["outcomes"] == before["outcomes"]


def test_a_folder_that_cannot_be_made_is_a_sentence(monkeypatch, empty, capsys):
    (empty / "file").touch()
    assert command(monkeypatch, "train", "digits-flow", *SMALL, "--output-dir", empty / "file" / "run") == 1
    assert "Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("every", "left"), [(1, "run/checkpoint-{before} holds the run before that"), (99, "no checkpoint was saved before")]
)
def test_a_run_that_diverges_ends_with_a_sentence_and_what_is_left(monkeypatch, empty, capsys, every, left):
    argv = ("--optimizer.learning-rate", "1e30", "--output-dir", "run", "--checkpointing-steps", every)
    assert command(monkeypatch, "train", *SMALL, *argv) == 1
    said = re.search(
        r"immref: the loss is (?:nan|inf) and its gradient (?:nan|inf) at step (\d+) with learning rate 1e\+30; (.*)",
        capsys.readouterr().err,
    )
    assert said[2] == left.format(before=int(said[1]) - 1)


@pytest.mark.parametrize("name", ["recipes", "doctor"])
def test_commands_without_settings_have_help_too(monkeypatch, capsys, name):
    assert command(monkeypatch, name, "--help") == 0
    assert f"usage: immref {name}" in capsys.readouterr().out


def test_a_dry_run_prints_run_json_and_makes_nothing(monkeypatch, empty, capsys):
    assert command(monkeypatch, "train", *SMALL, "--pairing.method", "knn", "--pairing.k", "4", "--seed", "7", "--dry-run") == 0
    run = read(Run, capsys.readouterr().out)
    assert (run.pairing, run.seed, run.max_train_steps) == (KNN(k=4), 7, STEPS)

    assert command(monkeypatch, "compare", *SMALL, "--pairings", "vanilla", "knn,k=4", "--seeds", "2", "--dry-run") == 0
    text, runs = capsys.readouterr().out, []
    while text.strip():
        record, end = json.JSONDecoder().raw_decode(text)
        runs.append(read(Run, json.dumps(record)))
        text = text[end:].lstrip()
    assert [(run.seed, run.pairing) for run in runs] == PLAN
    assert list(empty.iterdir()) == []


def test_help_recipes_and_dry_runs_import_no_torch(tmp_path):
    code = """
import sys
from immref_trainers import cli
for argv in (["--help"], ["recipes"], ["train", "--dry-run"], ["compare", "--dry-run"]):
    if cli.main(argv) != 0:
        sys.exit(f"{argv} failed")
print("heavy:", *sorted({"torch", "diffusers", "accelerate", "matplotlib", "sklearn"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
    assert ran.stdout.splitlines()[-1] == "heavy:"
    assert list(tmp_path.iterdir()) == []


def test_without_the_trainers_libraries_the_console_tells_the_pip_line(tmp_path):
    code = """
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("tyro", "torch") else find(name, *rest)
sys.argv = ["immref", "compare"]
runpy.run_module("immref", run_name="__main__")
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert ran.stderr == "immref: immref_trainers needs torch, tyro; pip install 'immref[train]'\n"


@pytest.mark.parametrize(("argv", "code"), [((), 2), (("--help",), 0), (("-h",), 0), (("help",), 0)])
def test_without_a_command_the_usage_is_shown(monkeypatch, capsys, argv, code):
    assert command(monkeypatch, *argv) == code
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in ("compare", "train", "bench", "recipes", "doctor"))


def test_a_recipe_s_help_lists_every_setting(monkeypatch, capsys):
    assert command(monkeypatch, "train", "digits-flow", "--help") == 0
    shown = capsys.readouterr().out
    groups = ("data", "network", "objective", "pairing", "optimizer", "sampler", "evaluation")
    names = [name for name in vars(config.Run(recipe="digits-flow")) if name not in groups]
    flags = [f"--{name.replace('_', '-')}" for name in (*names, "pairing.k", "backend", "device", "output-dir")]
    assert [flag for flag in flags if not re.search(rf"{re.escape(flag)}[ ,]", shown)] == []


def test_recipes_are_listed_with_their_pairings(monkeypatch, capsys):
    assert command(monkeypatch, "recipes") == 0
    assert re.search(r"digits-flow .*\n.*compared: vanilla, KNN k=4", capsys.readouterr().out)


def test_doctor_says_what_is_usable_and_why_not(monkeypatch, capsys):
    assert command(monkeypatch, "doctor") == 0
    found = capsys.readouterr().out
    for words in ("reference: usable", "torch: usable", "cupy: cannot run: ", "self-test       ok"):
        assert words in found
    assert "FAILED" not in found


def test_doctor_fails_where_the_backend_asked_for_cannot_run(monkeypatch, capsys):
    monkeypatch.setenv(dispatch.VARIABLE, "cupy")
    assert command(monkeypatch, "doctor") == 1
    assert "NumPy runs      nowhere: backend 'cupy'" in capsys.readouterr().out
