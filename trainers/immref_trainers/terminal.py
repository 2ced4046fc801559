"""Tables in a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table as Grid

from immref_trainers.tables import Table


def show(table: Table, console: Console) -> None:
    """Print a table, its caption below."""
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for number, column in enumerate(table.columns):
        grid.add_column(column, justify="right" if number else "left", no_wrap=not number, overflow="fold")
    for row in table.rows:
        grid.add_row(*row)
    console.print(f"\n[bold]{table.title}[/]", grid, table.caption, sep="\n", highlight=False)
