"""Decoupled straight-through Gumbel-Softmax: one temperature forwards, another backwards."""

from torch import Tensor

from gsvae.categories import softmax
from gsvae.sampling.base import Estimate, LogLikelihood, Sampler, one_hot_argmax, relaxation, value_zero

__all__ = ["Decoupled"]


class Decoupled(Sampler):
    """D = onehot argmax(θ + τ_f G) ~ softmax(θ/τ_f), gradient J(softmax((θ + τ_f G)/τ)) g / τ (arXiv 2410.13331).

    The schedule's τ acts backwards, τ_f = ``tau_forward`` forwards: below 1 training explores less, above 1 more. At
    τ_f = 1 it is :class:`Hard`. Biased; one decoder call. With τ_f ≠ 1 the codes decoded in training are not q's, so
    that the training loss is no bound; evaluation draws from q, as always.
    """

    def __init__(self, tau_forward: float = 0.8) -> None:
        super().__init__()
        self.tau_forward = tau_forward

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        perturbed = logits_BLK + self.tau_forward * noise
        sample = one_hot_argmax(perturbed.detach())
        return relaxation(sample + value_zero(softmax(perturbed / tau)), log_likelihood)
