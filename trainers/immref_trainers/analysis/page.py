"""`report.html` of an analysis: one self-contained page."""

from dataclasses import asdict
from html import escape
from importlib.metadata import version
from pathlib import Path

from immref_trainers import report
from immref_trainers.analysis.parts import Part
from immref_trainers.analysis.subjects import Shared
from immref_trainers.environment import PACKAGES


def write(shown: list[tuple[Part, dict[str, Path]]], shared: Shared, folders: list[str], folder: Path) -> None:
    """Write the page of the parts that are done; each with its pictures by caption."""
    (folder / "report.html").write_text(page(shown, shared, folders), encoding="utf-8")


def page(shown: list[tuple[Part, dict[str, Path]]], shared: Shared, folders: list[str]) -> str:
    """The page's text."""
    recipe = shared.subjects[0].run.recipe
    title = f"Why a pairing helps, or not: {recipe}"
    parts = []
    for part, pictures in shown:
        parts += [f"<h2>{escape(part.title)}</h2><ul>", *(f"<li>{escape(sentence)}</li>" for sentence in part.findings), "</ul>"]
        parts += [report.figure(path, caption) for caption, path in pictures.items()]
        parts += [report.grid(table, "h3") for table in part.tables]
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{report.CSS}</style>',
            f"<h1>{escape(title)}</h1>",
            '<p class="lead">Finished runs looked at step by step, as the paper does: the noise that a pairing gives to an image, what the '
            "network predicts at each layer on the way from noise to image, and what a perfect network would. Lower Fréchet distance "
            f"means images closer to the data ({escape(shared.judge.name)}; {escape(shared.judge.quality)}). The numbers of every "
            "picture lie beside this page as CSV, the pictures as PNG and SVG.</p>",
            *parts,
            "<h2>How it was made</h2><pre>",
            escape("\n".join(["immref analyze", *folders])),
            "</pre>",
            f"<p>{escape(', '.join(f'{name} {value}' for name, value in asdict(shared.settings).items() if name != 'output_dir'))} · ",
            f"{escape(str(shared.subjects[0].device))} · {escape(', '.join(f'{name} {version(name)}' for name in PACKAGES))}</p></html>",
        ]
    )
