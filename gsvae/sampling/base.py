"""The one interface of every gradient estimator, and the pieces they share."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "Estimate",
    "LogLikelihood",
    "Sampler",
    "gumbel_from_uniform",
    "one_hot_argmax",
    "relaxation",
    "softmax_jacobian",
    "value_zero",
]

LogLikelihood = Callable[[Tensor], Tensor]
"""log p(x|z) in nats, ``(..., B)`` for codes ``(..., B, L, K)``; differentiable in z and in the decoder."""


class Estimate(NamedTuple):
    """What an estimator returns for a batch.

    Attributes:
        surrogate_B: differentiate this. Its gradient to the decoder is that of −log p(x|z) at the sampled z; its
            gradient to the logits estimates ∇ E_q[−log p(x|z)].
        reconstruction_B: −log p(x|z) at the sampled z, nats per image, without gradient.
    """

    surrogate_B: Tensor
    reconstruction_B: Tensor


class Sampler(nn.Module):
    """A gradient estimator for z ~ q(z|x): maps logits, τ and Gumbel noise to an :class:`Estimate`.

    A subclass implements :meth:`forward`, and :meth:`noise_shape` if it wants more than one Gumbel per logit. It may
    have parameters (a learned control variate); they train with the model's. It is written for one run on
    ``(B, L, K)`` logits and draws nothing itself, so that it can be packed and repeated.
    """

    def noise_shape(self, B: int, L: int, K: int) -> tuple[int, ...]:
        """Shape of the standard Gumbel noise that :meth:`forward` takes."""
        return (B, L, K)

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        """Return the estimate for logits ``(B, L, K)``, temperature ``()`` and noise of :meth:`noise_shape`."""
        raise NotImplementedError


def relaxation(z_BLK: Tensor, log_likelihood: LogLikelihood) -> Estimate:
    """The estimate of all samplers that differentiate through one relaxed or straight-through z."""
    reconstruction_B = -log_likelihood(z_BLK)
    return Estimate(reconstruction_B, reconstruction_B.detach())


def one_hot_argmax(scores: Tensor) -> Tensor:
    """One-hot of the largest entry along the last dimension; with scores = logits + Gumbel noise, a sample of q."""
    return torch.zeros_like(scores).scatter(-1, scores.argmax(-1, keepdim=True), 1.0)


def value_zero(x: Tensor) -> Tensor:
    """Exactly 0, with the gradient of ``x``."""
    return x - x.detach()


def softmax_jacobian(p: Tensor, logits: Tensor) -> Tensor:
    """A tensor with gradient J(p)g = p∘g − p(p·g) to ``logits`` for g flowing into it; ``p`` must be detached."""
    return p * (logits - (p * logits).sum(-1, keepdim=True))


def gumbel_from_uniform(u: Tensor) -> Tensor:
    """Standard Gumbel noise −log(−log u), in place, finite for every u in [0, 1]."""
    eps = torch.finfo(u.dtype).eps
    return u.clamp_(eps / 4, 1 - eps / 2).log_().neg_().log_().neg_()
