"""VIMCO: the gradient of the importance-weighted bound with M samples, each judged against the others."""

import math

import torch
from torch import Tensor

from gsvae.sampling.base import BoundSampler, Estimate, LogLikelihood, MultiSampler, log_q, one_hot_argmax, value_zero

__all__ = ["VIMCO"]


class VIMCO(MultiSampler, BoundSampler):
    """Gradient of −E[log 1/M Σ_m w_m], w_m = p(x|z_m) (p(z_m)/q(z_m|x))^β, z_m ~ q (arXiv 1602.06725).

    Σ_m (L − L_−m) ∇log q(z_m) + Σ_m w̃_m ∇log w_m, with L the bound, L_−m the bound with w_m replaced by the geometric
    mean of the other weights, and w̃ the normalised weights. Unbiased for the IWAE-M bound, which is not the ELBO: the
    KL is part of the weights, and train/loss is −IWAE-M. M decoder calls. τ has no part in it.
    """

    uses_tau = False

    def bound(
        self, logits_BLK: Tensor, noise: Tensor, log_likelihood: LogLikelihood, log_ratio: LogLikelihood
    ) -> Estimate:
        sample_MBLK = one_hot_argmax((logits_BLK + noise).detach())
        log_p_MB = log_likelihood(sample_MBLK)
        log_w_MB = log_p_MB + log_ratio(sample_MBLK)
        bound_B = log_w_MB.logsumexp(0) - math.log(self.n_samples)
        signal_MB = bound_B.detach() - self._without_each(log_w_MB.detach())
        surrogate_B = -bound_B - value_zero((signal_MB * log_q(sample_MBLK, logits_BLK)).sum(0))
        return Estimate(surrogate_B, -log_p_MB.detach().mean(0))

    def _without_each(self, log_w_MB: Tensor) -> Tensor:
        """The bound with each weight in turn replaced by the geometric mean of the others, ``(M, B)``."""
        M = self.n_samples
        others_MB = (log_w_MB.sum(0) - log_w_MB) / (M - 1)
        itself = torch.eye(M, dtype=torch.bool, device=log_w_MB.device).unsqueeze(-1)
        return torch.where(itself, others_MB.unsqueeze(1), log_w_MB).logsumexp(1) - math.log(M)
