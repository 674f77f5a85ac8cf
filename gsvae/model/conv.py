"""A small convolutional VAE for 28×28 and 32×32 images."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from gsvae.errors import UserError
from gsvae.model.base import CategoricalVAE

__all__ = ["Conv"]


class Conv(CategoricalVAE):
    """Stride-2 4×4 convolutions, one hidden linear layer, and the mirror image in the decoder.

    Raises:
        UserError: the images' sides are below 16 or cannot be halved once per layer.
    """

    def __init__(self, image_shape: tuple[int, int, int], channels: Sequence[int], hidden: int, **kwargs: Any) -> None:
        super().__init__(image_shape, **kwargs)
        n_channels, height, width = image_shape
        halvings = 2 ** len(channels)
        if not channels or height % halvings or width % halvings or min(height, width) < 16:
            raise UserError(
                f"model.channels={list(channels)}: the images are {height}x{width}; needs at least one layer and "
                f"sides of 16 or more that halve evenly once per layer (28x28 and 32x32 twice); "
                "for others use model=base"
            )
        small = (channels[-1], height // halvings, width // halvings)
        flat = small[0] * small[1] * small[2]
        n_code = self.n_latent * self.n_cat
        sizes = [n_channels, *channels]
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            down += [nn.Conv2d(n_in, n_out, 4, stride=2, padding=1), nn.ReLU()]
            up = [nn.ReLU(), nn.ConvTranspose2d(n_out, n_in, 4, stride=2, padding=1), *up]
        self.encoder = nn.Sequential(
            nn.Unflatten(1, self.image_shape),
            *down,
            nn.Flatten(),
            nn.Linear(flat, hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_code),
        )
        self.decoder = nn.Sequential(
            nn.Linear(n_code, hidden),
            nn.ReLU(),
            nn.Linear(hidden, flat),
            nn.Unflatten(1, small),
            *up,
            nn.Flatten(),
        )
