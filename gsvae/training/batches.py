"""Batches of a pack: each run's own order, binarisation and noise, gathered on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gsvae.data import binarize
from gsvae.sampling.base import gumbel_from_uniform
from gsvae.training.streams import Streams, Uniforms

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
        self.dtype = dtype
        *leading, L, K = noise_shape
        device = pixels_ND.device
        self.noise = Uniforms(streams, "noise", (*leading, K, L), dtype, device)  # in memory as the logits lie
        pixels_shape = (batch_size, pixels_ND.shape[1])
        self.thresholds = Uniforms(streams, "pixels", pixels_shape, dtype, device) if dynamic else None
        self._order_RN: Tensor | None = None

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Pixels ``(R, B, D)`` in [0, 1] and Gumbel noise ``(R, ...)`` of a global step; steps come in order."""
        index = step % self.per_epoch
        if self._order_RN is None or index == 0:
            self._order_RN = self._permutations()
        chosen_RB = self._order_RN[:, index * self.batch_size : (index + 1) * self.batch_size]
        x_RBD = self.pixels_ND[chosen_RB].to(self.dtype).div_(255)
        if self.thresholds:
            x_RBD = binarize(x_RBD, self.thresholds.of(step))
        return x_RBD, gumbel_from_uniform(self.noise.of(step)).transpose(-1, -2)

    @property
    def nbytes(self) -> int:
        """Memory of the numbers drawn and of a batch."""
        batch = len(self.streams) * self.batch_size * self.pixels_ND.shape[1] * self.dtype.itemsize
        return batch + self.noise.nbytes + (self.thresholds.nbytes if self.thresholds else 0)

    def blank(self) -> tuple[Tensor, Tensor]:
        """Pixels and noise as :meth:`draw` gives them, all 0; no stream moves."""
        runs = len(self.streams)
        x_RBD = self.pixels_ND.new_zeros(runs, self.batch_size, self.pixels_ND.shape[1], dtype=self.dtype)
        noise_R = self.pixels_ND.new_zeros(runs, *self.noise.shape, dtype=self.dtype).transpose(-1, -2)
        return x_RBD, noise_R

    def state(self, r: int, step: int) -> dict[str, Tensor]:
        """Where run ``r``'s streams stand before a global step."""
        periods = {"order": self.per_epoch, "noise": self.noise.steps}
        periods["pixels"] = self.thresholds.steps if self.thresholds else 1
        return self.streams[r].state([name for name, period in periods.items() if step % period == 0])

    def _permutations(self) -> Tensor:
        n, device = len(self.pixels_ND), self.pixels_ND.device
        return torch.stack([torch.randperm(n, generator=s.begin("order"), device=device) for s in self.streams])
