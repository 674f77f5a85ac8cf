"""The composition root: builds the parts a config names, trains them and says where everything is."""

import inspect
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from joblib import cpu_count
from omegaconf import DictConfig, OmegaConf

from gsvae.build import build
from gsvae.data import ImageData, Splits
from gsvae.errors import UserError, in_words
from gsvae.evaluation import Evaluator
from gsvae.identity import environment, numeric_settings, run_id, run_name
from gsvae.model import CategoricalVAE
from gsvae.objective import Objective
from gsvae.resume import Resumed, read_run
from gsvae.sampling import Sampler
from gsvae.tracking import RunFolder, Tracker, WandbSettings, read_status
from gsvae.tracking.console import table
from gsvae.tracking.painter import Painter
from gsvae.tracking.scope import run_scope
from gsvae.tracking.wandb_service import agents_sweep, choose_mode
from gsvae.training.batches import Batches
from gsvae.training.interrupt import Interrupted
from gsvae.training.lane import Lane
from gsvae.training.loop import Plan, Trainer
from gsvae.training.pack import Pack
from gsvae.training.run import Run
from gsvae.training.schedules import Warmup
from gsvae.training.streams import seeded

__all__ = ["Member", "Outcome", "record_failure", "run_experiment", "run_pack"]

log = logging.getLogger(__name__)


@dataclass
class Member:
    """A run to be trained, alone or with others.

    Attributes:
        cfg: a checked config.
        folder: the run folder.
        choices: which option of each config group was chosen, for the run's name.
        overrides: the command line's settings, recorded for ``resume=``.
        check: called before anything is written; raises ClaimLost where the run is another process's by now.
        give_up: told the epoch and metrics of every validation, answers whether the run is to be pruned.
        failing: called when the run fails, before the others go on.
    """

    cfg: DictConfig
    folder: Path
    choices: dict[str, Any]
    overrides: Sequence[str] = ()
    check: Callable[[], None] = lambda: None
    give_up: Callable[[int, Mapping[str, float]], bool] | None = None
    failing: Callable[[], None] = lambda: None


Outcome = dict[str, Any]
"""``state`` as in ``status.json``, or ``lost`` to another process; ``metrics`` of a finished run (nats per image);
``error`` in words, and ``exception`` of a failed or lost one."""


def run_experiment(member: Member) -> Outcome:
    """Train and evaluate one run; see :func:`run_pack`. Raises what made it fail."""
    (outcome,) = run_pack([member])
    if "exception" in outcome:
        raise outcome["exception"]
    return outcome


def run_pack(members: Sequence[Member], watch: Callable[[], None] | None = None) -> list[Outcome]:
    """Train and evaluate runs that differ in what a pack's runs may differ in, each in its own folder.

    Args:
        members: the runs; those with a checkpoint (``resume``) must all be at one step, and the others have none.
        watch: called between steps; what it raises ends all of them.

    Raises:
        Interrupted: by SIGINT or SIGTERM, or by ``watch``; after a checkpoint.
        Exception: of a computation that several runs share; they stand as interrupted.
    """
    outcomes: dict[int, Outcome] = {}
    try:
        device, data, splits = shared_parts(members[0].cfg)
    except (Exception, SystemExit) as error:
        return [not_begun(error) for _ in members]
    total_steps = count_steps(members[0].cfg, splits)
    begun: list[tuple[int, Begun]] = []
    for index, member in enumerate(members):
        with run_scope(member.folder):
            try:
                each = begin(member, data, splits, device, total_steps, several=len(members) > 1)
                begun.append((index, each))
            except (Exception, SystemExit) as error:
                outcomes[index] = not_begun(error)
                member.failing()
    if begun:
        ready = [each for _, each in begun]
        try:
            lanes = make_lanes(ready[0].cfg, [each.objective for each in ready], [each.run for each in ready], splits)
        except UserError as error:  # of settings that they share
            outcomes |= {index: not_begun(error) for index, _ in begun}
        else:
            train(ready, lanes, splits, total_steps, watch)
            outcomes |= {index: each.run.outcome for index, each in begun}
    return [outcomes[index] for index in range(len(members))]


@dataclass(frozen=True)
class Begun:
    """A run that can be trained."""

    cfg: DictConfig
    objective: Objective
    run: Run
    resumed: Resumed | None
    started: float


def begin(
    member: Member, data: ImageData, splits: Splits, device: torch.device, total_steps: int, *, several: bool
) -> Begun:
    """Build what the run alone owns.

    Raises:
        UserError: settings or files that cannot work.
    """
    cfg, started = member.cfg, time.monotonic()
    resumed = read_run(cfg, total_steps) if cfg.resume else None
    objective = build_objective(cfg, data, splits, device)
    if cfg.tracking.mode == "online":
        choose_mode("online")  # refuses where there is no login
    run = make_run(cfg, member.folder, member.choices, device, total_steps, resumed, member.overrides, light=several)
    run.check, run.give_up, run.failing = member.check, member.give_up, member.failing
    if several and device.type != "cpu":  # whose processors have nothing else to do
        run.tracker.painter = Painter(cpu_count())
    return Begun(cfg, objective, run, resumed, started)


