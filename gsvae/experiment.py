"""The composition root: one run or many, built from their configs, trained, and on record however they end."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from joblib import cpu_count
from omegaconf import DictConfig

from gsvae.data import ImageData, Splits
from gsvae.errors import UserError, in_words
from gsvae.evaluation import diagnose
from gsvae.identity import data_protocol
from gsvae.objective import Objective
from gsvae.parts import build_objective, count_steps, describe, make_lanes, make_run, make_trainer, shared_parts
from gsvae.resume import Resumed, read_run
from gsvae.tracking import RunFolder, read_status
from gsvae.tracking.console import table
from gsvae.tracking.painter import Painter
from gsvae.tracking.scope import run_scope
from gsvae.tracking.wandb_service import check_login
from gsvae.training.interrupt import Interrupted
from gsvae.training.lane import Lane
from gsvae.training.run import Run

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
    check_login(cfg.tracking.mode)
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


# ---------------------------------------------------------------- the end


def report(run: Run, started: float, cfg: DictConfig) -> None:
    """Write the summary, show the table, send best.pt if asked to, end the records."""
    outcome, folder = run.outcome, run.tracker.folder
    metrics, codes = outcome["metrics"], outcome["scores"]["test"].codes
    warnings = [str(finding) for finding in diagnose(outcome["scores"]["test"], train=outcome["scores"].get("train"))]
    run.tracker.summary(
        {
            **metrics,
            "protocol": data_protocol(cfg),
            "seconds": round(time.monotonic() - started, 2),
            "peak_memory_mb": peak_memory(),
            "codes/kl_per_latent": codes.kl_L.tolist(),
            "warnings": warnings,
        }
    )
    epoch = metrics.get("best/epoch", metrics["epoch"])
    scores = {key: value for key, value in metrics.items() if key.startswith(("test/", "val/"))}
    if cfg.tracking.artifact:
        run.tracker.artifact(run.checkpoints / "best.pt", ["best", f"epoch-{epoch}"], scores)
    log.info("%s", results_table(metrics, data_protocol(cfg)))
    for warning in warnings:
        log.warning("%s", warning)
    log.info("Run folder: %s (images/, checkpoints/best.pt, history.jsonl, summary.json)", folder.path)
    run.tracker.close("finished", step=metrics["step"])


def results_table(metrics: dict[str, Any], protocol: str) -> str:
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
    if "train/neg_elbo" in metrics:  # train/kl and the like are means over training steps
        rows.append([f"{names['test'].split(',')[0]}, training", metrics["train/neg_elbo"], None, None, None, None])
    note = (
        f"codes: perplexity {metrics['codes/perplexity']:.2f}, "
        f"active latents {metrics['codes/active']:.0f}, dead codes {metrics['codes/dead']:.0f}"
    )
    return table(f"One-hot codes, nats per image, lower is better ({protocol} images)", columns, rows, note)


def peak_memory() -> float:
    """Largest resident size of this process so far, MiB."""
    import resource
    import sys

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(size / (1024 if sys.platform != "darwin" else 1024**2), 1)
