"""The one interface of every gradient estimator, and the pieces they share."""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gsvae.categories import log_softmax

__all__ = [
    "BoundSampler",
    "Estimate",
    "LogLikelihood",
    "MultiSampler",
    "Sampler",
    "conditional_gumbel",
    "gumbel_from_uniform",
    "log_q",
    "one_hot_argmax",
    "relaxation",
    "softmax_jacobian",
    "value_zero",
]

LogLikelihood = Callable[[Tensor], Tensor]
"""log p(x|z) in nats, ``(..., B)`` for codes ``(..., B, L, K)``, or ``(..., 1, L, K)`` where all images share them;
differentiable in z and in the decoder."""


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

    Attributes:
        uses_tau: whether τ changes the estimate.
        compiles: whether ``torch.compile`` can follow it; not where it differentiates by itself.
    """

    uses_tau: ClassVar[bool] = True
    compiles: ClassVar[bool] = True

    def noise_shape(self, B: int, L: int, K: int) -> tuple[int, ...]:
        """Shape of the standard Gumbel noise that :meth:`forward` takes."""
        return (B, L, K)

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        """Return the estimate for logits ``(B, L, K)``, temperature ``()`` and noise of :meth:`noise_shape`."""
        raise NotImplementedError


class MultiSampler(Sampler):
    """An estimator from M = ``n_samples`` draws of noise for each image."""

    def __init__(self, n_samples: int = 4) -> None:
        super().__init__()
        self.n_samples = n_samples

    def noise_shape(self, B: int, L: int, K: int) -> tuple[int, ...]:
        return (self.n_samples, B, L, K)


class BoundSampler(Sampler):
    """An estimator of the gradient of another bound than the ELBO, whose KL is inside it.

    A subclass implements :meth:`bound`; the surrogate is then the whole loss.
    """

    def bound(
        self, logits_BLK: Tensor, noise: Tensor, log_likelihood: LogLikelihood, log_ratio: LogLikelihood
    ) -> Estimate:
        """Return the estimate for logits ``(B, L, K)``.

        Args:
            noise: standard Gumbel, of :meth:`noise_shape`.
            log_ratio: β (log p(z) − log q(z|x)) in nats, ``(..., B)``, of codes ``(..., B, L, K)``; differentiable in
                the logits and the prior.
        """
        raise NotImplementedError


def relaxation(z_BLK: Tensor, log_likelihood: LogLikelihood) -> Estimate:
    """The estimate of all samplers that differentiate through one relaxed or straight-through z."""
    reconstruction_B = -log_likelihood(z_BLK)
    return Estimate(reconstruction_B, reconstruction_B.detach())


def one_hot_argmax(scores: Tensor) -> Tensor:
    """One-hot of the largest entry along the last dimension; with scores = logits + Gumbel noise, a sample of q."""
    return torch.zeros_like(scores).scatter(-1, scores.argmax(-1, keepdim=True), 1.0)


def log_q(codes: Tensor, logits_BLK: Tensor) -> Tensor:
    """log q(z|x) of one-hot codes ``(..., B, L, K)``, nats, ``(..., B)``."""
    return (codes * log_softmax(logits_BLK)).sum((-1, -2))


def conditional_gumbel(log_pi: Tensor, sample: Tensor, noise: Tensor) -> Tensor:
    """log π + G given that its largest entry is the sample's, from standard Gumbel noise (arXiv 2010.04838).

    With E = exp(−noise) ~ Exp(1), the sample's entry is −log E_i and any other −log(E_j/π_j + E_i), which keeps it the
    largest. Differentiable in ``log_pi``, which must be normalised. All ``(..., L, K)``.
    """
    top = (noise * sample).sum(-1, keepdim=True)
    return torch.where(sample > 0, top, -torch.logaddexp(-noise - log_pi, -top))


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
