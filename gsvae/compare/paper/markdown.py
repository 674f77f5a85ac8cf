"""The table as Markdown, with its picture, how to read it, and the commands that made it."""

from gsvae.compare.paper.pivot import BEST, Pivot
from gsvae.compare.paper.words import caption, cell, figures, mark, orders, title

__all__ = ["as_markdown"]


def as_markdown(table: Pivot, picture: str) -> str:
    """The whole page; ``picture`` is the file beside it."""
    head = [f"{table.row_key} ↓ {'×'.join(table.column_keys)} →", *table.columns]
    lines = [f"**{title(table)}**", "", row_of(head), row_of(["---"] * len(head))]
    lines += [row_of([row, *(ours_and_theirs(table, row, column) for column in table.columns)]) for row in table.rows]
    lines += ["", *paragraphs(caption(table))]
    if told := orders(table):
        lines += ["Orders, best first:", "", *(f"- {escaped(line)}" for line in told), ""]
    lines += [f"![the table's numbers and their way there]({picture})", ""]
    if table.commands:
        lines += ["```bash", *table.commands, "```", ""]
    return "\n".join(lines)


def ours_and_theirs(table: Pivot, row: str, column: str) -> str:
    """A cell: our numbers, the best of the column bold, and the published ones below."""
    ours = []
    for metric in table.metrics:
        text = cell(table, row, column, metric)
        best = table.verdicts.get((row, column, metric)) == BEST
        ours.append(f"**{text}**" if best else text + mark(table, row, column, metric))
    return " → ".join(ours) + (f"<br>*{figures(table, row, column)}*" if table.published else "")


def paragraphs(lines: list[str]) -> list[str]:
    return [part for line in lines for part in (escaped(line), "")]


def row_of(cells: list[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"


def escaped(text: str) -> str:
    """Names like straight_through as they are."""
    return text.replace("_", "\\_").replace("<", "&lt;")
