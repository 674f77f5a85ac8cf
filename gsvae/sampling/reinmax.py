"""ReinMax: a second-order straight-through estimator."""

from torch import Tensor

from gsvae.categories import softmax
from gsvae.sampling.base import (
    Estimate,
    LogLikelihood,
    Sampler,
    one_hot_argmax,
    relaxation,
    softmax_jacobian,
    value_zero,
)

__all__ = ["ReinMax"]


class ReinMax(Sampler):
    """D ~ π = softmax θ, gradient 2 J(m) g − ½ J(π) g with m = ½(softmax(θ/τ) + D) (arXiv 2304.08612).

    Biased; exact for quadratic f at τ = 1. One decoder call. Published runs use τ from 1.1 to 1.5.
    """

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        constant = logits_BLK.detach()
        sample = one_hot_argmax(constant + noise)
        midpoint = 0.5 * (softmax(constant / tau) + sample)
        gradient = 2.0 * softmax_jacobian(midpoint, logits_BLK)
        gradient = gradient - 0.5 * softmax_jacobian(softmax(constant), logits_BLK)
        return relaxation(sample + value_zero(gradient), log_likelihood)
