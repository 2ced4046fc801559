"""`immref reproduce`: every figure and table of the paper, the commands that make it in small, and whether that was done.

What a CPU makes is not the paper's scale: docs/paper.md holds both side by side.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from immref._checks import nearest_name
from immref_trainers import terminal
from immref_trainers.data.settings import require
from immref_trainers.errors import UsageError
from immref_trainers.tables import NOTHING, Table

MADE = "made.json"


@dataclass(frozen=True)
class Item:
    """One figure or table.

    Attributes
    ----------
    shows : what it shows
    commands : arguments of `immref`, one command after the other; {out} is the folder of the item
    minutes : about how long on two cores
    """

    shows: str
    commands: tuple[str, ...]
    minutes: int


RUNS = "--output-dir {out}/runs --resume-from-checkpoint latest"
DDIM = f"compare digits-ddim {RUNS}"
ITEMS = {
    "fig1": Item("trajectories of vanilla and immiscible diffusion", ("analyze plane --output-dir {out}/plane",), 1),
    "fig2": Item("images under perturbed noise", (DDIM, "analyze {out}/runs --output-dir {out}/analysis"), 10),
    "fig3": Item("what the noisy layers predict; noise clusters", (DDIM, "analyze {out}/runs --output-dir {out}/analysis"), 10),
    "fig4": Item("the pairings, in the plane", ("analyze plane --output-dir {out}/plane",), 1),
    "fig5-flow": Item("training efficiency, flow matching", (f"compare digits-flow --seeds 3 {RUNS}",), 20),
    "fig5-ddim": Item("training efficiency, DDIM", (f"compare digits-ddim --seeds 3 {RUNS}",), 20),
    "fig5-consistency": Item("training efficiency, consistency models", (f"compare digits-consistency --seeds 3 {RUNS}",), 70),
    "fig6": Item("Stable Diffusion, by class and by prompt", (f"compare digits-sd --seeds 3 {RUNS}",), 60),
    "fig7": Item("a roll-out of Diffusion Policy", (f"compare pusht-small {RUNS}",), 30),
    "fig8": Item(
        "image scaling: pixel deviation .5, 1, 2",
        (
            f"compare digits-ddim --pairings vanilla vanilla,scale=2 vanilla,scale=4 {RUNS}",
            "analyze {out}/runs --output-dir {out}/analysis",
        ),
        10,
    ),
    "fig9": Item("in- and out-painted images", (f"compare digits-sd {RUNS}", "edit {out}/runs --output-dir {out}/edit"), 25),
    "fig10": Item("t-SNE of noise clusters", (DDIM, "analyze {out}/runs --output-dir {out}/analysis"), 10),
    "fig11": Item("DDIM, flow matching, immiscible flow matching", ("analyze plane --output-dir {out}/plane",), 1),
    "table1": Item("in- and out-painting", (f"compare digits-sd --seeds 3 {RUNS}", "edit {out}/runs --output-dir {out}/edit"), 65),
    "table2": Item("Diffusion Policy on PushT", (f"compare pusht-small --seeds 3 {RUNS}",), 90),
    "table3": Item("settings of the experiments", ("recipes",), 1),
    "table4": Item("distance drop by k", ("analyze dose --output-dir {out}/dose",), 1),
    "table4-quality": Item(
        "quality by k, flow matching",
        (f"compare digits-flow --pairings vanilla knn,k=2 knn,k=4 knn,k=8 knn,k=16 knn,k=64 {RUNS}",),
        12,
    ),
    "table5": Item("time of the pairings", ("bench --output-dir {out}/bench",), 10),
    "kl": Item("KL to the Gaussian, Section 3.3.2", ("analyze kl --json {out}/kl.json",), 5),
}


@dataclass(frozen=True)
class Settings:
    """Make a figure or table of the paper in small, from nothing."""

    output_dir: Path = Path("runs/reproduce")
    """A folder for all of them, each in a folder of its name."""

    def __post_init__(self) -> None:
        require(not self.output_dir.is_file(), "output_dir", "be a folder", self.output_dir)


def listed(settings: Settings) -> Table:
    """Everything there is."""
    rows = [
        [
            name,
            item.shows,
            "\n".join(f"immref {command}" for command in short(item)),
            f"{item.minutes} min",
            state(settings.output_dir / name),
        ]
        for name, item in ITEMS.items()
    ]
    return Table(
        "The paper's figures and tables, in small",
        "immref reproduce NAME runs the commands one after the other, and goes on where it was stopped; results in "
        f"{settings.output_dir}. Times are those of two slow cores. What each made beside the paper's values: docs/paper.md.",
        ["name", "shows", "commands", "about", "made"],
        rows,
    )


def reproduce(name: str, settings: Settings, run: Callable[[list[str]], int], console: Console) -> int:
    """Run an item's commands; the first that fails ends it with its exit code. What was made is not made again."""
    if name not in ITEMS:
        raise UsageError(
            f"reproduce needs the name of a figure or table, got {name!r}; known: {', '.join(ITEMS)}{nearest_name(name, ITEMS)}"
        )
    folder = settings.output_dir / name
    if (folder / MADE).is_file():
        console.print(f"{name} was made {state(folder)}: {folder}", highlight=False)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    done: list[dict[str, Any]] = []
    for command in ITEMS[name].commands:
        words = command.format(out=folder).split()
        console.print(f"[bold]immref {' '.join(words)}[/]", highlight=False)
        began = time.perf_counter()
        if code := run(words):
            return code
        done.append({"command": words, "seconds": round(time.perf_counter() - began)})
    (folder / MADE).write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "commands": done}, indent=1) + "\n", encoding="utf-8")
    console.print(f"{name}: {folder}", highlight=False)
    return 0


def short(item: Item) -> list[str]:
    """The commands without what every one of them has."""
    return [command.replace(f" {RUNS}", "").partition(" --output-dir")[0].replace("{out}/runs", "RUNS") for command in item.commands]


def state(folder: Path) -> str:
    """The date on which an item was made, or nothing."""
    if not (folder / MADE).is_file():
        return NOTHING
    date: str = json.loads((folder / MADE).read_text(encoding="utf-8"))["date"]
    return date


def show(settings: Settings, console: Console) -> None:
    """Print the list."""
    terminal.show(listed(settings), console)
