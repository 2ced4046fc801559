"""Demonstrations by the planner: made once, by all processors, and kept."""

import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from immref_trainers.errors import TrainingError
from immref_trainers.made_once import made_once
from immref_trainers.pusht import planner, replay, simulator
from immref_trainers.pusht.replay import Episodes

FIRST_SEED = 100_000  # of demonstrations; those of roll-outs lie below
AT_ONCE = 16  # episodes at most that are planned before it is asked whether there are enough


def demonstrations(count: int, near: bool, noise: float, shortest: int) -> Path:
    """The folder of `count` solved episodes of `shortest` steps or more, in the original zarr layout."""
    sources = [Path(module.__file__ or "").read_text(encoding="utf-8") for module in (planner, simulator)]
    sources.append(Path(__file__).read_text(encoding="utf-8"))
    versions = [importlib.metadata.version(name) for name in ("gym-pusht", "pymunk")]

    def make(folder: Path) -> None:
        console = Console(stderr=True)
        console.print(f"planning {count} demonstrations in the simulator, once, in {folder.parent}", highlight=False)
        with Progress(console=console, transient=True) as bars:
            task = bars.add_task("episodes", total=count)
            kept, tried = planned(count, near, noise, shortest, lambda done: bars.update(task, completed=done))
        replay.save(kept, folder)
        (folder / "planned.json").write_text(
            json.dumps({"kept": count, "tried": tried, "noise": noise, "near": near}) + "\n", encoding="utf-8"
        )
        console.print(
            f"{count} of the {tried} episodes tried are solved in {shortest} to {simulator.LIMIT} steps and kept", highlight=False
        )

    return made_once("pusht", "\n".join([*map(str, (count, near, noise, shortest)), *versions, *sources]), make)


def planned(count: int, near: bool, noise: float, shortest: int, watch: Callable[[int], None]) -> tuple[Episodes, int]:
    """The first `count` episodes by seed that are solved and long enough, and how many were tried."""
    kept, tried = [], 0
    for states, actions, coverage in tries(near, noise, min(AT_ONCE, count)):
        tried += 1
        if coverage > simulator.SUCCESS and len(actions) >= shortest:
            kept.append((states, actions))
            watch(len(kept))
        if len(kept) == count:
            break
        if tried >= 20 + 10 * count:
            raise TrainingError(f"the planner solved {len(kept)} of {tried} episodes: too few for {count} demonstrations")
    ends = np.cumsum([len(actions) for _, actions in kept])
    states, actions = (np.concatenate(part).astype(np.float32) for part in zip(*kept, strict=True))
    return Episodes(states, actions, ends), tried


def tries(near: bool, noise: float, at_once: int) -> Iterator[tuple[replay.Array, replay.Array, float]]:
    """Episodes by seed, in order, planned by as many processes as there are processors."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        seed = FIRST_SEED
        while True:
            seeds = range(seed, seed + at_once)
            yield from pool.map(planner.episode, seeds, [near] * at_once, [noise] * at_once)
            seed += at_once
