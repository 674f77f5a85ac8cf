"""ZGR: the zero-temperature limit of Gumbel-Rao, in closed form."""

from torch import Tensor

from gsvae.categories import softmax
from gsvae.sampling.base import Estimate, LogLikelihood, Sampler, one_hot_argmax, relaxation, value_zero

__all__ = ["ZGR"]


class ZGR(Sampler):
    """D ~ π, gradient ½ [π∘(g − g_D) + D (g_D − π·g)] (repository shekhovt/ZGR).

    The limit τ → 0 of :class:`GumbelRao` with M → ∞, and :class:`ReinMax` at τ = 1, up to rounding. Biased, exact for
    quadratic f; one decoder call. τ has no part in it.
    """

    uses_tau = False

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        constant = logits_BLK.detach()
        sample, pi = one_hot_argmax(constant + noise), softmax(constant)
        # The map from g to the gradient is symmetric, so the logits go through the same formula to meet g.
        at_sample = (sample * logits_BLK).sum(-1, keepdim=True)
        mean = (pi * logits_BLK).sum(-1, keepdim=True)
        gradient = 0.5 * (pi * (logits_BLK - at_sample) + sample * (at_sample - mean))
        return relaxation(sample + value_zero(gradient), log_likelihood)
