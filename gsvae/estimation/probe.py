"""A run's own estimator, measured while it trains."""

from collections.abc import Callable
from dataclasses import dataclass

from gsvae.data import Images
from gsvae.estimation.measure import measure
from gsvae.estimation.problem import Problem, fixed_pixels
from gsvae.estimation.reference import make_reference
from gsvae.objective import Objective

__all__ = ["Probe"]


@dataclass(frozen=True)
class Probe:
    """Measures the gradient to the encoder's parameters on fixed images.

    Attributes:
        every: epochs from one measurement to the next; there is one after the last epoch.
        images: the first ``n_images`` of them are taken.
        draws: N; a sampled reference has as many, of 16 codes each.
        max_rows: codes decoded at once.
        dynamic: binarise the images, once and for all.
    """

    every: int
    images: Images
    n_images: int
    draws: int
    max_rows: int
    dynamic: bool

    def __call__(
        self, objective: Objective, tau: float, seeds: tuple[int, int], check: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """``gradient/bias2``, ``variance``, ``cosine`` and ``relative_error``; see :class:`.measure.Measurement`.

        Args:
            seeds: of the estimates and of the reference. The same weights are always measured with the same noise.
            check: called between parts of the work; may raise to stop.
        """
        of_draws, of_reference = seeds
        dtype = objective.model.prior_logits_LK.dtype
        x_BD = fixed_pixels(self.images, self.n_images, dtype, of_reference, dynamic=self.dynamic)
        problem = Problem(objective.model, x_BD, max_rows=self.max_rows)
        reference = make_reference(problem, self.draws, of_reference, check=check)
        return measure(problem, objective.sampler, tau, self.draws, of_draws, reference, check).metrics()
