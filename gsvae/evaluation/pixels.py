"""A set of images batch by batch, in the protocol of the data, with the streams that evaluation draws from.

Shapes: R models, B images, D pixels.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gsvae.data import Images, binarize
from gsvae.evaluation.bounds import rand

__all__ = ["pixel_batches", "streams"]

BATCH = 1000


def pixel_batches(
    images: Images, dtype: torch.dtype, generators: Sequence[torch.Generator], max_rows: int, *, dynamic: bool
) -> Iterator[Tensor]:
    """Pixels ``(R, B, D)`` in [0, 1] of all images in their order, binarised anew for each model if ``dynamic``."""
    for pixels in images.pixels_ND.split(min(BATCH, max_rows)):
        x_RBD = (pixels.to(dtype) / 255).expand(len(generators), -1, -1)
        yield binarize(x_RBD, rand(x_RBD.shape, generators, x_RBD.device, dtype)) if dynamic else x_RBD


def streams(seeds: Sequence[int], purpose: int, device: torch.device) -> list[torch.Generator]:
    """The models' generators for one purpose: 0 pixels, 1 codes, 2 relaxing, 3 importance weights, 4 the gap."""
    return [torch.Generator(device).manual_seed(seed + purpose) for seed in seeds]
