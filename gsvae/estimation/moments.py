"""Mean and variance of vectors that come some at a time, in float64, and the jackknife over groups of them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Fixed", "Groups", "Moments", "Sample", "home_of", "jackknife"]

GROUPS = 10


class Sample(NamedTuple):
    """A mean ``(P,)`` of n draws, and the variance of one draw, V = 1/(n−1) Σ ‖g − mean‖², the covariance's trace."""

    mean: Tensor
    variance: float
    n: int

    @property
    def remaining(self) -> float:
        """V/n, the variance of the mean."""
        return self.variance / self.n

    @property
    def norm2(self) -> float:
        """The mean's squared length, without what its own variance adds to it."""
        return self.mean.square().sum().item() - self.remaining


class Groups(Protocol):
    """Draws in groups, any one of which can be left out."""

    @property
    def n_groups(self) -> int:
        """Groups that can be left out."""

    def whole(self) -> Sample:
        """All draws."""

    def without(self, group: int) -> Sample:
        """All draws but a group's."""


class Fixed:
    """A vector ``(P,)`` known without error."""

    n_groups = 0

    def __init__(self, vector: Tensor) -> None:
        self.vector = vector

    def whole(self) -> Sample:
        return Sample(self.vector, 0.0, 1)

    def without(self, group: int) -> Sample:
        raise IndexError(group)


class Moments:
    """Sums over ``n`` draws of P numbers, in up to ten groups of consecutive draws; no draw is kept.

    They are summed as differences from the first, so that a variance far below the squared mean keeps its digits.
    """

    def __init__(self, n: int, size: int, device: torch.device) -> None:
        self.n_groups = max(1, min(GROUPS, n // 2))
        self._ends = [(g + 1) * n // self.n_groups for g in range(self.n_groups)]
        self._home = home_of(device)
        self._sums_GP = torch.zeros(self.n_groups, size, device=self._home, dtype=torch.float64)
        self._squares_G = [0.0] * self.n_groups
        self._counts_G = [0] * self.n_groups
        self._first_P: Tensor | None = None
        self._done = 0

    def add(self, draws_nP: Tensor) -> None:
        """Take the next draws."""
        draws_nP = draws_nP.to(self._home).double()
        if self._first_P is None:
            self._first_P = draws_nP[0].clone()
        apart_nP = draws_nP - self._first_P
        while len(apart_nP):
            group = next(g for g, end in enumerate(self._ends) if self._done < end)
            part, apart_nP = apart_nP.tensor_split([self._ends[group] - self._done])
            self._sums_GP[group] += part.sum(0)
            self._squares_G[group] += part.square().sum().item()
            self._counts_G[group] += len(part)
            self._done += len(part)

    def whole(self) -> Sample:
        return self._sample(self._sums_GP.sum(0), sum(self._squares_G), sum(self._counts_G))

    def without(self, group: int) -> Sample:
        kept = [g for g in range(self.n_groups) if g != group]
        sums_P = self._sums_GP[kept].sum(0)
        return self._sample(sums_P, sum(self._squares_G[g] for g in kept), sum(self._counts_G[g] for g in kept))

    def _sample(self, sum_P: Tensor, squares: float, n: int) -> Sample:
        assert self._first_P is not None
        mean_P = sum_P / n
        variance = max(squares - n * mean_P.square().sum().item(), 0.0) / (n - 1)
        return Sample(self._first_P + mean_P, variance, n)


def home_of(device: torch.device) -> torch.device:
    """Where sums are kept in float64: MPS has none."""
    return torch.device("cpu") if device.type == "mps" else device


def jackknife(statistic: Callable[..., float], *parts: Groups) -> tuple[float, float]:
    """A statistic of independent samples, and its standard error by leaving out a group of each in turn.

    For a squared length near 0 the error comes out up to √2 too large, as it does for all degenerate statistics of
    second order.
    """
    wholes = [part.whole() for part in parts]
    variance = 0.0
    for index, part in enumerate(parts):
        if part.n_groups < 2:
            continue
        left = [statistic(*wholes[:index], part.without(group), *wholes[index + 1 :]) for group in range(part.n_groups)]
        variance += spread(left)
    return statistic(*wholes), variance**0.5


def spread(left_out: Sequence[float]) -> float:
    """The jackknife's variance of values that each lack one of G groups."""
    G = len(left_out)
    mean = sum(left_out) / G
    return (G - 1) / G * sum((value - mean) ** 2 for value in left_out)
