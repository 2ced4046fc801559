"""Crash-safe checkpoints: every state that a power cut can leave, every operation that can fail, every file that can rot."""

import errno
import itertools
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from power_cut import NEW, QUICK, contents, crashes, fault, filled, laid_out, quick, recorded, state

from immref_trainers import checkpoint
from immref_trainers.checkpoint import DISK, Found, find, load, save, verified
from immref_trainers.errors import TrainingError, UsageError

FILES = ("network.safetensors", "progress.json", "manifest.json")


@pytest.mark.parametrize(("before", "keep"), [((), None), ((2,), 1), ((1, 2), 2), ((2, 4), 1)])
def test_a_power_cut_at_any_moment_leaves_the_old_checkpoint_or_the_new_one(tmp_path, before, keep):
    """And nothing that must be skipped; the next save then works and cleans up."""
    start, log, written = recorded(filled(tmp_path / "run", *before), keep)
    newest = max(before, default=0)
    everything = set(crashes(start, log))
    assert len(everything) > 20
    for number, (returned, left) in enumerate(everything):
        run = laid_out(left, tmp_path / str(number))
        assert fault(run, written, newest, returned and newest < NEW) == ""
        save(run, 5, *state(5), 1, QUICK)
        assert QUICK.names(run) == ["checkpoint-5"]


def test_a_damaged_checkpoint_is_replaced_and_a_power_cut_meanwhile_leaves_the_one_before(tmp_path):
    run = filled(tmp_path / "run", 2, NEW)
    flip(run / "checkpoint-3" / FILES[0])
    shutil.copytree(run / "checkpoint-2", run / ".checkpoint-9.partial")
    start, log, written = recorded(run)
    for number, (returned, left) in enumerate(set(crashes(start, log))):
        assert fault(laid_out(left, tmp_path / str(number)), written, 2, returned, skips=not returned) == ""


def moved(operation):
    """The same on `checkpoint-3` instead of its temporary folder."""
    kind, parts, *more = operation
    return kind, tuple(part.replace(".checkpoint-3.partial", "checkpoint-3") for part in parts), *more


