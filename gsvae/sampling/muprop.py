"""MuProp: REINFORCE with f's linear expansion at the mean as its control variate."""

import torch
from torch import Tensor

from gsvae.categories import softmax
from gsvae.sampling.base import Estimate, LogLikelihood, Sampler, log_q, one_hot_argmax, value_zero

__all__ = ["MuProp"]


class MuProp(Sampler):
    """[f(D) − f(π) − f'(π)·(D − π)] ∇log q(D) + J(π) f'(π), f = −log p(x|z) (arXiv 1511.05176).

    Unbiased for any f; two decoder calls, one of them at the mean π. τ has no part in it.
    """

    uses_tau = False
    compiles = False

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        pi = softmax(logits_BLK)
        sample = one_hot_argmax((logits_BLK + noise).detach())
        f_B = -log_likelihood(sample)

        def at_mean(z: Tensor) -> tuple[Tensor, Tensor]:
            value_B = -log_likelihood(z)
            return value_B.sum(), value_B

        with torch.no_grad():
            slope_BLK, mean_B = torch.func.grad(at_mean, has_aux=True)(pi.detach())
            expansion_B = mean_B + (slope_BLK * (sample - pi)).sum((-1, -2))
        signal_B = f_B.detach() - expansion_B
        to_logits_B = signal_B * log_q(sample, logits_BLK) + (slope_BLK * pi).sum((-1, -2))
        return Estimate(f_B + value_zero(to_logits_B), f_B.detach())
