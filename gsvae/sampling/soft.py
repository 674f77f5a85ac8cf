"""Gumbel-Softmax: the relaxed sample itself goes through the decoder."""

from torch import Tensor

from gsvae.categories import softmax
from gsvae.sampling.base import Estimate, LogLikelihood, Sampler, relaxation

__all__ = ["Soft"]


class Soft(Sampler):
    """y = softmax((θ + G)/τ), ordinary backpropagation (arXiv 1611.01144, 1611.00712). Biased; one decoder call."""

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        return relaxation(softmax((logits_BLK + noise) / tau), log_likelihood)
