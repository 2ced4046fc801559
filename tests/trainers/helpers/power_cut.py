"""Saves on a disk that the tests can watch, fail and cut from power, and all that a power cut can leave."""

import itertools
import os
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch

from immref_trainers import checkpoint
from immref_trainers.checkpoint import DISK, save, verified
from immref_trainers.errors import TrainingError

NEW = 3


def state(step):
    """What a run is after `step` steps."""
    return {"network": {"weight": torch.full((2,), float(step))}}, {"progress": {"steps": step, "loss": [1 / (step + 3)]}}


def quick(hook=lambda *operation: None):
    """A disk that does not wait, which is modelled and tested by itself; `hook` is told of every operation first."""

    def told(kind, operation, *arguments):
        hook(kind, *arguments)
        return operation(*arguments)

    real = {"make": Path.mkdir, "write": Path.write_bytes, "rename": Path.rename, "remove": shutil.rmtree}
    real |= {"names": DISK.names, "sync": os.stat}
    return SimpleNamespace(**{kind: partial(told, kind, operation) for kind, operation in real.items()})


QUICK = quick()


def filled(run, *steps):
    """`run` with a checkpoint of each step."""
    run.mkdir(parents=True, exist_ok=True)
    for step in steps:
        save(run, step, *state(step), disk=QUICK)
    return run


def contents(folder):
    """Every file below `folder`, by its parts."""
    return {path.relative_to(folder).parts: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# A model of a disk. A folder knows the names that are sure to survive a power cut, and the changes of which any may be lost;
# a file that was not synced may come back empty, cut short, full of zeros or whole.


class Folder:
    def __init__(self, sure=()):
        self.sure, self.pending = dict(sure), []

    def now(self):
        entries = dict(self.sure)
        for change in self.pending:
            entries |= change
        return {name: node for name, node in entries.items() if node is not None}

    def at(self, parts):
        return self.now()[parts[0]].at(parts[1:]) if parts else self


def play(root, operation, finished=True):
    """Carry out one operation on the model; one that is not finished has synced nothing."""
    kind, parts, *more = operation
    if kind == "sync":
        folder = root.at(parts)
        folder.sure, folder.pending = (folder.now(), []) if finished else (folder.sure, folder.pending)
        return
    parent, name = root.at(parts[:-1]), parts[-1]
    if kind == "make":
        change = {name: Folder()}
    elif kind == "rename":
        change = {name: None, more[0].name: parent.now()[name]}
    elif kind == "remove":
        folder, change = parent.now()[name], {name: None}
        folder.pending += [{child: None} for child in folder.now()]
    else:
        (data,) = more
        change = {name: {data} if kind == "write" and finished else {b"", data[: len(data) // 2], bytes(len(data)), data}}
    parent.pending.append(change)


def states(node):
    """All that a power cut can leave of a folder, each as a set of (parts, bytes), of a folder itself None."""
    if isinstance(node, set):
        return {frozenset({((), data)}) for data in node}
    found = set()
    for survives in itertools.product((False, True), repeat=len(node.pending)):
        entries = dict(node.sure)
        for change in itertools.compress(node.pending, survives):
            entries |= change
        inside = [[{((name, *parts), data) for parts, data in one} for one in states(child)] for name, child in entries.items() if child]
        found |= {frozenset({((), None)}).union(*choice) for choice in itertools.product(*inside)}
    return found


def crashes(start, log):
    """(whether the save had returned, what is on the disk) for a power cut in each operation and after the last."""
    for count in range(len(log) + 1):
        root = Folder({name: Folder({parts[1]: {data} for parts, data in start.items() if parts[0] == name}) for name, _ in start})
        for operation in log[:count]:
            play(root, operation)
        for operation in log[count : count + 1]:
            play(root, operation, finished=False)
        for left in states(root):
            yield count == len(log), left


def laid_out(left, run):
    """A state as real files."""
    for parts, data in sorted(left, key=lambda item: len(item[0])):
        run.joinpath(*parts).mkdir(parents=True) if data is None else run.joinpath(*parts).write_bytes(data)
    return run


def fault(run, written, old, returned, skips=False, sure=True):
    """What is wrong with the newest checkpoint in `run`: '' where it is the old one or the new one, bit for bit."""
    try:
        found = verified(run)
    except TrainingError:
        return "lost"
    if found is None:
        return "lost" if old or returned else ""
    faults = {
        "garbage": contents(found.folder) != written[found.step],
        "lost": found.step < old,
        "not durable": returned and sure and found.step != NEW,
        "skips": found.skipped and not skips,
    }
    return ", ".join(filter(faults.get, faults))


def recorded(run, keep=None):
    """Save step 3: (files at the start, the operations that change the disk, files of each checkpoint that was or is whole)."""
    start, log = contents(run), []
    written = {step: contents(folder) for step, folder in checkpoint.checkpoints(run).items()}
    save(run, NEW, *state(NEW), keep, quick(lambda kind, path, *more: log.append((kind, path.relative_to(run).parts, *more))))
    return start, [one for one in log if one[0] != "names"], written | {NEW: contents(run / "checkpoint-3")}
