"""The pictures of a run, drawn from its model."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from gsvae.data import Images
from gsvae.evaluation import CodeUsage, prior_samples, reconstructions, traversals
from gsvae.model import CategoricalVAE
from gsvae.tracking.pictures import draw_codes, draw_grid

__all__ = ["drawings"]


def drawings(model: CategoricalVAE, images: Images, codes: CodeUsage, seed: int) -> dict[str, Callable[[Path], None]]:
    """By name, functions that draw a picture at a path; what they show is computed now."""
    rows, _ = traversals(model, images)
    grids = {
        "reconstructions": reconstructions(model, images, seed),
        "samples": prior_samples(model, seed),
        "traversals": rows,
    }
    drawn: dict[str, Callable[[Path], None]] = {
        name: partial(draw_grid, images=grid) for name, grid in grids.items()
    }
    drawn["codes"] = partial(draw_codes, usage_LK=codes.usage_LK.numpy(), kl_L=codes.kl_L.numpy())
    return drawn
