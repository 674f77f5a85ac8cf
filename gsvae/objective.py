"""The training loss: −ELBO of one run on one batch, in nats per image."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gsvae.categories import log_softmax
from gsvae.model import CategoricalVAE
from gsvae.sampling import BoundSampler, Sampler
from gsvae.sampling.base import log_q

__all__ = ["Objective", "Terms", "bernoulli_log_likelihood", "categorical_kl"]


def bernoulli_log_likelihood(pixel_logits: Tensor, x_BD: Tensor) -> Tensor:
    """log p(x|z) = Σ_D x·l − softplus(l), nats per image, ``(..., B)``; grey x counts as a Bernoulli mean.

    Logits ``(..., 1, D)`` stand for all B images; then no number is worked out for each image and pixel.
    """
    if pixel_logits.shape[-2] == 1 < x_BD.shape[-2]:
        return (pixel_logits.squeeze(-2) @ x_BD.T) - softplus(pixel_logits).sum(-1)
    return BernoulliLogLikelihood.apply(pixel_logits, x_BD)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp x)."""
    return x.relu() + (1.0 + (-x.abs()).exp()).log()


class BernoulliLogLikelihood(torch.autograd.Function):
    """Σ_D x·l − softplus(l) with its gradient x − sigmoid(l) to the logits; the images are constants.

    torch's own takes three times as long on the CPU: log1p is not vectorised there. Here log(1 + e), e in (0, 1], is
    off by at most one rounding of a number near 1.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(pixel_logits: Tensor, x_BD: Tensor) -> Tensor:
        return (x_BD * pixel_logits - softplus(pixel_logits)).sum(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        pixel_logits, x_BD = ctx.saved_tensors
        return (x_BD - pixel_logits.sigmoid()) * grad.unsqueeze(-1), None


def categorical_kl(logits_BLK: Tensor, prior_logits_LK: Tensor) -> Tensor:
    """KL(q(z|x) ‖ p(z)) of each latent, analytic, nats, ``(B, L)``."""
    log_q = log_softmax(logits_BLK)
    log_p = log_softmax(prior_logits_LK)
    return (log_q.exp() * (log_q - log_p)).sum(-1)


class Terms(NamedTuple):
    """Means over the batch, nats per image: the loss to differentiate and its two parts."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor


class Objective(nn.Module):
    """The loss of one run, with the gradient of its expectation left to the sampler.

    E_q[−log p(x|z)] + β KL(q ‖ p), or with a :class:`BoundSampler` what that minimises instead.
    """

    def __init__(self, model: CategoricalVAE, sampler: Sampler) -> None:
        super().__init__()
        self.model = model
        self.sampler = sampler

    def forward(self, x_BD: Tensor, noise: Tensor, tau: Tensor, beta: Tensor) -> Terms:
        """Return the terms for pixels ``(B, D)``, the sampler's noise, temperature ``()`` and KL weight ``()``."""
        # Outside autocast's reach everything is done in the noise's precision: only the two networks may be bf16.
        logits_BLK = self.model.encode(x_BD).to(noise.dtype)

        def log_likelihood(z: Tensor) -> Tensor:
            return bernoulli_log_likelihood(self.model.decode(z).to(noise.dtype), x_BD)

        def log_ratio(z: Tensor) -> Tensor:
            return beta * (log_q(z, self.model.prior_logits_LK) - log_q(z, logits_BLK))

        kl = categorical_kl(logits_BLK, self.model.prior_logits_LK).sum(-1).mean()
        if isinstance(self.sampler, BoundSampler):
            estimate = self.sampler.bound(logits_BLK, noise, log_likelihood, log_ratio)
            loss = estimate.surrogate_B.mean()
        else:
            estimate = self.sampler(logits_BLK, tau, noise, log_likelihood)
            loss = estimate.surrogate_B.mean() + beta * kl
        return Terms(loss, estimate.reconstruction_B.mean(), kl.detach())
