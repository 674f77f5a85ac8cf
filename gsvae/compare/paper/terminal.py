"""The table on a terminal."""

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gsvae.compare.paper.pivot import BEST, Pivot
from gsvae.compare.paper.words import caption, cell, figures, mark, orders, title

__all__ = ["render_paper"]


def render_paper(table: Pivot) -> RenderableType:
    """The table, how to read it, and the orders; a cell has a line for each metric and one for what is published."""
    grid = Table(title=Text(title(table)), title_justify="left", show_lines=True)
    grid.add_column(Text(table.row_key), overflow="fold")
    for column in table.columns:
        grid.add_column(Text(column), justify="right", overflow="fold")
    for row in table.rows:
        grid.add_row(Text(row), *(contents(table, row, column) for column in table.columns))
    return Lines(grid, *map(Text, caption(table)), *map(Text, orders(table)))


def contents(table: Pivot, row: str, column: str) -> Text:
    text = Text()
    for place, metric in enumerate(table.metrics):
        best = table.verdicts.get((row, column, metric)) == BEST
        arrow = "→ " if place else ""
        text.append(f"{arrow}{cell(table, row, column, metric)}", style="bold" if best else "")
        text.append(f"{' *' if best else mark(table, row, column, metric)}\n")
    return text.append(figures(table, row, column), style="dim italic") if table.published else text[:-1]
