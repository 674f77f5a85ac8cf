"""A job of a sweep, or several at once: runs claimed, begun or gone on with, and whatever happens recorded."""

import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gsvae.claim import BusyError, Claim
from gsvae.errors import UserError
from gsvae.sweep.folder import ENDED, SweepFolder
from gsvae.sweep.requeue import hand_back, is_submitits
from gsvae.sweep.token import TRIAL, VARIABLE, in_its_process
from gsvae.tracking.run_folder import read_status
from gsvae.tracking.scope import run_scope

__all__ = ["SweepJob", "run_job", "run_jobs"]

log = logging.getLogger(__name__)

LOOK = 0.5  # seconds between looks for the mark that asks to stop


def run_job(cfg: DictConfig, folder: Path, choices: dict[str, Any], overrides: Sequence[str]) -> float:
    """Do what is left to do for one run of a sweep, and return its ``val/neg_elbo``; NaN if it did not come so far.

    A run that has ended, is held by another live process, or is asked to stop before it began is left as it is.
    Nothing that happens to the run is raised where gsvae's own sweeper launched it: it is in the status.
    """
    job = SweepJob(cfg, folder, choices, overrides, dict(os.environ))
    run_jobs([job])
    if job.error and not job.token:
        raise job.error
    return job.score()


@dataclass
class SweepJob:
    """One run of a sweep in the process that is to train it.

    Attributes:
        cfg, folder, choices, overrides: of the run, as :class:`~gsvae.experiment.Member` has them.
        told: by the environment of the job: who launched it, and its trial.
        error: what it failed by, if it did.
    """

    cfg: DictConfig
    folder: Path
    choices: dict[str, Any]
    overrides: Sequence[str]
    told: Mapping[str, str]
    error: BaseException | None = None
    check: Callable[[], None] = lambda: None

    @property
    def token(self) -> str:
        """Of the process that launched it; empty where it was not gsvae's sweeper."""
        return self.told.get(VARIABLE, "")

    @property
    def sweep(self) -> SweepFolder:
        return SweepFolder(self.folder.parent)

    def take(self, claims: contextlib.ExitStack) -> bool:
        """Claim the run and say whether there is anything left to do for it."""
        with run_scope(self.folder):
            try:
                claim = claims.enter_context(Claim(self.folder))
            except BusyError as busy:
                log.info("%s: %s", self.folder.name, busy)
                return False
            self.check = claim.check
            if self.state in ENDED or (self.state == "failed" and not self.cfg.sweep.retry_failed):
                return False
            log.info("Run %s", self.folder.name)
            return True

    @property
    def state(self) -> str | None:
        """Of the run, as its folder has it."""
        return read_status(self.folder).get("state")

    def member(self) -> Any:
        """The run as :func:`~gsvae.experiment.run_pack` takes it."""
        from gsvae.experiment import Member

        give_up = pruning(self.told.get(TRIAL))
        return Member(self.cfg, self.folder, self.choices, self.overrides, self.check, give_up, self.failing)

    def failing(self) -> None:
        """Stop the sweep, if its first failure is to do that."""
        if self.cfg.sweep.fail_fast and self.token:
            self.sweep.stop(self.token, f"{self.folder.name} failed, and sweep.fail_fast=true")

    def ended(self, outcome: Mapping[str, Any]) -> None:
        """See that the run's end is on record."""
        from gsvae.experiment import record_failure

        with run_scope(self.folder):
            if outcome["state"] == "diverged":
                log.error("diverged: %s", outcome["error"])
            if outcome["state"] == "failed":
                self.error = outcome["exception"]
                if isinstance(self.error, UserError):
                    log.error("error: %s", self.error)
                record_failure(self.member(), self.error)

    def score(self) -> float:
        """What Hydra's sweepers minimise."""
        value = self.sweep.summary(self.folder.name).get("val/neg_elbo")
        return math.nan if value is None else float(value)


# ---------------------------------------------------------------- several of them


def run_jobs(jobs: Sequence[SweepJob]) -> None:
    """Do what is left to do for runs that may be packed; how each of them ended is in its folder.

    Raises:
        SystemExit: they were told to end, where that is for another sweeper or for a cluster to know.
    """
    first = jobs[0]
    if first.token and first.sweep.stopping(first.token):
        return
    with stdout(first):
        with contextlib.ExitStack() as claims:
            signum = attempt_all([job for job in jobs if job.take(claims)])
        compare(first.sweep)
    if signum and is_submitits():
        hand_back(signum)


def attempt_all(jobs: Sequence[SweepJob]) -> int | None:
    """Begin the runs or go on with them, those at one step together; returns the signal that ended them, if any."""
    from gsvae.sweep.start import by_step

    for together in by_step(jobs):
        if together[0].token and together[0].sweep.stopping(together[0].token):
            return None
        if signum := attempt(together):
            return signum
    return None


def attempt(jobs: Sequence[SweepJob]) -> int | None:
    """Train some runs together. If that fails as a whole, in halves: so in the end only those fail that would alone."""
    from gsvae.experiment import run_pack
    from gsvae.training.interrupt import Interrupted

    first = jobs[0]
    try:
        outcomes = run_pack([job.member() for job in jobs], watch(first))
    except Interrupted as stop:
        log.warning("%s", stop)
        signum = stop.signum if stop.by_signal else None
        if signum and in_its_process(first.token):  # a signal to this process is for the whole sweep
            first.sweep.stop(first.token, str(stop))
        if not first.token:  # another sweeper's, which is to end as well
            raise SystemExit(128 + stop.signum) from stop
        return signum
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and is_submitits():
            raise
        if len(jobs) > 1:
            left = [job for job in jobs if job.state not in (*ENDED, "failed")]
            log.warning("a pack of %d runs failed (%s); going on with %d in halves", len(jobs), error, len(left))
            middle = len(left) // 2
            return attempt_all(left[:middle]) or attempt_all(left[middle:])
        outcomes = [{"state": "failed", "exception": error}]
    for job, outcome in zip(jobs, outcomes, strict=True):
        job.ended(outcome)
    return None


def watch(job: SweepJob) -> Callable[[], None]:
    """What is asked between steps: whether the sweep is to stop."""
    from gsvae.training.interrupt import Interrupted

    looked = 0.0

    def check() -> None:
        nonlocal looked
        now = time.monotonic()
        if now - looked >= LOOK:
            looked = now
            if job.token and job.sweep.stopping(job.token):
                raise Interrupted(signal.SIGTERM, "the sweep was stopped")

    return check


def stdout(job: SweepJob) -> contextlib.AbstractContextManager[Any]:
    """Where lines go besides ``run.log``: nowhere in a worker, several would mix on one terminal."""
    if job.token and not in_its_process(job.token):
        return silence()
    return contextlib.nullcontext()


def compare(sweep: SweepFolder) -> None:
    """Bring the sweep's table and page up to date, so that they are there whenever the sweep ends."""
    try:
        from gsvae.compare import update

        update(sweep.path)
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
