"""Pictures of runs, small enough to be part of a page."""

import base64
import io
from pathlib import Path

from PIL import Image

__all__ = ["pictures"]

LARGE = 60_000  # bytes from which a picture is made smaller
WIDEST = 560  # pixels, then
KINDS = ("reconstructions", "samples", "traversals", "codes")


def pictures(folder: Path) -> dict[str, str]:
    """A run's pictures by kind, as data URLs; those that cannot be read are left out."""
    found = {}
    for path in sorted((folder / "images").glob("*.png"), key=lambda p: (order(p.stem), p.stem)):
        try:
            found[path.stem] = data_url(path)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
    return found


def data_url(path: Path) -> str:
    content = path.read_bytes()
    if len(content) > LARGE:
        with Image.open(io.BytesIO(content)) as image:
            out = io.BytesIO()
            image.thumbnail((WIDEST, image.height))
            image.save(out, "PNG")
            content = min(content, out.getvalue(), key=len)
    return "data:image/png;base64," + base64.b64encode(content).decode()


def order(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)