# Wrong orders, made of the right one: make, write three files, sync, rename, sync the parent, remove checkpoint-2.
# "Manifest first" alone is harmless as long as the folder is synced before it is renamed.
WRONG = {
    "files are not synced": lambda log: [("unsynced", *one[1:]) if one[0] == "write" else one for one in log],
    "the folder is not synced": lambda log: log[:4] + log[5:],
    "the parent is not synced": lambda log: log[:6] + log[7:],
    "renamed before the folder is synced": lambda log: [*log[:4], log[5], moved(log[4]), *log[6:]],
    "the old one is deleted first": lambda log: [log[7], *log[:7]],
    "the old one is deleted before the new name is synced": lambda log: [*log[:6], log[7], log[6]],
    "no temporary folder": lambda log: [moved(one) for one in log if one[0] != "rename"],
    "manifest first, and renamed with it": lambda log: [log[0], *log[3:7], *(moved(log[number]) for number in (1, 2, 4)), log[7]],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_save_in_a_wrong_order_is_found_out(tmp_path, wrong):
    start, log, written = recorded(filled(tmp_path / "run", 2), 1)
    assert [one[0] for one in log] == ["make", "write", "write", "write", "sync", "rename", "sync", "remove"]
    everything = set(crashes(start, WRONG[wrong](log)))
    assert any(fault(laid_out(left, tmp_path / str(n)), written, 2, returned) for n, (returned, left) in enumerate(everything))


@pytest.mark.parametrize("hashed", [True, False])
def test_on_a_disk_that_only_pretends_to_sync_the_hashes_still_keep_garbage_out(tmp_path, monkeypatch, hashed):
    if not hashed:
        monkeypatch.setattr(checkpoint, "_entry", lambda data: {"sha256": "", "size": len(data)})
    start, log, written = recorded(filled(tmp_path / "run", 2))
    lies = [("unsynced", *one[1:]) if one[0] == "write" else one for one in log if one[0] != "sync"]
    everything = {left for _, left in crashes(start, lies)}
    faults = {fault(laid_out(left, tmp_path / str(n)), written, 2, True, skips=True, sure=False) for n, left in enumerate(everything)}
    assert faults == ({""} if hashed else {"", "garbage"})


def test_the_real_disk_is_waited_for_once_all_is_written(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append((os.fstat(handle).st_ino, os.fstat(handle).st_size)))
    DISK.write(tmp_path / "file", b"x" * 100)
    DISK.sync(tmp_path)
    assert synced == [((tmp_path / "file").stat().st_ino, 100), (tmp_path.stat().st_ino, tmp_path.stat().st_size)]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_cannot_sync_a_folder_is_taken_as_it_is_and_one_that_fails_is_not(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(number, os.strerror(number))))
    with nullcontext() if number == errno.EINVAL else pytest.raises(OSError, match=os.strerror(number)):
        DISK.sync(tmp_path)
    with pytest.raises(OSError, match=os.strerror(number)):
        DISK.write(tmp_path / "file", b"x")


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_an_operation_that_fails_leaves_a_checkpoint_and_a_sentence_that_names_disk_and_folder(tmp_path, monkeypatch, number, forever):
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    count, at = itertools.count(), 0

    def fail(kind, path, data=b""):
        here = next(count)
        if here == at and kind == "write":
            path.write_bytes(data[: len(data) // 2])
        if here == at and kind == "remove":
            next(path.iterdir()).unlink()
        if here == at or (forever and here > at):
            raise OSError(number, os.strerror(number))

    for at in range(11):  # list, remove a leftover, make, write three files, sync, rename, sync, remove two
        run, count = filled(tmp_path / str(at), 1, 2), itertools.count()
        shutil.copytree(run / "checkpoint-2", run / ".checkpoint-9.partial")
        before = contents(run / "checkpoint-2")
        with pytest.raises(TrainingError) as failed:
            save(run, NEW, *state(NEW), 1, quick(fail))
        message = f"saving checkpoint-3 in {run}, on the disk mounted at {tmp_path}, failed: {os.strerror(number)}"
        assert str(failed.value).startswith(message)
        assert fault(run, {2: before, NEW: contents(run / "checkpoint-3")}, 2, returned=at >= 8) == ""
        assert forever or not (run / ".checkpoint-3.partial").exists()
        save(run, NEW, *state(NEW), 1, QUICK)
        assert QUICK.names(run) == ["checkpoint-3"]
        assert load(run / "checkpoint-3").tensors["network"]["weight"].tolist() == [3.0, 3.0]
    at, count = 11, itertools.count()
    save(filled(tmp_path / "fine", 1, 2), NEW, *state(NEW), 1, quick(fail))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "one bit": flip,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "unreadable": lambda path: (path.unlink(), path.mkdir()),
    "another beside it": lambda path: path.with_name(f"{path.name}.bak").touch(),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_the_newest_is_named_and_the_one_before_is_used(tmp_path, name, damage):
    run = filled(tmp_path, 1, 2)
    DAMAGE[damage](run / "checkpoint-2" / name)
    found = verified(run)
    assert (found.folder, found.step, len(found.skipped)) == (run / "checkpoint-1", 1, 1)
    assert found.skipped[0].startswith("checkpoint-2 is skipped: ")
    with pytest.raises(TrainingError) as refused:
        load(run / "checkpoint-2")
    assert str(run / "checkpoint-2") in str(refused.value)
    assert name in str(refused.value)
    assert str(refused.value) in found.skipped[0]


def test_no_byte_of_the_manifest_can_change_unseen(tmp_path):
    path = filled(tmp_path, 1) / "checkpoint-1" / "manifest.json"
    good = path.read_bytes()
    for place, byte in enumerate(good):
        path.write_bytes(good[:place] + bytes([byte ^ 1 << place % 8]) + good[place + 1 :])
        with pytest.raises(TrainingError, match="checkpoint-1"):
            load(path.parent)


def test_latest_is_nothing_where_nothing_is_and_an_error_where_nothing_can_be_used(tmp_path):
    assert find(tmp_path / "missing", "latest") is None
    assert find(tmp_path, "latest") is None
    run = filled(tmp_path, 1, 12)
    assert find(run, "latest") == Found(run / "checkpoint-12", 12)
    for step in (1, 12):
        flip(run / f"checkpoint-{step}" / FILES[0])
    with pytest.raises(TrainingError, match=r"no checkpoint in .* can be used.*checkpoint-12 is skipped.*checkpoint-1 is skipped"):
        find(run, "latest")


def test_a_checkpoint_asked_for_by_name_or_path_is_that_one_or_an_error(tmp_path):
    run = filled(tmp_path / "run", 1, 2)
    shutil.copytree(run / "checkpoint-1", tmp_path / "best")
    assert find(run, "checkpoint-1") == find(run, run / "checkpoint-1") == Found(run / "checkpoint-1", 1)
    assert find(run, str(tmp_path / "best")) == Found(tmp_path / "best", 1)
    with pytest.raises(UsageError, match=r"got .*run/checkpoint-7; .*run holds checkpoint-2, checkpoint-1$"):
        find(run, "checkpoint-7")
    with pytest.raises(UsageError, match="holds no checkpoint"):
        find(tmp_path, tmp_path / "other")
    (run / "checkpoint-1").rename(run / "checkpoint-8")
    with pytest.raises(TrainingError, match="says step 1"):
        find(run, "checkpoint-8")


def test_the_same_state_saved_again_changes_nothing_and_another_is_an_error(tmp_path):
    run = filled(tmp_path, 1, 2)
    before = contents(run)
    tensors, _ = state(2)
    assert save(run, 2, tensors, {"progress": {"seconds": 1.5}}, disk=QUICK) == run / "checkpoint-2"
    assert contents(run) == before
    with pytest.raises(TrainingError, match=r"checkpoint-2 holds other tensors .* after 2 steps"):
        save(run, 2, *state(7), 1, QUICK)
    assert contents(run) == before
    assert set(QUICK.names(run)) == {"checkpoint-1", "checkpoint-2"}


@pytest.mark.parametrize(("keep", "left"), [(None, {1, 2, 5, 9, 10}), (1, {5, 9, 10}), (2, {2, 5, 9, 10}), (4, {1, 2, 5, 9, 10})])
def test_the_newest_stay_counted_as_numbers_and_newer_ones_are_left_alone(tmp_path, keep, left):
    run = filled(tmp_path, 1, 2, 9, 10)
    save(run, 5, *state(5), keep, QUICK)
    assert set(checkpoint.checkpoints(run)) == left


def test_what_is_not_ours_is_not_touched_and_loading_removes_nothing(tmp_path):
    others = [".checkpoint-x.partial", ".checkpoint-01.partial", ".checkpoint-1.partial.bak", "checkpoint-01", "checkpoint-1b", "unet"]
    run = filled(tmp_path, 1)
    for name in (*others, ".checkpoint-7.partial"):
        (run / name).mkdir()
    assert load(verified(run).folder).step == 1
    assert (run / ".checkpoint-7.partial").exists()
    save(run, 2, *state(2), 1, QUICK)
    assert set(QUICK.names(run)) == {"checkpoint-2", *others}


@pytest.mark.parametrize("umask", [0o022, 0o007])
def test_files_are_as_open_to_others_as_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = save(tmp_path, 1, *state(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~umask
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666 & ~umask}


@pytest.mark.parametrize(
    ("wrong", "sentence"), [({"step": -1}, "step must be an integer ≥ 0"), ({"keep": 0}, "keep must be an integer ≥ 1")]
)
def test_a_step_or_a_number_to_keep_that_makes_no_sense_is_refused(tmp_path, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        save(**({"run_folder": tmp_path, "step": 1, "tensors": {}, "records": {}} | wrong))


@pytest.mark.parametrize("record", [(1, 2), {1: "one"}, {"a": [(1,)]}, float("nan"), torch.ones(1)])
def test_a_record_that_json_would_change_is_refused_before_anything_is_written(tmp_path, record):
    with pytest.raises((TypeError, ValueError), match="JSON"):
        save(tmp_path, 1, {}, {"progress": record})
    assert QUICK.names(tmp_path) == []


def bits(tensors):
    """Everything that tells one tensor from another."""
    return {name: (one.dtype, one.shape, one.contiguous().flatten().view(torch.uint8).tolist()) for name, one in tensors.items()}


def test_tensors_come_back_bit_for_bit(tmp_path):
    base = torch.randn(6, 4)
    group = {str(dtype): base.mul(9).to(dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64)}
    group |= {"bool": base > 0, "generator": torch.Generator().get_state(), "0-d": torch.tensor(2.5), "step": torch.tensor(7)}
    group |= {"empty": torch.empty(0, 3), "empty too": torch.empty(0), "parameter": torch.nn.Parameter(base[0].clone())}
    group |= {"odd": torch.tensor([float("nan"), -0.0, float("inf"), 1e-45, -float("nan")])}
    group |= {"transposed": base.T, "every other": base[::2, 1:], "expanded": base[:1].expand(5, 4)}
    group |= {"whole": base, "tied": base, "view": base[2:]}
    records = {"progress": {"loss": [0.1, 1e300, 5e-324], "step": 2**70, "word": "é ≥ 1", "none": None, "yes": True}}
    loaded = load(save(tmp_path, 2**40, {"network": group, "optimizer": {}}, records))
    assert (loaded.step, loaded.records) == (2**40, records)
    assert {name: bits(tensors) for name, tensors in loaded.tensors.items()} == {"network": bits(group), "optimizer": {}}


# One process, which forks a child per line it reads; a child resumes and saves until it is killed.
CHILD = """
import os, sys, torch
from pathlib import Path
from immref_trainers.checkpoint import find, save
run, log = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for line in sys.stdin:
    child = os.fork()
    if not child:
        found = find(run, "latest")
        step = found.step if found else 0
        while True:
            step += 1
            os.write(log, f"saving {step}\\n".encode())
            save(run, step, {"network": {"weight": torch.full((1 << 17,), float(step))}}, {"progress": {"steps": step}}, keep=2)
            os.write(log, f"saved {step}\\n".encode())
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def test_a_process_killed_while_it_saves_leaves_a_step_that_it_had_announced(tmp_path):
    run, log, halves, delays = filled(tmp_path / "run"), tmp_path / "log", 0, random.Random(0)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen([sys.executable, "-c", CHILD, run, log], **pipes) as parent:
        for _ in range(10):
            parent.stdin.write("again\n")
            child = int(parent.stdout.readline())
            time.sleep(delays.uniform(0.02, 0.12))
            os.kill(child, signal.SIGKILL)
            assert parent.stdout.readline() == "dead\n"
            word, step = ["saved 0", *(log.read_text().splitlines() if log.exists() else [])][-1].split()
            found = verified(run) or Found(run, 0)
            halves += any(name.endswith(".partial") for name in QUICK.names(run))
            assert found.step in ({int(step) - 1, int(step)} if word == "saving" else {int(step)})
            assert not found.skipped
            assert not found.step or load(found.folder).tensors["network"]["weight"].unique().tolist() == [found.step]
        parent.stdin.close()
    assert parent.returncode == 0
    assert int(step) > 10
    assert halves > 0
