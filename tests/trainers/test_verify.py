"""A run's folder is verified: what is whole is called so, and every change of a bit is found and named."""

import json
import shutil
from dataclasses import replace

import formats
import pytest
import torch
from power_cut import QUICK
from rich.console import Console

from immref import KNN
from immref_trainers import checkpoint, environment, strict_json
from immref_trainers.data import training
from immref_trainers.data.settings import Directory
from immref_trainers.errors import TrainingError, UsageError
from immref_trainers.loop import Trainer
from immref_trainers.steplog import StepLog
from immref_trainers.verify import Settings, findings, verify

SAVED = (4, 6, 12)


def written(run, images, accelerator, folder, saved=SAVED):
    """A run's folder with these checkpoints."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(strict_json.to_json(run), encoding="utf-8")
    (folder / "environment.json").write_text(strict_json.to_json(environment.describe(accelerator)), encoding="utf-8")
    trainer = Trainer(run, images, accelerator)
    with StepLog(folder, 0) as log:
        for step in trainer.steps():
            log.append(step, None)
            if step.step in saved:
                checkpoint.save(folder, step.step, *trainer.state(), disk=QUICK)
    return folder


@pytest.fixture(scope="module")
def whole(tiny, images, accelerator, tmp_path_factory):
    return written(replace(tiny, pairing=KNN(k=4)), images, accelerator, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def found(folder, **settings):
    """What is good by subject, and what is not."""
    seen = list(findings(folder, Settings(**settings)))
    assert len({one.subject for one in seen}) == len(seen) or settings  # a checkpoint reached has two
    return {one.subject: one.said for one in seen if one.good}, {one.subject: one.said for one in seen if not one.good}


def changed(folder, number, column, value):
    """Rewrite one number of the log."""
    file = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    lines[number - 1][column] = value(lines[number - 1][column])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def resaved(folder, step, change):
    """A checkpoint with other contents and hashes that fit them."""
    saved = checkpoint.load(folder / f"checkpoint-{step}")
    shutil.rmtree(folder / f"checkpoint-{step}")
    change(saved)
    checkpoint.save(folder, step, saved.tensors, saved.records, disk=QUICK)


def test_a_run_as_it_was_is_replayed_from_the_newest_checkpoint_that_steps_follow(folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    good, bad = found(folder)
    assert good == {
        **{f"checkpoint-{step}": "as it was saved" for step in SAVED},
        "metrics.jsonl": "12 steps",
        "replayed": "from checkpoint-6",
        **{f"step {step}": "as it was logged" for step in (7, 8, 9)},
    }
    assert bad == {}
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_checkpoint_on_the_way_is_reached_with_the_same_tensors(folder):
    good, bad = found(folder, start=4)
    assert (good["checkpoint-6"], bad) == ("reached with the same tensors", {})
    good, bad = found(folder, start=0, steps=20)
    assert [good[f"checkpoint-{step}"] for step in SAVED] == 3 * ["reached with the same tensors"]
    assert ("step 12" in good, bad) == (True, {})


@pytest.mark.parametrize("column", ["train/loss", "train/grad_norm", "train/lr", "pairing/before", "pairing/after", "pairing/mean_square"])
def test_one_bit_of_a_logged_number_is_found(folder, column):
    changed(folder, 8, column, lambda value: value * (1 + 2**-52))
    bad = found(folder)[1]
    assert list(bad) == ["step 8"]
    assert bad["step 8"].startswith(f"{column} was ")
    assert ";" not in bad["step 8"]


def test_times_may_differ(folder):
    changed(folder, 8, "train/step_ms", lambda value: value + 1)
    assert found(folder)[1] == {}


@pytest.mark.parametrize(
    ("group", "name"), [("network", "conv_in.bias"), ("average", "conv_in.bias"), ("optimizer", "conv_in.bias.exp_avg")]
)
def test_one_bit_of_a_checkpoint_that_was_saved_anew_is_found(folder, group, name):
    def flip(saved):
        saved.tensors[group][name].view(torch.int32)[0] ^= 1

    resaved(folder, 6, flip)
    assert found(folder, start=4)[1] == {"checkpoint-6": f"reached with 1 other tensors, {group}.{name} the first"}


def test_a_checkpoint_from_which_the_logged_steps_do_not_follow_is_found(folder):
    resaved(folder, 6, lambda saved: saved.tensors["network"]["conv_in.weight"].add_(0.01))
    good, bad = found(folder)
    assert list(bad) == ["step 7", "step 8", "step 9"]
    assert good["checkpoint-6"] == "as it was saved"


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_replayed(folder):
    file = folder / "checkpoint-6" / "network.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    good, bad = found(folder)
    assert list(bad) == ["checkpoint-6"]
    assert "network.safetensors is not as manifest.json says" in bad["checkpoint-6"]
    assert good["replayed"] == "from checkpoint-4"
    assert found(folder, start=6)[0]["not replayed"] == "checkpoint-6 is damaged"


def test_where_only_the_last_step_was_saved_the_beginning_is_replayed(folder):
    for step in (4, 6):
        shutil.rmtree(folder / f"checkpoint-{step}")
    good, bad = found(folder)
    assert (good["replayed"], good["step 1"], bad) == ("from the beginning", "as it was logged", {})
    assert found(folder, start=12)[0]["not replayed"] == "no step was logged after step 12"


def test_a_run_of_another_number_of_processes_is_refused_even_from_the_beginning(folder):
    resaved(folder, 12, lambda saved: saved.records["trainer"].update(processes=2))
    with pytest.raises(TrainingError, match="checkpoint-12 was saved by 2 processes and cannot go on in 1"):
        found(folder, start=0)


def test_a_log_that_is_damaged_short_or_torn(folder):
    file = folder / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:9]) + b"\xff\x00\n" + b"".join(lines[10:]))
    good, bad = found(folder)
    assert bad == {"metrics.jsonl": f"{file} is damaged in line 10"}
    assert "step 9" in good
    file.write_bytes(b"".join(lines)[:-3])
    assert found(folder)[1] == {"metrics.jsonl": "11 steps, fewer than those of checkpoint-12"}
    shutil.rmtree(folder / "checkpoint-12")
    assert found(folder)[1] == {}
    file.unlink()
    good, bad = found(folder)
    assert bad == {"metrics.jsonl": "0 steps, fewer than those of checkpoint-6"}
    assert good["not replayed"] == "no step was logged after step 0"


def test_another_device_or_version_is_told_and_another_reason_for_the_backend_is_not(folder):
    file = folder / "environment.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    now = record["versions"]["torch"]
    record["versions"]["torch"], record["device"] = "2.0.0", "cuda:0"
    record["backend"] = record["backend"].partition(":")[0] + ": asked for"
    file.write_text(json.dumps(record), encoding="utf-8")
    good, bad = found(folder)
    told = {"device": "was cuda:0, is cpu: bits may differ", "versions.torch": f"was 2.0.0, is {now}: bits may differ"}
    assert {name: said for name, said in good.items() if "may differ" in said} == told
    assert bad == {}


def test_the_verdict_and_its_line(folder, capsys):
    assert verify(folder, Settings(steps=1), Console(width=80)) is True
    assert capsys.readouterr().out.splitlines()[-2:] == ["step 7            as it was logged", "everything is as it was"]
    changed(folder, 7, "train/loss", lambda value: value + 1)
    assert verify(folder, Settings(steps=1), Console(width=80)) is False
    assert capsys.readouterr().out.splitlines()[-1] == "something differs"


def test_what_is_no_run_or_cannot_be_read_is_refused(folder, tmp_path):
    with pytest.raises(UsageError, match=r"is not the folder of a run: it lacks run\.json, environment\.json; it holds the runs run$"):
        found(tmp_path)
    with pytest.raises(UsageError, match=r"start must be 0 or the steps of a checkpoint, got 5; .* holds 4, 6, 12"):
        found(folder, start=5)
    with pytest.raises(ValueError, match="steps must be ≥ 1, got 0"):
        Settings(steps=0)
    with pytest.raises(ValueError, match="start must be ≥ 0, got -1"):
        Settings(start=-1)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(record | {"sead": 1}), encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be read: run has an unknown key 'sead'"):
        found(folder)


def test_another_run_s_record_is_refused(folder):
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(record | {"seed": 5}), encoding="utf-8")
    with pytest.raises(TrainingError, match="checkpoint-6 is of another run: seed was 0 and is now 5"):
        found(folder)


def test_images_that_have_gone_or_changed_are_told_before_anything_is_replayed(tiny, accelerator, tmp_path):
    place = formats.table(tmp_path / "images")
    run = replace(tiny, data=Directory(train_data_dir=str(place), held_out=3), train_batch_size=4)
    folder = written(run, training.open_images(run.data, run.seed), accelerator, tmp_path / "run")
    assert not found(folder)[1]
    formats.table(place, pixels=formats.PIXELS[::-1])
    assert "loss" in found(folder)[1]["step 7"]
    shutil.rmtree(place)
    with pytest.raises(UsageError, match=rf"{place}"):
        found(folder)


def test_a_device_that_is_none_is_refused(folder, monkeypatch):
    monkeypatch.setenv("IMMREF_DEVICE", "gpu")
    with pytest.raises(UsageError, match=r"device must be one of cpu, cuda, mps, .* got 'gpu'"):
        found(folder)
