"""What was measured of repaired images, and Table 1 of it."""

from dataclasses import dataclass

from immref import Pairing
from immref_trainers.edit.settings import Task
from immref_trainers.results import Score, written
from immref_trainers.tables import ASKED, NOTHING, Table

WORDS = {"inpaint": "In-painting: the centre is missing", "outpaint": "Out-painting: all but the centre is missing"}
DIGITS = {"fd": 2, "accuracy": 3, "fd_within_class": 2, "clip_score": 1}  # after the point
PAPER = {"inpaint": "18.35 and 17.32", "outpaint": "29.34 and 27.57"}


@dataclass(frozen=True)
class Row:
    """Repaired images of one run.

    Attributes
    ----------
    raw, composited : as they were sampled, and with the known pixels as they were
    kept : root mean square change of the known pixels in the raw image, in the values of the images
    """

    task: Task
    pairing: Pairing
    seed: int
    raw: Score
    composited: Score
    kept: float


@dataclass(frozen=True)
class Edited:
    """Everything of one `immref edit`.

    Attributes
    ----------
    originals : the images before anything was missing, which a perfect repair would give back
    emptied : the images with noise in place of what is missing, by task
    """

    runs: list[str]
    count: int
    originals: Score
    emptied: dict[Task, Score]
    rows: list[Row]


def table(edited: Edited, task: Task) -> Table:
    """Table 1's row of one task, with what the paper leaves open beside it."""
    views = {"Fréchet": "fd"} | {name: view for name, view in ASKED.items() if getattr(edited.originals, view) is not None}
    rows = [
        [name, *(cell for view in views.values() for cell in (NOTHING, written([getattr(score, view)], DIGITS[view]))), NOTHING]
        for name, score in (("original images", edited.originals), ("missing part as noise", edited.emptied[task]))
    ]
    groups: dict[Pairing, list[Row]] = {}
    for row in edited.rows:
        if row.task == task:
            groups.setdefault(row.pairing, []).append(row)
    for pairing, found in groups.items():
        kinds = [[row.raw for row in found], [row.composited for row in found]]
        cells = [written([getattr(score, view) for score in scores], DIGITS[view]) for view in views.values() for scores in kinds]
        rows.append([str(pairing), *cells, written([row.kept for row in found])])
    return Table(
        WORDS[task],
        f"{edited.count:,} held-out images, compared with the training images; raw: as sampled, composited: with the known pixels as they "
        "were. Known part: root mean square change of the known pixels in the raw image; below it, in latents, lies what the VAE itself "
        f"changes. The paper's FID on ImageNet, vanilla and KNN: {PAPER[task]}; it does not say which of the two it took.",
        ["images", *(f"{name}\n{kind}" for name in views for kind in ("raw", "composited")), "known part\nchanged by"],
        rows,
    )
