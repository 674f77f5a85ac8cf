"""An estimator's bias, variance, cosine and error, from N draws of its gradient.

Shapes: n draws, P numbers of a gradient.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from gsvae.estimation.moments import Moments, Sample, jackknife
from gsvae.estimation.problem import Problem
from gsvae.estimation.reference import Reference
from gsvae.sampling import BoundSampler, Sampler

__all__ = ["Measurement", "is_deterministic", "measure", "objection"]


@dataclass(frozen=True)
class Measurement:
    """An estimator g against g* = ∇ E_q[−log p(x|z)], from N draws with mean ḡ.

    Attributes:
        bias2: (‖ḡ − g*‖² − V/N) / ‖g*‖², the squared bias relative to the squared gradient. Of a sampled g* the
            variance of its mean is subtracted as well. Right in expectation, it comes out negative half of the time
            where there is no bias.
        variance: V / ‖g*‖², V = 1/(N−1) Σ ‖g_n − ḡ‖², the trace of the covariance of one draw.
        cosine: mean over the draws of cos(g_n, g*).
        relative_error: √(E‖g − g*‖²) / ‖g*‖ = √(bias2 + variance), of one draw.
        norm: ‖g*‖, nats per image.
        draws: N.
        bias2_se, variance_se, cosine_se: standard errors, by the jackknife for the first two.
    """

    bias2: float
    bias2_se: float
    variance: float
    variance_se: float
    cosine: float
    cosine_se: float
    relative_error: float
    norm: float
    draws: int

    @property
    def is_biased(self) -> bool:
        """Whether the bias is told from 0: more than two standard errors, and more than rounding makes of it."""
        return self.bias2 > max(2 * self.bias2_se, 1e-8)

    def numbers(self) -> dict[str, float]:
        """Everything, by name."""
        return asdict(self)

    def metrics(self) -> dict[str, float]:
        """The four numbers, under their metric names."""
        names = ("bias2", "variance", "cosine", "relative_error")
        return {f"gradient/{name}": getattr(self, name) for name in names}


def measure(
    problem: Problem,
    sampler: Sampler,
    tau: float,
    draws: int,
    seed: int,
    reference: Reference,
    check: Callable[[], None] = lambda: None,
) -> Measurement:
    """Measure a sampler at a temperature.

    Args:
        draws: N, at least 4; of a sampler without noise, whose draws are all the same, 4 are made.
        seed: of its noise.
        check: called between parts of the work; may raise to stop.
    """
    draws = 4 if is_deterministic(problem, sampler) else draws
    moments = Moments(draws, problem.size, problem.x_BD.device)
    goal_P = reference.gradient.whole().mean
    goal_norm = reference.norm
    cosines: list[Tensor] = []
    for draws_nP in problem.draws(sampler, tau, draws, seed, check):
        moments.add(draws_nP)
        draws_nP = draws_nP.to(goal_P)
        norms_n = torch.linalg.vector_norm(draws_nP, dim=1).clamp(min=1e-300)  # a draw may be 0
        cosines.append(draws_nP @ goal_P / norms_n / goal_norm)
    cosines_N = torch.cat(cosines)
    bias2, bias2_se = jackknife(relative_bias2, moments, reference.gradient)
    variance, variance_se = jackknife(relative_variance, moments, reference.gradient)
    return Measurement(
        bias2,
        bias2_se,
        variance,
        variance_se,
        cosines_N.mean().item(),
        cosines_N.std().item() / math.sqrt(draws),
        math.sqrt(max(bias2 + variance, 0.0)),
        goal_norm,
        draws,
    )


def relative_bias2(estimate: Sample, goal: Sample) -> float:
    apart = (estimate.mean - goal.mean).square().sum().item()
    return (apart - estimate.remaining - goal.remaining) / squared_norm(goal)


def relative_variance(estimate: Sample, goal: Sample) -> float:
    return estimate.variance / squared_norm(goal)


def squared_norm(goal: Sample) -> float:
    """‖g*‖²; NaN where nothing of it is left."""
    return goal.norm2 or math.nan


def is_deterministic(problem: Problem, sampler: Sampler) -> bool:
    """Whether a sampler takes no noise."""
    return math.prod(sampler.noise_shape(*problem.logits_BLK.shape)) == 0


def objection(sampler: Sampler) -> str | None:
    """Why a sampler cannot be measured; None if it can."""
    if isinstance(sampler, BoundSampler):
        return "it estimates the gradient of another bound than the ELBO"
    return None
