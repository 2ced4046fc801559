"""`report.html`: one self-contained page that a stranger can read."""

import base64
import json
from html import escape
from pathlib import Path

from immref_trainers import strict_json, tables
from immref_trainers.results import Comparison

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; } .lead, .caption { color: #555; }
.caption { font-size: .9rem; max-width: 52rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { vertical-align: bottom; white-space: normal; min-width: 4.5rem; } th:first-child, td:first-child { text-align: left; white-space: pre }
img { max-width: 100%; } figure { margin: 1rem 0; } pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .85rem; }
"""


def write(comparison: Comparison, figures: dict[str, Path], folder: Path) -> None:
    """Write the page; `figures` are PNG files by caption."""
    (folder / "report.html").write_text(page(comparison, figures), encoding="utf-8")


def page(comparison: Comparison, figures: dict[str, Path]) -> str:
    """The page's text."""
    run = comparison.outcomes[0].run
    environment = comparison.environment
    title = f"Noise pairings compared: {comparison.recipe}"
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{CSS}</style>',
            f"<h1>{escape(title)}</h1>",
            '<p class="lead">Diffusion training pairs each image with random noise. Here the same network was trained on the '
            "same images in the same order with noise chosen, or images scaled, in other ways. Lower Fréchet distance means samples "
            f"closer to the data ({escape(comparison.features)}; {escape(comparison.features_quality)}; "
            f"{run.evaluation.num_samples:,} samples, {run.evaluation.draws} times).</p>",
            "<h2>What came out</h2><ul>",
            *(f"<li>{escape(sentence)}</li>" for sentence in tables.findings(comparison)),
            "</ul>",
            *(figure(path, caption) for caption, path in figures.items()),
            *(grid(table) for table in tables.all_tables(comparison)),
            "<h2>How it was made</h2>",
            f"<pre>{escape(comparison.command)}</pre>",
            f"<p>{escape(environment.backend)} · {escape(environment.device)}, {environment.threads} threads · ",
            f"Python {environment.python} · ",
            escape(", ".join(f"{name} {number}" for name, number in environment.versions.items())),
            "</p><details><summary>Settings of the first run; the others differ in pairing and seed alone</summary>",
            f"<pre>{escape(strict_json.to_json(run))}</pre></details>",
            "<details><summary>What each run took</summary><pre>",
            escape(
                json.dumps(
                    {f"{outcome.run.pairing}, seed {outcome.run.seed}": f"{outcome.seconds:.0f} s" for outcome in comparison.outcomes},
                    indent=2,
                    ensure_ascii=False,
                )
            ),
            "</pre></details></html>",
        ]
    )


def figure(path: Path, caption: str) -> str:
    """A picture inside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    text = escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption class="caption">{text}</figcaption></figure>'


def grid(table: tables.Table, head_level: str = "h2") -> str:
    """A table with its title and caption."""
    head = "".join(f"<th>{escape(column).replace(chr(10), '<br>')}</th>" for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f'<{head_level}>{escape(table.title)}</{head_level}><p class="caption">{escape(table.caption)}</p>'
        f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'
    )