def train(
    members: Sequence[Begun],
    lanes: Sequence[Lane],
    splits: Splits,
    total_steps: int,
    watch: Callable[[], None] | None,
) -> None:
    """Put on record that the runs are running, and train them to their ends, which are then on record."""
    runs = [member.run for member in members]
    reports = {id(member.run): partial(report, member.run, member.started, member.cfg) for member in members}

    def tell(run: Run) -> None:
        reports[id(run)]()

    for member in members:
        with run_scope(member.run.tracker.folder.path):
            member.run.tracker.start(member.resumed.state["history_rows"] if member.resumed else 0)
    try:
        trainer = make_trainer(members[0].cfg, lanes, splits, total_steps, tell, watch)
        resumed = [member.resumed for member in members if member.resumed]
        if resumed:
            trainer.resume([each.state for each in resumed], [each.best_weights for each in resumed])
            for run in runs:
                with run_scope(run.tracker.folder.path):
                    log.info("resuming %s at step %d of %d", run.tracker.folder.path, trainer.step, total_steps)
        trainer.fit()
    except Interrupted as stop:
        end_all(runs, "interrupted", str(stop))
        raise
    except KeyboardInterrupt:  # a second Ctrl-C, or one outside the loop
        end_all(runs, "interrupted", "stopped by SIGINT, without a checkpoint of its last steps")
        raise
    except (Exception, SystemExit) as error:
        if len(runs) > 1:
            end_all(runs, "interrupted", f"in a pack: {in_words(error)}")
            raise
        runs[0].attempt(reraise, error)
    finally:
        for run in runs:
            run.tracker.wait()


def end_all(runs: Sequence[Run], state: str, reason: str) -> None:
    """End the runs that have not ended."""
    for run in runs:
        if run.active:
            run.attempt(run.end, state, reason)


def reraise(error: BaseException) -> None:
    raise error


def not_begun(error: BaseException) -> Outcome:
    """The outcome of a run that could not begin; its folder knows nothing of it yet."""
    return {"state": "failed", "error": in_words(error), "exception": error}


def record_failure(member: Member, error: BaseException) -> None:
    """Put on record why a run failed, if it did not get so far as to do that itself."""
    message = in_words(error)
    known = read_status(member.folder)
    if (known.get("state"), known.get("error")) != ("failed", message):
        log.error("run failed", exc_info=error)
        about = describe(member.cfg, member.choices, member.overrides, known.get("wandb_id"))
        RunFolder(member.folder, about).status("failed", message)


# ---------------------------------------------------------------- parts


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
        sampler = build(cfg.sampling, allow=cfg.allow_targets, key="sampling")
        if not isinstance(sampler, Sampler):
            raise UserError(f"sampling._target_={cfg.sampling._target_}: must make a gsvae.sampling.Sampler")
        model = build(cfg.model, allow=cfg.allow_targets, key="model", image_shape=data.image_shape)
        if not isinstance(model, CategoricalVAE):
            raise UserError(f"model._target_={cfg.model._target_}: must make a gsvae.model.CategoricalVAE")
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
    )
    return Trainer(lanes, splits, plan, report, watch)


# ---------------------------------------------------------------- the end


def report(run: Run, started: float, cfg: DictConfig) -> None:
    """Write the summary, show the table, send best.pt if asked to, end the records."""
    outcome, folder = run.outcome, run.tracker.folder
    metrics, codes = outcome["metrics"], outcome["scores"]["test"].codes
    data_protocol = protocol(run)
    run.tracker.summary(
        {
            **metrics,
            "protocol": data_protocol,
            "seconds": round(time.monotonic() - started, 2),
            "peak_memory_mb": peak_memory(),
            "codes/kl_per_latent": codes.kl_L.tolist(),
        }
    )
    epoch = metrics.get("best/epoch", metrics["epoch"])
    scores = {key: value for key, value in metrics.items() if key.startswith(("test/", "val/"))}
    if cfg.tracking.artifact:
        run.tracker.artifact(run.checkpoints / "best.pt", ["best", f"epoch-{epoch}"], scores)
    log.info("%s", results_table(metrics, data_protocol))
    log.info("Run folder: %s (images/, checkpoints/best.pt, history.jsonl, summary.json)", folder.path)
    run.tracker.close("finished", step=metrics["step"])


def protocol(run: Run) -> str:
    """The data protocol that belongs beside every number."""
    data = OmegaConf.create(run.header["config"]).data
    return {"none": "grey"}.get(data.get("binarize", "none"), data.get("binarize", "none"))


def results_table(metrics: dict[str, Any], data_protocol: str) -> str:
    """The one-hot numbers as text."""
    columns = ["weights, images", "−ELBO", "reconstruction", "KL", "IWAE", "relaxed loss"]
    keys = ["neg_elbo", "reconstruction", "kl", "iwae", "relaxed_loss"]
    chosen = {"val": "best, validation", "test": "best, test", "test_last": "last, test"}
    names = chosen if "best/step" in metrics else {"test": "last, test"}
    rows = [
        [name, *(metrics.get(f"{split}/{key}") for key in keys)]
        for split, name in names.items()
        if f"{split}/neg_elbo" in metrics
    ]
    note = (
        f"codes: perplexity {metrics['codes/perplexity']:.2f}, "
        f"active latents {metrics['codes/active']:.0f}, dead codes {metrics['codes/dead']:.0f}"
    )
    return table(f"One-hot codes, nats per image, lower is better ({data_protocol} images)", columns, rows, note)


def peak_memory() -> float:
    """Largest resident size of this process so far, MiB."""
    import resource
    import sys

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(size / (1024 if sys.platform != "darwin" else 1024**2), 1)
