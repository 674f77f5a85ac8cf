"""The exact gradient, by enumeration of all codes: for small latents, and to hold estimators against."""

import math

import torch
from torch import Tensor

from gsvae.categories import log_softmax
from gsvae.errors import UserError
from gsvae.sampling.base import Estimate, LogLikelihood, Sampler

__all__ = ["Exact", "codes_of"]


class Exact(Sampler):
    """Σ_z q(z|x) f(z) over all K^L codes z, f = −log p(x|z). No variance, no bias; K^L decoder calls in all.

    Every code is decoded once for the whole batch. Neither τ nor noise has a part in it.

    Args:
        max_codes: largest K^L accepted.
    """

    uses_tau = False

    def __init__(self, max_codes: int = 4096) -> None:
        super().__init__()
        self.max_codes = max_codes

    def noise_shape(self, B: int, L: int, K: int) -> tuple[int, ...]:
        """No noise at all.

        Raises:
            UserError: there are more than ``max_codes`` codes.
        """
        if self.max_codes < K**L:
            raise UserError(
                f"sampling.max_codes={self.max_codes}: model.n_cat={K} and model.n_latent={L} make "
                f"{K}^{L} codes to enumerate, some 10^{L * math.log10(K):.0f}; take a smaller latent, or an estimator "
                "that samples"
            )
        return (0, L, K)

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        _, L, K = logits_BLK.shape
        codes_NLK = codes_of(torch.arange(K**L, device=logits_BLK.device), L, K, logits_BLK.dtype)
        f_NB = -log_likelihood(codes_NLK.unsqueeze(1))
        log_q_NB = codes_NLK.flatten(1) @ log_softmax(logits_BLK).flatten(1).T
        surrogate_B = (log_q_NB.exp() * f_NB).sum(0)
        return Estimate(surrogate_B, surrogate_B.detach())


def codes_of(index_N: Tensor, n_latent: int, n_cat: int, dtype: torch.dtype) -> Tensor:
    """The one-hot codes ``(N, L, K)`` with these numbers, of the K^L there are."""
    place_L = n_cat ** torch.arange(n_latent, device=index_N.device)
    digit_NL = index_N.unsqueeze(1) // place_L % n_cat
    return (digit_NL.unsqueeze(-1) == torch.arange(n_cat, device=index_N.device)).to(dtype)
