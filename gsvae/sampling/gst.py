"""Gapped straight-through: the one-hot code's logit is raised to the top, the others kept a gap below it."""

from torch import Tensor

from gsvae.categories import softmax
from gsvae.sampling.base import Estimate, LogLikelihood, Sampler, one_hot_argmax, relaxation, value_zero

__all__ = ["GST"]


class GST(Sampler):
    """D ~ π, gradient through softmax((θ + m)/τ) with m constant (arXiv 2206.07235).

    m = D (max θ − θ) − (1 − D) relu(θ − max θ + gap): the sampled category stands at the largest logit and every other
    at least ``gap`` below it. Like Gumbel-Rao without its noise. Biased; one decoder call. GST-1.0 is gap 1.
    """

    def __init__(self, gap: float = 1.0) -> None:
        super().__init__()
        self.gap = gap

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        constant = logits_BLK.detach()
        sample = one_hot_argmax(constant + noise)
        below = constant - constant.amax(-1, keepdim=True)
        move = -sample * below - (1 - sample) * (below + self.gap).relu()
        return relaxation(sample + value_zero(softmax((logits_BLK + move) / tau)), log_likelihood)
