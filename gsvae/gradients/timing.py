"""What a training step costs with each estimator, in time."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from gsvae.estimation.problem import Problem, seeded_on
from gsvae.objective import Objective
from gsvae.sampling import Sampler

__all__ = ["step_seconds"]

ROUNDS = 15
SECONDS = 20.0  # that all of it may take; there are three rounds at least


def step_seconds(problem: Problem, samplers: Mapping[str, Sampler]) -> dict[str, float]:
    """Seconds of loss and gradients to all parameters on the images, by the names of the estimators; no optimiser.

    They take turns, and each one's median counts, so that a machine which is busy for a while slows all of them.
    """
    steps = {name: step_of(problem, sampler) for name, sampler in samplers.items()}
    for step in steps.values():  # the first one allocates
        step()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    begun = time.perf_counter()
    for done in range(ROUNDS):
        if done >= 3 and time.perf_counter() - begun > SECONDS:
            break
        for name, step in steps.items():
            before = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - before)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def step_of(problem: Problem, sampler: Sampler) -> Callable[[], None]:
    """A training step without the optimiser's."""
    objective, x_BD = Objective(problem.model, sampler), problem.x_BD
    (noise,) = problem.noise(sampler, 1, seeded_on(x_BD.device, 0))
    one = torch.ones((), device=x_BD.device, dtype=x_BD.dtype)
    parameters = list(objective.parameters())

    def step() -> None:
        loss = objective(x_BD, noise, one, one).loss
        torch.autograd.grad(loss, parameters, allow_unused=True)
        if x_BD.device.type == "cuda":
            torch.cuda.synchronize(x_BD.device)

    return step
