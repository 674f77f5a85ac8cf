"""Bounds on log p(x) with one-hot codes, nats per image: the discrete −ELBO and the importance-weighted bound.

Shapes: B images, S samples, L latents, K categories, D pixels. Where ``(B, ...)`` stands, ``(R, B, ...)`` of R models
called as one (:class:`~gsvae.evaluation.models.Models`) serves as well, with a generator for each of them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gsvae.categories import log_softmax, softmax
from gsvae.evaluation.models import Models
from gsvae.model import CategoricalVAE
from gsvae.objective import bernoulli_log_likelihood, categorical_kl
from gsvae.sampling.base import gumbel_from_uniform

__all__ = [
    "discrete_reconstruction",
    "iwae_bound",
    "kl_per_latent",
    "one_hot",
    "rand",
    "relaxed_reconstruction",
    "sample_codes",
]


Model = CategoricalVAE | Models
Generators = torch.Generator | Sequence[torch.Generator]


def rand(shape: Sequence[int], generators: Generators, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Uniform numbers in [0, 1); of several generators each fills its part ``shape[1:]``."""
    if isinstance(generators, torch.Generator):
        return torch.rand(tuple(shape), generator=generators, device=device, dtype=dtype)
    parts = [torch.rand(tuple(shape[1:]), generator=g, device=device, dtype=dtype) for g in generators]
    return torch.stack(parts)


def sample_codes(logits_BLK: Tensor, n: int, generator: Generators) -> Tensor:
    """Indices ``(n, B, L)`` of samples of q, by inverting its distribution function.

    In float64, because rounding in the sums must not give a code of probability 1e-20 a chance of 1e-8: its weight
    in the importance-weighted bound would be 1e12 times too large.
    """
    dtype = torch.float32 if logits_BLK.device.type == "mps" else torch.float64  # MPS has no float64
    cdf_BLK = softmax(logits_BLK.to(dtype)).cumsum(-1).contiguous()
    shape = (*logits_BLK.shape[:-1], n)
    u_BLS = rand(shape, generator, logits_BLK.device, dtype)
    # Scaled by the last entry, which rounding leaves beside 1, u stays below it.
    index_BLS = torch.searchsorted(cdf_BLK, u_BLS * cdf_BLK[..., -1:], right=True)
    return index_BLS.clamp_(max=logits_BLK.shape[-1] - 1).movedim(-1, 0)


def one_hot(index: Tensor, n_cat: int, dtype: torch.dtype) -> Tensor:
    """One-hot codes ``(..., K)`` of indices ``(...)``."""
    codes = torch.zeros(*index.shape, n_cat, device=index.device, dtype=dtype)
    return codes.scatter_(-1, index.unsqueeze(-1), 1.0)


def log_probability(logits: Tensor, index_SBL: Tensor) -> Tensor:
    """Σ_L log softmax(logits) at the indices, ``(S, B)``, for logits ``(B, L, K)`` or ``(L, K)``."""
    log_p = log_softmax(logits).expand(*index_SBL.shape, logits.shape[-1])
    return log_p.gather(-1, index_SBL.unsqueeze(-1)).squeeze(-1).sum(-1)


def log_likelihoods(model: Model, x_BD: Tensor, index_SBL: Tensor) -> Tensor:
    """log p(x|z), ``(S, B)``, for one-hot z."""
    codes = one_hot(index_SBL, model.n_cat, x_BD.dtype)
    return bernoulli_log_likelihood(model.decode(codes), x_BD)


def chunks(n_samples: int, batch: int, max_rows: int) -> list[int]:
    """Split S samples so that at most ``max_rows`` images are decoded at once, and at least one sample."""
    size = max(1, max_rows // batch)
    return [min(size, n_samples - done) for done in range(0, n_samples, size)]


def discrete_reconstruction(
    model: Model,
    x_BD: Tensor,
    logits_BLK: Tensor,
    n_samples: int,
    generator: Generators,
    max_rows: int,
) -> Tensor:
    """Monte-Carlo E_q[−log p(x|z)] with one-hot z, ``(B,)``; with the analytic KL it makes the discrete −ELBO."""
    total_B = torch.zeros_like(x_BD[..., 0])
    for n in chunks(n_samples, x_BD.shape[-2], max_rows):
        total_B -= log_likelihoods(model, x_BD, sample_codes(logits_BLK, n, generator)).sum(0)
    return total_B / n_samples


def iwae_bound(
    model: Model,
    x_BD: Tensor,
    logits_BLK: Tensor,
    n_samples: int,
    generator: Generators,
    max_rows: int,
) -> Tensor:
    """−log 1/S Σ_s p(x|z_s) p(z_s) / q(z_s|x) with one-hot z_s, ``(B,)`` (arXiv 1509.00519).

    An upper bound on −log p(x) in expectation, tighter with S. Decodes at most ``max_rows`` images at once.
    """
    log_sum_B = torch.full_like(x_BD[..., 0], -torch.inf)
    for n in chunks(n_samples, x_BD.shape[-2], max_rows):
        index_SBL = sample_codes(logits_BLK, n, generator)
        log_w_SB = log_likelihoods(model, x_BD, index_SBL)
        log_w_SB = log_w_SB + log_probability(model.prior_logits_LK, index_SBL)
        log_w_SB = log_w_SB - log_probability(logits_BLK, index_SBL)
        log_sum_B = torch.logaddexp(log_sum_B, log_w_SB.logsumexp(0))
    return math.log(n_samples) - log_sum_B


def relaxed_reconstruction(
    model: Model, x_BD: Tensor, logits_BLK: Tensor, tau: float | Tensor, generator: Generators
) -> Tensor:
    """−log p(x|y) with one Gumbel-Softmax sample y at temperature τ, ``(B,)``: not part of any bound.

    τ is a number, or ``(R, 1, 1, 1)`` for R models.
    """
    u = rand(logits_BLK.shape, generator, x_BD.device, x_BD.dtype)
    y_BLK = softmax((logits_BLK + gumbel_from_uniform(u)) / tau)
    return -bernoulli_log_likelihood(model.decode(y_BLK), x_BD)


def kl_per_latent(model: Model, logits_BLK: Tensor) -> Tensor:
    """Analytic KL(q ‖ p) of each latent, ``(B, L)``."""
    return categorical_kl(logits_BLK, model.prior_logits_LK)
