"""Metrics of the steps since the last log point, kept on the device so that no step waits for the host."""

import torch
from torch import Tensor

__all__ = ["METRICS", "Window"]

METRICS = ("train/loss", "train/reconstruction", "train/kl", "train/grad_norm")


class Window:
    """The metrics of up to ``length`` steps of R runs, ``(length, 4, R)``."""

    def __init__(self, length: int, size: int, device: torch.device, dtype: torch.dtype) -> None:
        self.values = torch.zeros(length, len(METRICS), size, device=device, dtype=dtype)
        self.n = 0

    @property
    def full(self) -> bool:
        return self.n == len(self.values)

    @property
    def left(self) -> int:
        """Steps until it is full."""
        return len(self.values) - self.n

    def add(self, metrics_4R: Tensor) -> None:
        self.values[self.n] = metrics_4R
        self.n += 1

    def read(self) -> Tensor:
        """The steps so far on the host, ``(n, 4, R)``: this waits for the device."""
        return self.values[: self.n].cpu().double()

    def clear(self) -> None:
        self.n = 0

    def state(self, r: int) -> Tensor:
        return self.values[: self.n, :, r].cpu().clone()

    def load(self, states: list[Tensor]) -> None:
        """Go on with these steps; of more than there is place for, as the interval may have changed, with the last."""
        kept = [state[-(len(self.values) - 1) :] if len(self.values) > 1 else state[:0] for state in states]
        self.n = len(kept[0])
        self.values[: self.n] = torch.stack(kept, dim=-1).to(self.values)


def first_bad(values_n4: Tensor) -> int | None:
    """Index of the first step whose loss or gradient norm is not finite, or None."""
    bad = ~torch.isfinite(values_n4[:, [0, 3]]).all(1)
    return int(bad.nonzero()[0]) if bad.any() else None
