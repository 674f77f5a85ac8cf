"""Small categorical problems whose expectations are sums over all K^L one-hot codes."""

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from gsvae.model import MLP

__all__ = ["all_codes", "log_q", "log_q_of", "tiny_model", "true_bounds", "worst_z"]


def all_codes(n_latent: int, n_cat: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """All one-hot codes ``(K^L, L, K)``."""
    index = torch.tensor(list(product(range(n_cat), repeat=n_latent)))
    return F.one_hot(index, n_cat).to(dtype)


def log_q_of(codes: Tensor, logits_BLK: Tensor) -> Tensor:
    """log q(z|x), ``(N, B)``, of one-hot codes ``(N, L, K)``."""
    return torch.einsum("nlk,blk->nb", codes, logits_BLK.log_softmax(-1))


def log_q(logits_BLK: Tensor) -> Tensor:
    """log q(z|x), ``(K^L, B)``, of all codes."""
    return log_q_of(all_codes(*logits_BLK.shape[1:], logits_BLK.dtype), logits_BLK)


def tiny_model(prior: str = "uniform", seed: int = 0) -> MLP:
    """An MLP with 6 pixels and L=2, K=3 in float64, with weights large enough for codes to matter.

    q is kept broad: codes it hardly ever draws would make the importance weights' tails too heavy for a z-test.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MLP(image_shape=(1, 2, 3), hidden=[5], n_latent=2, n_cat=3, prior=prior).double()
        for p in model.parameters():
            p.data = torch.randn_like(p)
        model.encoder[-1].weight.data *= 0.3
    return model


def true_bounds(model: MLP, x_BD: Tensor) -> dict[str, Tensor]:
    """By enumeration, ``(B,)`` each: E_q[−log p(x|z)], KL(q ‖ p), −ELBO, −log p(x) and Var_q(weight) / p(x)²."""
    codes = all_codes(model.n_latent, model.n_cat)
    with torch.no_grad():
        pixel_logits = model.decode(codes).unsqueeze(1)
        log_x = (x_BD * pixel_logits - F.softplus(pixel_logits)).sum(-1)
        log_prior = log_q_of(codes, model.prior_logits_LK.unsqueeze(0))
        log_posterior = log_q(model.encode(x_BD))
        q = log_posterior.exp()
        reconstruction = -(q * log_x).sum(0)
        kl = (q * (log_posterior - log_prior)).sum(0)
        nll = -(log_prior + log_x).logsumexp(0)
        variance = (2 * (log_prior + log_x + nll) - log_posterior).exp().sum(0) - 1
    neg_elbo = reconstruction + kl
    return {
        "reconstruction": reconstruction,
        "kl": kl,
        "neg_elbo": neg_elbo,
        "nll": nll,
        "variance": variance,
    }


def worst_z(draws_N: Tensor, exact: Tensor) -> float:
    """Largest |z| over components of the mean over the first axis against ``exact``."""
    error = (draws_N.mean(0) - exact).abs()
    standard_error = draws_N.std(0) / math.sqrt(len(draws_N))
    return (error / (standard_error + 1e-12)).max().item()
