"""The parts a config names, built: data, model, schedules, records, lanes and the loop around them."""

import inspect
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from gsvae.build import build
from gsvae.data import ImageData, Splits
from gsvae.errors import UserError
from gsvae.estimation.measure import objection
from gsvae.estimation.probe import Probe
from gsvae.evaluation import Evaluator
from gsvae.identity import environment, numeric_settings, run_id, run_name
from gsvae.model import CategoricalVAE
from gsvae.objective import Objective
from gsvae.resume import Resumed
from gsvae.sampling import Sampler
from gsvae.tracking import RunFolder, Tracker, WandbSettings, read_status
from gsvae.tracking.wandb_service import agents_sweep
from gsvae.training.batches import Batches
from gsvae.training.lane import Lane
from gsvae.training.loop import Plan, Trainer
from gsvae.training.pack import Pack
from gsvae.training.run import Run
from gsvae.training.schedules import Warmup
from gsvae.training.streams import seeded

__all__ = [
    "build_objective",
    "count_steps",
    "describe",
    "load_data",
    "make_lane",
    "make_lanes",
    "make_run",
    "make_trainer",
    "schedule",
    "shared_parts",
]

log = logging.getLogger(__name__)


def choose_device(cfg: DictConfig) -> torch.device:
    """The device of the run; auto takes CUDA, then MPS, then the CPU."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    there |= {f"cuda:{index}": True for index in range(torch.cuda.device_count())}
    device = next(name for name, is_there in there.items() if is_there) if cfg.device == "auto" else cfg.device
    if not there.get(device):
        available = ", ".join(name for name, is_there in there.items() if is_there)
        raise UserError(f"device={device}: this machine has {available}")
    name = torch.device(device).type
    if cfg.training.precision == "tf32" and name != "cuda":
        raise UserError(f"training.precision=tf32: only on device=cuda, this run is on {name}")
    if cfg.training.precision == "fp64" and name == "mps":
        raise UserError("training.precision=fp64: mps has no float64; use device=cpu")
    if cfg.training.compile and name == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        raise UserError("training.compile=true: needs a C++ compiler (g++) on the CPU; install one, or leave it out")
    return torch.device(device)


def shared_parts(cfg: DictConfig) -> tuple[torch.device, ImageData, Splits]:
    """What the runs of a pack have in common: device, arithmetic and data."""
    device = choose_device(cfg)
    if cfg.training.threads:
        torch.set_num_threads(cfg.training.threads)
    torch.set_float32_matmul_precision("high" if cfg.training.precision == "tf32" else "highest")
    return device, *load_data(cfg, device)


def load_data(cfg: DictConfig, device: torch.device) -> tuple[ImageData, Splits]:
    """The data set's description and its splits on the device."""
    data = build(cfg.data, allow=cfg.allow_targets, key="data")
    if not isinstance(data, ImageData):
        raise UserError(f"data._target_={cfg.data._target_}: must make a gsvae.data.ImageData")
    splits = data.splits()
    if splits.val is not None and cfg.evaluation.val_on_test:
        raise UserError("evaluation.val_on_test=true: needs data.n_val=0; there are validation images already")
    if cfg.training.batch_size > len(splits.train):
        raise UserError(
            f"training.batch_size={cfg.training.batch_size}: must be at most the {len(splits.train)} training images"
        )
    val = splits.val.to(device) if splits.val else None
    return data, Splits(splits.train.to(device), val, splits.test.to(device))


