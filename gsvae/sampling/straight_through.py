"""Straight-through: one-hot forwards, the gradient of the tempered mean backwards."""

from torch import Tensor

from gsvae.categories import softmax
from gsvae.sampling.base import Estimate, LogLikelihood, Sampler, one_hot_argmax, relaxation, value_zero

__all__ = ["StraightThrough"]


class StraightThrough(Sampler):
    """D ~ softmax θ, gradient J(softmax(θ/τ)) g / τ (arXiv 1308.3432). Biased; exact for linear f at τ = 1.

    One decoder call.
    """

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        sample = one_hot_argmax((logits_BLK + noise).detach())
        return relaxation(sample + value_zero(softmax(logits_BLK / tau)), log_likelihood)
