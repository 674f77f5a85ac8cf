"""A paper's table: one setting down, others across, mean ± sd over seeds, published figures beside ours."""

from pathlib import Path

from gsvae.compare.paper.figure import draw
from gsvae.compare.paper.markdown import as_markdown
from gsvae.compare.paper.pivot import Pivot, pivot
from gsvae.compare.paper.published import Published, read_published
from gsvae.compare.paper.sheet import as_csv
from gsvae.files import write_atomically

__all__ = ["Pivot", "Published", "pivot", "read_published", "write_paper"]


def write_paper(table: Pivot, path: Path) -> list[Path]:
    """Write the table as Markdown at ``path`` (``.md``), beside it its numbers (``.csv``) and picture (``.png``)."""
    picture, sheet = path.with_suffix(".png"), path.with_suffix(".csv")
    draw(table, picture)
    write_atomically(sheet, lambda file: file.write(as_csv(table).encode()))
    write_atomically(path, lambda file: file.write(as_markdown(table, picture.name).encode()))
    return [path, sheet, picture]
