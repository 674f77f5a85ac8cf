"""Gumbel-Rao: straight-through Gumbel-Softmax, averaged over the noise that gives the same one-hot code."""

import torch
from torch import Tensor

from gsvae.categories import log_softmax, softmax
from gsvae.sampling.base import (
    Estimate,
    LogLikelihood,
    MultiSampler,
    conditional_gumbel,
    one_hot_argmax,
    relaxation,
    value_zero,
)

__all__ = ["GumbelRao"]


class GumbelRao(MultiSampler):
    """D ~ π, gradient mean over m of J(softmax(S_m/τ)) g / τ with S_m ~ log π + G given D (arXiv 2010.04838).

    M = ``n_samples`` conditional draws, the first of which is the one that gave D: with M = 1 it is :class:`Hard`. Its
    mean is that of Hard at the same τ, its variance lower. Biased; one decoder call, M softmaxes.
    """

    def __init__(self, n_samples: int = 10) -> None:
        super().__init__(n_samples)

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        constant = logits_BLK.detach()
        sample = one_hot_argmax(constant + noise[0])
        log_pi = log_softmax(constant)
        # The conditional noise is a constant: differentiating through it would give another estimator, three times off.
        others = conditional_gumbel(log_pi, sample, noise[1:]) - log_pi
        moved_MBLK = torch.cat((noise[:1], others))
        relaxed = softmax((logits_BLK + moved_MBLK) / tau).mean(0)
        return relaxation(sample + value_zero(relaxed), log_likelihood)
