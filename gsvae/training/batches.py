"""Batches of a pack: each run's own order, binarisation and noise, gathered on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gsvae.data import binarize
from gsvae.sampling.base import gumbel_from_uniform
from gsvae.training.streams import Streams

__all__ = ["Batches"]


class Batches:
    """Draws pixels and noise for R runs over the same images.

    An epoch is a permutation cut into whole batches; the few images left over wait for the next one.

    Args:
        pixels_ND: uint8 images on the training device.
        dynamic: binarise anew at each use.
        noise_shape: of one run's Gumbel noise.
    """

    def __init__(
        self,
        pixels_ND: Tensor,
        batch_size: int,
        streams: Sequence[Streams],
        noise_shape: tuple[int, ...],
        dtype: torch.dtype,
        *,
        dynamic: bool,
    ) -> None:
        self.pixels_ND = pixels_ND
        self.batch_size = batch_size
        self.per_epoch = len(pixels_ND) // batch_size
        self.streams = streams
        self.noise_shape = noise_shape
        self.dtype = dtype
        self.dynamic = dynamic
        self._order_RN: Tensor | None = None

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Pixels ``(R, B, D)`` in [0, 1] and Gumbel noise ``(R, ...)`` of a global step; steps come in order."""
        index = step % self.per_epoch
        if self._order_RN is None or index == 0:
            self._order_RN = self._permutations()
        chosen_RB = self._order_RN[:, index * self.batch_size : (index + 1) * self.batch_size]
        x_RBD = self.pixels_ND[chosen_RB].to(self.dtype).div_(255)
        if self.dynamic:
            x_RBD = torch.stack([binarize(x, s.generators["pixels"]) for x, s in zip(x_RBD, self.streams)])
        *leading, L, K = self.noise_shape
        u_R = torch.empty(len(self.streams), *leading, K, L, dtype=self.dtype, device=x_RBD.device)
        for u, s in zip(u_R, self.streams):
            u.uniform_(generator=s.generators["noise"])
        return x_RBD, gumbel_from_uniform(u_R).transpose(-1, -2)  # in memory as the logits lie

    def _permutations(self) -> Tensor:
        n, device = len(self.pixels_ND), self.pixels_ND.device
        return torch.stack([s.permutation(n, device) for s in self.streams])
