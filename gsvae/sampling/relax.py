"""RELAX: REBAR with a learned network in its control variate."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gsvae.sampling.base import LogLikelihood
from gsvae.sampling.rebar import REBAR

__all__ = ["RELAX"]


class RELAX(REBAR):
    """REBAR's estimate with c(s) = f(y) + r(y), y = softmax(s/τ'), r a network (arXiv 1711.00123).

    r has one hidden layer and starts at 0, where this is REBAR; it learns with η and τ' to lower the variance. It sees
    the relaxed code, not s itself, which has no bound. Unbiased; three decoder calls.

    Args:
        n_latent, n_cat: L and K of the model.
        hidden: width of r.
    """

    def __init__(self, n_latent: int, n_cat: int, hidden: int = 200, eta: float = 1.0) -> None:
        super().__init__(eta)
        self.net = nn.Sequential(nn.Linear(n_latent * n_cat, hidden), nn.ELU(), nn.Linear(hidden, 1))
        for parameter in self.net[-1].parameters():
            nn.init.zeros_(parameter)

    def control(self, numbers: Mapping[str, Tensor], relaxed: Tensor, log_likelihood: LogLikelihood) -> Tensor:
        prefix = "net."
        weights = {name.removeprefix(prefix): p for name, p in numbers.items() if name.startswith(prefix)}
        learned: Tensor = functional_call(self.net, weights, (relaxed.flatten(-2),))
        return super().control(numbers, relaxed, log_likelihood) + torch.squeeze(learned, -1)
