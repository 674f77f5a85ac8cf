"""The laboratory: every estimator at every temperature on one checkpoint of a run."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from omegaconf import DictConfig, OmegaConf

from gsvae.data import Images, Splits
from gsvae.errors import UserError
from gsvae.gradients.estimators import Candidate, candidates
from gsvae.gradients.measure import Measurement, measure, objection
from gsvae.gradients.problem import Problem, fixed_pixels
from gsvae.gradients.reference import make_reference
from gsvae.gradients.timing import step_seconds
from gsvae.parts import build_objective, choose_device, load_data
from gsvae.sampling import Soft
from gsvae.training.checkpoint import read_checkpoint
from gsvae.training.streams import derive_seed

__all__ = ["Report", "Row", "Settings", "investigate"]

log = logging.getLogger(__name__)

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
        wrt: encoder or logits, see :class:`.problem.Problem`.
        checkpoint: best, last, or a checkpoint's path.
        reference: auto, exact or rloo; ``reference_draws`` of 16 codes each make a sampled one.
        seed: of all noise.
        device: as in a run's config.
        data_root: where the data are, if not where the run had them.
    """

    estimators: Sequence[str] | None = None
    taus: Sequence[float] = (0.1, 0.3, 0.5, 1.0, 2.0)
    draws: int = 1000
    images: int = 100
    split: str = "test"
    wrt: str = "encoder"
    checkpoint: str = "best"
    reference: str = "auto"
    reference_draws: int = 2000
    seed: int = 0
    device: str = "auto"
    data_root: str | None = None


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
        config: the run's.
        state: what the checkpoint says: step, epoch, run_id.
        reference: how g* was made, in words; ``remaining`` is its variance relative to ‖g*‖².
        left_out: by name, why an estimator could not be measured.
    """

    run: Path
    checkpoint: Path
    config: DictConfig
    state: dict[str, Any]
    settings: Settings
    n_images: int
    device: str
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


def investigate(run: Path, settings: Settings, progress: Progress) -> Report:
    """Measure the estimators on a run's checkpoint.

    Raises:
        UserError: no checkpoint, no such estimator, or one that cannot be measured and was asked for by name.
    """
    path = checkpoint_of(run, settings.checkpoint)
    state = read(path)
    cfg = config_of(state, settings)
    device = choose_device(cfg)
    data, splits = load_data(cfg, device)
    objective = build_objective(cfg, data, splits, device)
    model = objective.model
    weights = {key.removeprefix("model."): value for key, value in state["weights"].items() if key.startswith("model.")}
    model.load_state_dict(weights)
    model.eval()
    images = images_of(splits, settings.split, run)
    dtype = model.prior_logits_LK.dtype
    seeds = {name: derive_seed(settings.seed, f"gradients/{name}") for name in ("pixels", "draws", "reference")}
    dynamic = cfg.data.get("binarize") == "dynamic"
    x_BD = fixed_pixels(images, settings.images, dtype, seeds["pixels"], dynamic=dynamic)
    problem = Problem(model, x_BD, settings.wrt, cfg.evaluation.max_rows)
    chosen, left_out = sort_out(candidates(cfg, state["weights"], settings.estimators), problem, settings)
    for candidate in chosen:
        candidate.sampler.to(device, dtype)
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
        checkpoint=path,
        config=cfg,
        state={key: state.get(key) for key in ("step", "epoch", "run_id")},
        settings=settings,
        n_images=len(x_BD),
        device=device_name(device),
        reference=reference.words(),
        remaining=reference.remaining,
        norm=reference.norm2**0.5 if reference.norm2 > 0 else float("nan"),
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
        for tau in taus if getattr(candidate.sampler, "uses_tau", True) else [None]:
            yield candidate, tau


def cost(problem: Problem, chosen: Sequence[Candidate]) -> dict[str, tuple[int, float, float]]:
    """Decoder calls for each image, seconds of a step, and the same in steps of ``soft``."""
    samplers = {candidate.name: candidate.sampler for candidate in chosen}
    seconds = step_seconds(problem, {SOFT: Soft(), **samplers})
    return {
        name: (problem.decoder_calls(sampler), seconds[name], seconds[name] / seconds[SOFT])
        for name, sampler in samplers.items()
    }


# ---------------------------------------------------------------- what it is measured on


def checkpoint_of(run: Path, given: str) -> Path:
    """The checkpoint that ``best``, ``last`` or a path names.

    Raises:
        UserError: there is none.
    """
    folder = run / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{run}: expected a run folder with checkpoints/")
    path = folder / f"{given}.pt" if given in ("best", "last") else Path(given)
    if not path.is_file():
        there = [name for name in ("best", "last") if (folder / f"{name}.pt").is_file()]
        hint = f"; there is --checkpoint {there[0]}" if there else ""
        raise UserError(f"--checkpoint {given}: there is no {path}{hint}")
    return path


def read(path: Path) -> dict[str, Any]:
    """A checkpoint, for its weights."""
    try:
        return read_checkpoint(path)
    except UserError as error:
        raise UserError(str(error).removeprefix("resume=")) from error


def config_of(state: dict[str, Any], settings: Settings) -> DictConfig:
    """The run's config, for this machine and in float32 or float64: what made a step quicker has no part in this."""
    cfg = OmegaConf.create(state["config"])
    assert isinstance(cfg, DictConfig)
    cfg.device = settings.device
    cfg.training.precision = "fp64" if cfg.training.precision == "fp64" else "fp32"
    cfg.training.compile = False
    if settings.data_root is not None:
        cfg.data.root = settings.data_root
    return cfg


def images_of(splits: Splits, split: str, run: Path) -> Images:
    images: Images | None = getattr(splits, split)
    if images is None:
        raise UserError(f"--split {split}: {run} held no validation images out (data.n_val=0)")
    return images


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
