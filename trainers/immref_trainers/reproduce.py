"""`immref reproduce`: every figure and table of the paper, the commands that make it in small, and whether that was done.

What a CPU makes is not the paper's scale: docs/paper.md holds both side by side.
"""

import itertools
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from immref._checks import nearest_name
from immref_trainers.data.settings import require
from immref_trainers.errors import UsageError
from immref_trainers.tables import NOTHING

MADE = "made.json"
STOPPED = 130  # the exit code of a command that was interrupted


@dataclass(frozen=True)
class Item:
    """One figure or table.

    Attributes
    ----------
    shows : what it shows
    commands : arguments of `immref`, one command after the other; {runs} is the comparison before
    minutes : about how long on two cores
    """

    shows: str
    commands: tuple[str, ...]
    minutes: int


DDIM, ANALYZE, PLANE = "compare digits-ddim", "analyze {runs}", "analyze plane"
ITEMS = {
    "fig1": Item("trajectories of vanilla and immiscible diffusion", (PLANE,), 1),
    "fig2": Item("images under perturbed noise", (DDIM, ANALYZE), 10),
    "fig3": Item("what the noisy layers predict; noise clusters", (DDIM, ANALYZE), 10),
    "fig4": Item("the pairings, in the plane", (PLANE,), 1),
    "fig5-flow": Item("training efficiency, flow matching", ("compare digits-flow --seeds 3",), 20),
    "fig5-ddim": Item("training efficiency, DDIM", ("compare digits-ddim --seeds 3",), 20),
    "fig5-consistency": Item("training efficiency, consistency models", ("compare digits-consistency --seeds 3",), 70),
    "fig6": Item("Stable Diffusion, by class and by prompt", ("compare digits-sd --seeds 3",), 60),
    "fig7": Item("a roll-out of Diffusion Policy", ("compare pusht-small",), 30),
    "fig8": Item(
        "image scaling: pixel deviation .5, 1, 2", ("compare digits-ddim --pairings vanilla vanilla,scale=2 vanilla,scale=4", ANALYZE), 10
    ),
    "fig9": Item("in- and out-painted images", ("compare digits-sd", "edit {runs}"), 25),
    "fig10": Item("t-SNE of noise clusters", (DDIM, ANALYZE), 10),
    "fig11": Item("DDIM, flow matching, immiscible flow matching", (PLANE,), 1),
    "table1": Item("in- and out-painting", ("compare digits-sd --seeds 3", "edit {runs}"), 65),
    "table2": Item("Diffusion Policy on PushT", ("compare pusht-small --seeds 3",), 90),
    "table3": Item("settings of the experiments", ("recipes",), 1),
    "table4": Item("distance drop by k", ("analyze dose",), 1),
    "table4-quality": Item(
        "quality by k, flow matching", ("compare digits-flow --pairings vanilla knn,k=2 knn,k=4 knn,k=8 knn,k=16 knn,k=64",), 12
    ),
    "table5": Item("time of the pairings", ("bench",), 10),
    "kl": Item("KL to the Gaussian, Section 3.3.2", ("analyze kl",), 5),
}


@dataclass(frozen=True)
class Settings:
    """Make a figure or table of the paper in small, from nothing."""

    output_dir: Path = Path("runs/reproduce")
    """A folder for all of them, each in a folder of its name."""

    def __post_init__(self) -> None:
        require(not self.output_dir.is_file(), "output_dir", "be a folder", self.output_dir)


def show(settings: Settings, console: Console) -> None:
    """Print everything there is, with its commands."""
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("name", "shows, and its commands", "about", "made"):
        grid.add_column(column, justify="right" if column == "about" else "left")
    for name, item in ITEMS.items():
        lines = [item.shows, *(f"[dim]{escape(command)}[/]" for command in short(item))]
        grid.add_row(name, "\n".join(lines), f"{item.minutes} min", state(settings.output_dir / name))
    caption = (
        "immref reproduce NAME runs the commands one after the other, and goes on where it was stopped; results in "
        f"{settings.output_dir}. Times are those of two slow cores. What each made beside the paper's values: docs/paper.md."
    )
    console.print("\n[bold]The paper's figures and tables, in small[/]", grid, caption, sep="\n", highlight=False)


def reproduce(name: str, settings: Settings, run: Callable[[list[str]], int], console: Console) -> int:
    """Run an item's commands; the first that fails ends it with its exit code. What was made is not made again."""
    if name not in ITEMS:
        raise UsageError(
            f"reproduce needs the name of a figure or table, got {name!r}; known: {', '.join(ITEMS)}{nearest_name(name, ITEMS)}"
        )
    folder = settings.output_dir / name
    if (made := state(folder)) != NOTHING:
        console.print(f"{name} was made {made}: {folder}", highlight=False)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    for words in commands(name, settings.output_dir):
        console.print(f"[bold]immref {' '.join(words)}[/]", highlight=False)
        began = time.perf_counter()
        if code := run(words):
            return code
        if words[0] == "compare" and not (Path(words[words.index("--output-dir") + 1]) / "results.json").is_file():
            console.print(f"{name} is not done: the comparison was stopped; the same command goes on with it", highlight=False)
            return STOPPED
        done.append({"command": words, "seconds": round(time.perf_counter() - began)})
    (folder / MADE).write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "commands": done}, indent=1) + "\n", encoding="utf-8")
    console.print(f"{name}: {folder}", highlight=False)
    return 0


def commands(name: str, root: Path) -> list[list[str]]:
    """Every command with where it writes.

    A comparison lies in a folder of its own, so that figures share it and it is gone on with; other commands write
    anew beside what one that was interrupted left.
    """
    found, runs = [], root
    for command in ITEMS[name].commands:
        verb, *rest = command.format(runs=runs).split()
        if verb == "compare":
            runs = root / "runs" / re.sub(r"[^\w.]+", "-", "-".join(rest))
            found.append([verb, *rest, "--output-dir", str(runs), "--resume-from-checkpoint", "latest"])
        elif rest == ["kl"]:
            found.append([verb, *rest, "--json", str(root / name / "kl.json")])
        elif verb == "recipes":
            found.append([verb])
        else:
            found.append([verb, *rest, "--output-dir", str(unused(root / name / verb))])
    return found


def unused(folder: Path) -> Path:
    """`folder`, or the first of folder-2, folder-3, … that is not there."""
    return next(one for number in itertools.count(1) if not (one := folder if number == 1 else Path(f"{folder}-{number}")).exists())


def short(item: Item) -> list[str]:
    """The commands without where they write."""
    return [f"immref {command.format(runs='RUNS')}" for command in item.commands]


def state(folder: Path) -> str:
    """The date on which an item was made, or nothing."""
    if not (folder / MADE).is_file():
        return NOTHING
    date: str = json.loads((folder / MADE).read_text(encoding="utf-8"))["date"]
    return date
