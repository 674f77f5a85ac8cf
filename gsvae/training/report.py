"""The pictures of a run, drawn from its model."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from gsvae.data import Images
from gsvae.evaluation import CodeUsage, prior_samples, reconstructions, traversals
from gsvae.model import CategoricalVAE
from gsvae.tracking.pictures import draw_codes, draw_grid, draw_traversals

__all__ = ["drawings"]


def drawings(model: CategoricalVAE, images: Images, codes: CodeUsage, seed: int) -> dict[str, Callable[[Path], None]]:
    """By name, functions that draw a picture at a path; what they show is computed now."""
    kl_L = codes.kl_L.numpy()
    rows, latents = traversals(model, images)
    return {
        "reconstructions": partial(draw_grid, images=reconstructions(model, images, seed)),
        "samples": partial(draw_grid, images=prior_samples(model, seed)),
        "traversals": partial(draw_traversals, images=rows, latents=latents, kl_L=kl_L),
        "codes": partial(draw_codes, usage_LK=codes.usage_LK.numpy(), kl_L=kl_L),
    }
