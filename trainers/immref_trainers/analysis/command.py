"""`immref analyze RUN…`: every analysis that applies, its pictures as files, and one page."""

import time
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import torch
from rich.console import Console

from immref_trainers import environment, exact_field, figures, terminal
from immref_trainers.analysis import clusters, field, layers, learning, page, perturbation, subjects
from immref_trainers.analysis.parts import Part
from immref_trainers.analysis.settings import Settings
from immref_trainers.analysis.subjects import Shared
from immref_trainers.finished import runs_in
from immref_trainers.progress import duration

Analysis = Callable[[Shared], Part]


def analyze(given: list[Path], settings: Settings, device: torch.device, console: Console) -> Path:
    """Analyse finished runs side by side; return the folder of pictures, numbers and `report.html`, which grows part by part.

    Raises
    ------
    UsageError
        Where the folders hold no finished runs, or none that can be set side by side.
    FileExistsError
        Where the output folder already holds something.
    """
    folders, stamp = runs_in(given), time.strftime("%Y%m%d-%H%M%S")
    output = subjects.new_output(settings, given[0], stamp)
    with console.status("reading the images and fitting the networks by which they are judged"):
        shared = subjects.opened(folders, settings, device)
    environment.new_folder(output)
    todo = applicable(shared)
    shown: list[tuple[Part, dict[str, Path]]] = []
    began = time.perf_counter()
    for number, (name, analysis) in enumerate(todo.items()):
        left = "" if not number else f", about {duration((time.perf_counter() - began) / number * (len(todo) - number))} left"
        with console.status(f"{name} ({number + 1} of {len(todo)}{left})"), mpl.rc_context(figures.STYLE):
            part = analysis(shared)
            shown.append((part, {picture.caption: picture.save(output) for picture in part.pictures}))
        page.write(shown, shared, [str(folder) for folder in folders], output)
        console.print(f"\n[bold]{part.title}[/]", *(f"· {sentence}" for sentence in part.findings), sep="\n", highlight=False)
        for table in part.tables:
            terminal.show(table, console)
    console.print(f"\npictures, their numbers and the report: {output} ({duration(time.perf_counter() - began)})", highlight=False)
    return output


def applicable(shared: Shared) -> dict[str, Analysis]:
    """The analyses that these runs allow, by what the progress calls them."""
    found: dict[str, Analysis] = {"perturbed noise": perturbation.part}
    if shared.regressions:
        found |= {"what the noisy layers know": learning.part, "predicted images by layer": layers.part}
    found["noise clusters"] = clusters.part
    first = shared.subjects[0].run
    if shared.regressions and not first.network.class_conditional and exact_field.fits(shared.images, first):
        found["the exact field"] = field.part
    return found
