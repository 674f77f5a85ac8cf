"""Straight-through Gumbel-Softmax: one-hot forwards, the relaxed sample's gradient backwards."""

from torch import Tensor

from gsvae.categories import softmax
from gsvae.sampling.base import Estimate, LogLikelihood, Sampler, one_hot_argmax, relaxation, value_zero

__all__ = ["Hard"]


class Hard(Sampler):
    """D = onehot argmax(θ + G), gradient J(softmax((θ + G)/τ)) g / τ with the same G (arXiv 1611.01144).

    Biased; one decoder call.
    """

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        perturbed = logits_BLK + noise
        relaxed = softmax(perturbed / tau)
        return relaxation(one_hot_argmax(perturbed.detach()) + value_zero(relaxed), log_likelihood)
