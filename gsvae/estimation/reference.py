"""What estimates are held against: the exact gradient by enumeration, or many samples of an unbiased estimator.

Shapes: n codes, B images, L latents, K categories, P numbers of a gradient.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import torch

from gsvae.categories import log_softmax
from gsvae.errors import UserError
from gsvae.estimation.moments import Fixed, Groups, Moments, home_of
from gsvae.estimation.problem import Problem
from gsvae.sampling import RLOO
from gsvae.sampling.exact import codes_of

__all__ = ["MAX_CODES", "Reference", "exact", "make_reference", "sampled"]

MAX_CODES = 1 << 16  # that are enumerated
SAMPLES = 16  # M of the sampled reference's RLOO


@dataclass(frozen=True)
class Reference:
    """g*, as well as it is known.

    Attributes:
        kind: ``exact`` or ``rloo``.
        gradient: g* itself, or draws whose mean it is.
        codes: that were decoded for each image.
    """

    kind: str
    gradient: Groups
    codes: int

    @property
    def norm2(self) -> float:
        """‖g*‖², without what a sampled mean's own variance adds to it."""
        return self.gradient.whole().norm2

    @property
    def norm(self) -> float:
        """‖g*‖; NaN where nothing of it is left."""
        return math.sqrt(self.norm2) if self.norm2 > 0 else math.nan

    @property
    def remaining(self) -> float:
        """The variance that is left in g*, relative to ‖g*‖²; 0 if it is exact."""
        return self.gradient.whole().remaining / self.norm2

    def words(self) -> str:
        """How it was made."""
        if self.kind == "exact":
            return f"exact, by enumeration of {self.codes:,} codes"
        return f"RLOO with {self.codes:,} codes per image, whose mean has a relative variance of {self.remaining:.2g}"


def make_reference(
    problem: Problem, draws: int, seed: int, kind: str = "auto", check: Callable[[], None] = lambda: None
) -> Reference:
    """The exact gradient if there are at most :data:`MAX_CODES` codes, else the mean of ``draws`` estimates.

    Args:
        kind: ``auto``, or what it has to be.
        seed: of a sampled one; it must not be that of the estimates to be measured.

    Raises:
        UserError: an exact one is asked for, and there are too many codes.
    """
    L, K = problem.logits_BLK.shape[1:]
    if kind == "auto":
        kind = "exact" if K**L <= MAX_CODES else "rloo"
    if kind == "rloo":
        return sampled(problem, draws, seed, check)
    if K**L > MAX_CODES:
        raise UserError(
            f"an exact reference: {K}^{L} = {Decimal(K) ** L:.3g} codes, and at most {MAX_CODES} are enumerated"
        )
    return exact(problem, check)


@torch.no_grad()
def exact(problem: Problem, check: Callable[[], None] = lambda: None) -> Reference:
    """∇ Σ_z q(z|x) f(z) over all K^L codes, f = −log p(x|z).

    To logits θ_lk it is Σ_z q(z|x) f(z) z_lk − π_lk Σ_z q(z|x) f(z). Each code is decoded once for all images, and
    no more than ``max_rows`` values of f are in memory at once. Sums are in float64.
    """
    B, L, K = problem.logits_BLK.shape
    home = home_of(problem.x_BD.device)
    log_pi_BLK = log_softmax(problem.logits_BLK.to(home).double())
    with_code_BLK, mean_B = torch.zeros_like(log_pi_BLK), log_pi_BLK.new_zeros(B)
    for index_n in torch.arange(K**L, device=home).split(max(1, problem.max_rows // B)):
        check()
        codes_nLK = codes_of(index_n, L, K, torch.float64)
        z_n1LK = codes_nLK.to(problem.x_BD.device, problem.x_BD.dtype).unsqueeze(1)
        f_nB = -problem.log_likelihood(z_n1LK).to(home).double()
        weighted_nB = (codes_nLK.flatten(1) @ log_pi_BLK.flatten(1).T).exp() * f_nB
        mean_B += weighted_nB.sum(0)
        with_code_BLK += (weighted_nB.T @ codes_nLK.flatten(1)).view(B, L, K)
    gradient_BLK = with_code_BLK - log_pi_BLK.exp() * mean_B.view(-1, 1, 1)
    (vector_P,) = problem.vectors(gradient_BLK.to(problem.logits_BLK).unsqueeze(0), lifted=False)
    return Reference("exact", Fixed(vector_P.to(home).double()), K**L)


def sampled(problem: Problem, draws: int, seed: int, check: Callable[[], None] = lambda: None) -> Reference:
    """The mean of ``draws`` estimates by RLOO with 16 samples, which is unbiased; its variance is known and told."""
    moments = Moments(draws, problem.size, problem.x_BD.device)
    for draws_nP in problem.draws(RLOO(SAMPLES), 1.0, draws, seed, check):
        moments.add(draws_nP)
    return Reference("rloo", moments, SAMPLES * draws)
