"""One job of a sweep: its run claimed, begun or gone on with, and whatever happens to it recorded."""

import contextlib
import logging
import math
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gsvae.claim import BusyError, Claim, ClaimLost
from gsvae.errors import UserError
from gsvae.sweep.folder import ENDED, SweepFolder
from gsvae.sweep.requeue import hand_back, is_submitits
from gsvae.sweep.signals import leave_interrupts_to_driver
from gsvae.sweep.token import TRIAL, VARIABLE, in_its_process
from gsvae.tracking.run_folder import read_status

__all__ = ["run_job"]

log = logging.getLogger(__name__)

LOOK = 0.5  # seconds between looks for the mark that asks to stop


def run_job(cfg: DictConfig, folder: Path, choices: dict[str, Any], overrides: Sequence[str]) -> float:
    """Do what is left to do for one run of a sweep, and return its ``val/neg_elbo``; NaN if it did not come so far.

    A run that has ended, is held by another live process, or is asked to stop before it began is left as it is.
    Nothing that happens to the run is raised where gsvae's own sweeper launched it: it is in the status.
    """
    job = SweepJob(cfg, folder, choices, overrides, SweepFolder(folder.parent), os.environ.get(VARIABLE, ""))
    if job.token and not in_its_process(job.token):
        leave_interrupts_to_driver()
    if job.token and job.sweep.stopping(job.token):
        return math.nan
    with job.stdout():
        try:
            with Claim(folder) as claim:
                job.do(claim)
        except BusyError as busy:
            log.info("%s: %s", folder.name, busy)
        except ClaimLost as lost:
            log.warning("%s; leaving it", lost)
        job.compare()
    if job.told_to_end and is_submitits():
        hand_back(job.told_to_end)
    return job.score()


@dataclass
class SweepJob:
    """One run of a sweep in the process that is to train it."""

    cfg: DictConfig
    folder: Path
    choices: dict[str, Any]
    overrides: Sequence[str]
    sweep: SweepFolder
    token: str  # of the process that launched it; empty where it was not gsvae's sweeper
    told_to_end: int | None = None  # by which signal

    def do(self, claim: Claim) -> None:
        """What is left to do, seen once the run is ours."""
        state = read_status(self.folder).get("state")
        if state not in ENDED and (state != "failed" or self.cfg.sweep.retry_failed):
            log.info("Run %s", self.folder.name)
            self.attempt(claim)

    def attempt(self, claim: Claim) -> None:
        """Begin the run or go on with it; see that its end is on record."""
        from gsvae.experiment import run_experiment
        from gsvae.training.interrupt import Interrupted

        try:
            self.choose_start()
            outcome = run_experiment(
                self.cfg, self.folder, self.choices, self.overrides, self.watch(claim), pruning(os.environ.get(TRIAL))
            )
            if outcome["state"] == "diverged":
                log.error("diverged: %s", outcome["error"])
        except Interrupted as stop:
            log.warning("%s", stop)
            self.told_to_end = stop.signum if stop.by_signal else None
            if self.told_to_end and in_its_process(self.token):  # a signal to this process is for the whole sweep
                self.sweep.stop(self.token, str(stop))
            if not self.token:  # another sweeper's, which is to end as well
                raise SystemExit(128 + stop.signum) from stop
        except (Exception, SystemExit) as error:  # a user's own code may exit; the sweep goes on
            if isinstance(error, SystemExit) and is_submitits():
                raise
            self.failed(error)
            if self.cfg.sweep.fail_fast and self.token:
                self.sweep.stop(self.token, f"{self.folder.name} failed, and sweep.fail_fast=true")
            if not self.token:
                raise

    def choose_start(self) -> None:
        """Go on from the run's checkpoint if it has a sound one; else clear what an earlier attempt left."""
        from gsvae.training.checkpoint import read_last

        for torn in self.folder.rglob(".*.tmp"):  # a write that its process did not live to end
            torn.unlink()
        checkpoints = self.folder / "checkpoints"
        if any(checkpoints.glob("*.pt")):
            try:
                read_last(checkpoints)
                self.cfg.resume = str(self.folder)
                return
            except UserError as error:
                log.warning("%s; the run starts anew", error)
        for left in ("checkpoints", "images"):
            shutil.rmtree(self.folder / left, ignore_errors=True)
        (self.folder / "summary.json").unlink(missing_ok=True)

    def failed(self, error: Exception | SystemExit) -> None:
        """Put a failure on record at once, in status and log, if the run did not get so far as to do it."""
        from gsvae.experiment import record_failure

        if isinstance(error, UserError):
            log.error("error: %s", error)
        record_failure(self.cfg, self.folder, self.choices, self.overrides, error)

    def watch(self, claim: Claim) -> Callable[[], None]:
        """What the run asks at every step: whether it is still its own, and whether the sweep is to stop."""
        from gsvae.training.interrupt import Interrupted

        looked = 0.0

        def check() -> None:
            nonlocal looked
            claim.check()
            now = time.monotonic()
            if now - looked >= LOOK:
                looked = now
                if self.token and self.sweep.stopping(self.token):
                    raise Interrupted(signal.SIGTERM, "the sweep was stopped")

        return check

    def score(self) -> float:
        """What Hydra's sweepers minimise."""
        value = self.sweep.summary(self.folder.name).get("val/neg_elbo")
        return math.nan if value is None else float(value)

    def stdout(self) -> contextlib.AbstractContextManager[Any]:
        """Where the run's lines go besides ``run.log``: nowhere in a worker, several would mix on one terminal."""
        if self.token and not in_its_process(self.token):
            return silence()
        return contextlib.nullcontext()

    def compare(self) -> None:
        """Bring the sweep's table and page up to date, so that they are there whenever the sweep ends."""
        try:
            from gsvae.compare import update

            update(self.sweep.path)
        except Exception as error:  # a view; the run's numbers are in its folder
            log.warning("comparison not updated", exc_info=error)


def pruning(trial: str | None) -> Callable[[int, Mapping[str, float]], bool] | None:
    """What asks a search's pruner about the run, if it is a trial of one that prunes."""
    if not trial:
        return None
    from gsvae.search import PruningHandle

    handle = PruningHandle(trial)
    return lambda epoch, metrics: handle.report(epoch, metrics[handle.objective])


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing goes to stdout."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
