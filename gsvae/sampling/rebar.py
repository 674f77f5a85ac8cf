"""REBAR: REINFORCE with the relaxed objective as its control variate, reparameterised."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gsvae.categories import log_softmax, softmax
from gsvae.sampling.base import (
    Estimate,
    LogLikelihood,
    Sampler,
    conditional_gumbel,
    one_hot_argmax,
    value_zero,
)

__all__ = ["REBAR"]


class REBAR(Sampler):
    """[f(D) − η c(s̃)] ∇log q(D) + η ∇c(s) − η ∇c(s̃) with c(s) = f(softmax(s/τ')) (arXiv 1703.07370).

    s = log π + G gives D; s̃ is drawn given D, and differentiated through. Unbiased for every η and τ'. With
    ``adaptive`` both are learned: η from ``eta``, and τ' from the schedule's τ, of which it is a multiple. They descend
    the mean squared norm of the gradient to an image's logits, in units of what it would be without control variate:
    so their own gradients do not depend on the size of f. Three decoder calls, two of them differentiated with respect
    to the code, twice where it learns.
    """

    compiles = False

    def __init__(self, eta: float = 1.0, adaptive: bool = True) -> None:
        super().__init__()
        numbers = {"log_eta": torch.tensor(math.log(eta)), "log_scale": torch.tensor(0.0)}
        for name, value in numbers.items():
            if adaptive:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def noise_shape(self, B: int, L: int, K: int) -> tuple[int, ...]:
        return (2, B, L, K)

    def forward(self, logits_BLK: Tensor, tau: Tensor, noise: Tensor, log_likelihood: LogLikelihood) -> Estimate:
        constant = logits_BLK.detach()
        sample = one_hot_argmax(constant + noise[0])
        f_B = -log_likelihood(sample)
        numbers = dict(self.named_buffers())
        learned = dict(self.named_parameters())

        score2_B = (sample - softmax(constant)).square().sum((-1, -2))
        unit = (f_B.detach().square() * score2_B).mean() + torch.finfo(f_B.dtype).tiny

        def variance(learned: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
            gradient_BLK = self._gradient(numbers | dict(learned), constant, tau, noise, sample, f_B, log_likelihood)
            return gradient_BLK.square().sum((-1, -2)).mean() / unit, gradient_BLK

        # Worked out here, not left to autograd: the decoder must not learn from the control variate.
        with torch.no_grad():
            if learned:
                slopes, gradient_BLK = torch.func.grad(variance, has_aux=True)(learned)
            else:
                slopes, (_, gradient_BLK) = {}, variance(learned)
        surrogate_B = f_B + value_zero((gradient_BLK * logits_BLK).sum((-1, -2)))
        for name, parameter in learned.items():
            surrogate_B = surrogate_B + value_zero((slopes[name] * parameter).sum())
        return Estimate(surrogate_B, f_B.detach())

    def _gradient(
        self,
        numbers: Mapping[str, Tensor],
        logits_BLK: Tensor,
        tau: Tensor,
        noise: Tensor,
        sample: Tensor,
        f_B: Tensor,
        log_likelihood: LogLikelihood,
    ) -> Tensor:
        """The estimate itself, ``(B, L, K)``."""
        eta, scale = numbers["log_eta"].exp(), numbers["log_scale"].exp()

        def difference(logits_BLK: Tensor) -> tuple[Tensor, Tensor]:
            log_pi = log_softmax(logits_BLK)
            s = torch.stack((log_pi + noise[0], conditional_gumbel(log_pi, sample, noise[1])))
            free_B, given_B = self.control(numbers, softmax(s / (tau * scale)), log_likelihood)
            return (free_B - given_B).sum(), given_B

        slope_BLK, given_B = torch.func.grad(difference, has_aux=True)(logits_BLK)
        score_BLK = sample - softmax(logits_BLK)
        return (f_B.detach() - eta * given_B)[:, None, None] * score_BLK + eta * slope_BLK

    def control(self, numbers: Mapping[str, Tensor], relaxed: Tensor, log_likelihood: LogLikelihood) -> Tensor:
        """c, ``(..., B)``, of relaxed codes ``(..., B, L, K)``."""
        return -log_likelihood(relaxed)