def count_steps(cfg: DictConfig, splits: Splits) -> int:
    """Steps of the whole run: ``training.steps``, or whole batches times ``training.epochs``."""
    return cfg.training.steps or cfg.training.epochs * (len(splits.train) // cfg.training.batch_size)


def build_objective(cfg: DictConfig, data: ImageData, splits: Splits, device: torch.device) -> Objective:
    """Model and sampler of one run, initialised from its seed alone, on the device."""

    def make() -> Objective:
        # The model first: it starts the same whatever the sampler draws for itself.
        model = build(cfg.model, allow=cfg.allow_targets, key="model", image_shape=data.image_shape)
        if not isinstance(model, CategoricalVAE):
            raise UserError(f"model._target_={cfg.model._target_}: must make a gsvae.model.CategoricalVAE")
        sampler = build(cfg.sampling, allow=cfg.allow_targets, key="sampling")
        if not isinstance(sampler, Sampler):
            raise UserError(f"sampling._target_={cfg.sampling._target_}: must make a gsvae.sampling.Sampler")
        reason = objection(sampler)
        if cfg.training.compile and not sampler.compiles:
            raise UserError(
                f"training.compile=true: must be false with sampling._target_={cfg.sampling._target_}, for "
                "torch.compile cannot follow an estimator that differentiates by itself"
            )
        if cfg.evaluation.gradient_every and reason:
            raise UserError(
                f"evaluation.gradient_every={cfg.evaluation.gradient_every}: must be 0 with "
                f"sampling._target_={cfg.sampling._target_}, for {reason}"
            )
        return Objective(model, sampler)

    objective = seeded(cfg.seed, "init", make)
    if objective.model.init_bias:
        pixels = splits.train.pixels_ND
        sums_D = torch.stack([part.sum(0, dtype=torch.int64).cpu() for part in pixels.split(10_000)]).sum(0)
        objective.model.start_at_mean((sums_D.double() / (255 * len(pixels))).float())
    dtype = torch.float64 if cfg.training.precision == "fp64" else torch.float32
    return objective.to(device=device, dtype=dtype)


def schedule(cfg: DictConfig, node: DictConfig, key: str, total_steps: int) -> Any:
    """A schedule of the global step; ``steps: null`` becomes the length of the run."""
    filled = node.copy()
    if "steps" in node and node.steps is None:
        filled.steps = total_steps
    return build(filled, allow=cfg.allow_targets, key=key)


def make_run(
    cfg: DictConfig,
    folder: Path,
    choices: dict[str, Any],
    device: torch.device,
    total_steps: int,
    resumed: Resumed | None,
    overrides: Sequence[str] = (),
    *,
    light: bool = False,
) -> Run:
    """What the run alone owns: its schedules, streams and record; ``light`` is for W&B."""
    base_lr, beta = cfg.optim.lr, cfg.training.beta
    decay = schedule(cfg, cfg.optim.schedule, "optim.schedule", total_steps)
    warmup = Warmup(cfg.training.beta_warmup)
    identity = run_id(cfg)
    wandb_id = resumed.state["wandb_id"] if resumed else wandb_id_for(folder, identity)
    settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    about = describe(cfg, choices, overrides, wandb_id)
    name = about["name"]
    t = cfg.tracking
    wandb = WandbSettings(
        mode=t.mode,
        project=t.project,
        entity=t.entity,
        name=name,
        group=t.group or agents_sweep(),
        job_type=t.job_type,
        tags=t.tags,
        notes=t.notes,
        id=wandb_id,
        folder=folder,
        light=light,
        config={
            **{str(k): v for k, v in settings.items()},
            "choices": about["choices"],
            "run_id": identity,
            "run_folder": str(folder),
        },
    )
    return Run.create(
        device,
        seed=cfg.seed,
        tau=schedule(cfg, cfg.tau, "tau", total_steps),
        lr=lambda step: base_lr * decay(step),
        beta=lambda step: beta * warmup(step),
        clip=cfg.optim.get("clip"),
        tracker=Tracker(RunFolder(folder, about), None if t.mode == "disabled" else wandb),
        checkpoints=folder / "checkpoints",
        header={"config": OmegaConf.to_yaml(cfg, resolve=True), "run_id": identity, "wandb_id": wandb_id},
    )


def describe(
    cfg: DictConfig, choices: dict[str, Any], overrides: Sequence[str], wandb_id: str | None
) -> dict[str, Any]:
    """What ``status.json`` says of a run whatever becomes of it."""
    return {
        "name": cfg.tracking.name or run_name(cfg, choices),
        "run_id": run_id(cfg),
        "wandb_id": wandb_id,
        "overrides": [o for o in overrides if not o.startswith(("resume=", "sweep."))],
        "settings": numeric_settings(cfg),
        "choices": {group: option for group, option in choices.items() if not group.startswith("hydra/")},
        "environment": environment(),
    }


def wandb_id_for(folder: Path, identity: str) -> str:
    """The run's id and some more, for W&B never takes an id twice; under ``wandb agent``, the id the agent gave.

    A run killed before its first checkpoint begins anew, and goes on in the W&B run it has.
    """
    if agents_sweep():
        return os.environ["WANDB_RUN_ID"]
    known = read_status(folder)
    goes_on = known.get("run_id") == identity and known.get("state") in ("running", "interrupted", "failed")
    return (goes_on and known.get("wandb_id")) or f"{identity}-{secrets.token_hex(3)}"


def make_optimizer(cfg: DictConfig, device: torch.device) -> Any:
    """The optimiser class with its settings bound; fused where torch has it."""
    node = OmegaConf.create({k: v for k, v in cfg.optim.items() if k not in ("clip", "schedule")})
    factory: partial[torch.optim.Optimizer] = build(node, allow=cfg.allow_targets, key="optim", partial=True)
    fused = "fused" in inspect.signature(factory.func).parameters and device.type in ("cpu", "cuda")
    return partial(factory, fused=True) if fused else factory


def make_lanes(cfg: DictConfig, objectives: Sequence[Objective], runs: Sequence[Run], splits: Splits) -> list[Lane]:
    """The runs as computations; ``cfg`` is any one's, for what they have in common.

    On the CPU each run is a lane of its own, and its numbers are to the last bit those it would have alone: there is
    nothing to win by batching, for one run keeps the processor busy. Elsewhere all are one lane, if they can be lifted.
    """
    lifted = len(runs) > 1 and (splits.train.pixels_ND.device.type != "cpu" or cfg.training.compile)
    if lifted:
        lane = make_lane(cfg, objectives, runs, splits)
        reason = lane.hindrance()
        if reason is None:
            return [lane]
        log.warning("the runs of this pack take turns instead of being one computation: %s", reason)
    return [make_lane(cfg, [objective], [run], splits) for objective, run in zip(objectives, runs, strict=True)]


def make_lane(cfg: DictConfig, objectives: Sequence[Objective], runs: Sequence[Run], splits: Splits) -> Lane:
    """Runs as one computation."""
    t, e = cfg.training, cfg.evaluation
    pack = Pack(
        objectives,
        make_optimizer(cfg, splits.train.pixels_ND.device),
        [run.clip for run in runs],
        bf16=t.precision == "bf16",
        compiled=t.compile,
    )
    model, sampler = objectives[0].model, objectives[0].sampler
    dynamic = cfg.data.get("binarize") == "dynamic"
    batches = Batches(
        splits.train.pixels_ND,
        t.batch_size,
        [run.streams for run in runs],
        sampler.noise_shape(t.batch_size, model.n_latent, model.n_cat),
        pack.dtype,
        dynamic=dynamic,
    )
    evaluator = Evaluator(e.n_samples, e.iwae_samples, e.max_rows, dynamic)
    return Lane(pack, runs, batches, evaluator, cfg.tracking.log_every)


def make_trainer(
    cfg: DictConfig,
    lanes: Sequence[Lane],
    splits: Splits,
    total_steps: int,
    report: Callable[[Run], None] = lambda run: None,
    watch: Callable[[], None] | None = None,
) -> Trainer:
    """The loop around these lanes."""
    plan = Plan(
        steps=total_steps,
        log_every=cfg.tracking.log_every,
        evaluate_every=cfg.evaluation.every,
        images_every=cfg.tracking.images_every,
        checkpoint_seconds=cfg.training.checkpoint_seconds,
        val_on_test=cfg.evaluation.val_on_test,
        on_train=cfg.evaluation.on_train,
    )
    return Trainer(lanes, splits, plan, report, watch, make_probe(cfg, splits))


def make_probe(cfg: DictConfig, splits: Splits) -> Probe | None:
    """What measures the runs' estimators while they train, if anything does."""
    e = cfg.evaluation
    if not e.gradient_every:
        return None
    return Probe(
        every=e.gradient_every,
        images=splits.val or splits.train,
        n_images=e.gradient_images,
        draws=e.gradient_draws,
        max_rows=e.max_rows,
        dynamic=cfg.data.get("binarize") == "dynamic",
    )
