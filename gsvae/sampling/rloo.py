"""REINFORCE with a leave-one-out baseline: unbiased, several decoder calls, no gradient through z."""

from torch import Tensor

from gsvae.sampling.base import Estimate, LogLikelihood, MultiSampler, log_q, one_hot_argmax, value_zero

__all__ = ["RLOO"]


class RLOO(MultiSampler):
    """1/(M−1) Σ_m (f_m − mean f) ∇log q(D_m), f = −log p(x|z) (Kool et al. 2019; arXiv 1602.06725).

    Unbiased for any f; M decoder calls. τ has no part in it.
    """

    uses_tau = False

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        sample_MBLK = one_hot_argmax((logits_BLK + noise).detach())
        f_MB = -log_likelihood(sample_MBLK)
        cost_MB = f_MB.detach()
        advantage_MB = (cost_MB - cost_MB.mean(0)) * (self.n_samples / (self.n_samples - 1))
        surrogate_B = (f_MB + value_zero(advantage_MB * log_q(sample_MBLK, logits_BLK))).mean(0)
        return Estimate(surrogate_B, cost_MB.mean(0))
