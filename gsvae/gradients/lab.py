"""The laboratory: every estimator at every temperature on one checkpoint of a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from gsvae.data import Images
from gsvae.errors import UserError
from gsvae.estimation.measure import Measurement, measure, objection
from gsvae.estimation.problem import Problem, fixed_pixels
from gsvae.estimation.reference import make_reference
from gsvae.gradients.estimators import Candidate, candidates
from gsvae.gradients.timing import step_seconds
from gsvae.loaded import LoadedRun
from gsvae.sampling import Soft
from gsvae.training.streams import derive_seed

__all__ = ["Report", "Row", "Settings", "investigate"]

SOFT = "soft"  # whose step is the unit of time


@dataclass(frozen=True)
class Settings:
    """What is asked of the laboratory.

    Attributes:
        estimators: names, see :func:`.estimators.candidates`; None for all.
        taus: temperatures, for the estimators that have one.
        draws: N of each estimator at each temperature.
        images: the first of the split.
        split: train, val or test.
        wrt: encoder or logits, see :class:`~gsvae.estimation.problem.Problem`.
        reference: auto, exact or rloo; ``reference_draws`` of 16 codes each make a sampled one.
        seed: of all noise.
    """

    estimators: Sequence[str] | None = None
    taus: Sequence[float] = (0.1, 0.3, 0.5, 1.0, 2.0)
    draws: int = 1000
    images: int = 100
    split: str = "test"
    wrt: str = "encoder"
    reference: str = "auto"
    reference_draws: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """An estimator at a temperature, None where it has none.

    Attributes:
        weights: trained or untrained, of an estimator with parameters; else empty.
        decoder_calls: codes decoded for each image in one step.
        seconds: of a training step without the optimiser's, on this machine.
        time_ratio: the same in steps of ``soft``.
    """

    estimator: str
    weights: str
    tau: float | None
    measured: Measurement
    decoder_calls: int
    seconds: float
    time_ratio: float


@dataclass(frozen=True)
class Report:
    """All that was found out about one checkpoint.

    Attributes:
        reference: how g* was made, in words; ``remaining`` is its variance relative to ‖g*‖².
        left_out: by name, why an estimator could not be measured.
    """

    run: LoadedRun
    settings: Settings
    n_images: int
    reference: str
    remaining: float
    norm: float
    rows: list[Row]
    left_out: dict[str, str]


class Progress(Protocol):
    """What is told of how far the work is."""

    def begin(self, total: int) -> None:
        """So many pieces of work in all."""

    def done(self, words: str) -> None:
        """One more, and what came of it."""


def investigate(run: LoadedRun, settings: Settings, progress: Progress) -> Report:
    """Measure the estimators on a run's checkpoint.

    Raises:
        UserError: no such images, no such estimator, or one that cannot be measured and was asked for by name.
    """
    torch.set_float32_matmul_precision("highest")  # what made the run quicker has no part in this
    cfg, model = run.cfg, run.objective.model
    images: Images | None = getattr(run.splits, settings.split)
    if images is None:
        raise UserError(f"--split {settings.split}: {run.folder} held no validation images out (data.n_val=0)")
    dtype = model.prior_logits_LK.dtype
    seeds = {name: derive_seed(settings.seed, f"gradients/{name}") for name in ("pixels", "draws", "reference")}
    dynamic = cfg.data.get("binarize") == "dynamic"
    x_BD = fixed_pixels(images, settings.images, dtype, seeds["pixels"], dynamic=dynamic)
    problem = Problem(model, x_BD, settings.wrt, cfg.evaluation.max_rows)
    chosen, left_out = sort_out(candidates(cfg, run.objective.sampler, settings.estimators), problem, settings)
    for candidate in chosen:
        candidate.sampler.to(run.device, dtype)
    work = list(pieces(chosen, settings.taus))
    progress.begin(len(work) + 2)
    reference = make_reference(problem, settings.reference_draws, seeds["reference"], settings.reference)
    progress.done(f"reference: {reference.words()}")
    costs = cost(problem, chosen)
    progress.done("time of a step with each")
    rows = []
    for candidate, tau in work:
        found = measure(problem, candidate.sampler, tau or 1.0, settings.draws, seeds["draws"], reference)
        rows.append(Row(candidate.name, candidate.weights, tau, found, *costs[candidate.name]))
        at = "" if tau is None else f" τ={tau:g}"
        progress.done(f"{candidate.name}{at}: bias² {found.bias2:.3g}, variance {found.variance:.3g}")
    return Report(
        run=run,
        settings=settings,
        n_images=len(x_BD),
        reference=reference.words(),
        remaining=reference.remaining,
        norm=reference.norm,
        rows=rows,
        left_out=left_out,
    )


# ---------------------------------------------------------------- what is measured


def sort_out(
    found: Sequence[Candidate], problem: Problem, settings: Settings
) -> tuple[list[Candidate], dict[str, str]]:
    """Those that can be measured, and by name why others cannot; that ends it for one that was asked for by name."""
    chosen, left_out = [], {}
    for candidate in found:
        try:
            candidate.sampler.noise_shape(*problem.logits_BLK.shape)  # refuses what is too large
            reason = objection(candidate.sampler)
        except UserError as error:
            reason = str(error)
        if reason is None:
            chosen.append(candidate)
        elif settings.estimators:
            raise UserError(f"--estimators {candidate.name}: {reason}")
        else:
            left_out[candidate.name] = reason
    return chosen, left_out


def pieces(chosen: Sequence[Candidate], taus: Sequence[float]) -> Iterator[tuple[Candidate, float | None]]:
    """Each estimator with each temperature, or once where τ has no part in it."""
    for candidate in chosen:
        for tau in taus if candidate.sampler.uses_tau else [None]:
            yield candidate, tau


def cost(problem: Problem, chosen: Sequence[Candidate]) -> dict[str, tuple[int, float, float]]:
    """Decoder calls for each image, seconds of a step, and the same in steps of ``soft``."""
    samplers = {candidate.name: candidate.sampler for candidate in chosen}
    seconds = step_seconds(problem, {SOFT: Soft(), **samplers})
    return {
        name: (problem.decoder_calls(sampler), seconds[name], seconds[name] / seconds[SOFT])
        for name, sampler in samplers.items()
    }
