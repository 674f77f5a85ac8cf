"""The process that drives a sweep: it plans, launches, launches again what was lost, and sums up."""

import contextlib
import logging
import os
import shlex
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from gsvae.claim import holder
from gsvae.errors import UserError
from gsvae.sweep.ending import ending
from gsvae.sweep.folder import ENDED, SweepFolder
from gsvae.sweep.plan import Job, plan
from gsvae.sweep.signals import StopSignals, unheard_by_children
from gsvae.sweep.token import VARIABLE, new_token
from gsvae.sweep.words import Watcher, Words
from gsvae.sweep.workers import count_workers, shares
from gsvae.tracking.run_folder import RunFolder

__all__ = ["Driver"]

log = logging.getLogger(__name__)

ATTEMPTS = 2  # at a run whose process dies, before the run counts as failed
WAIT = 2.0  # seconds between looks at runs that live on after their launcher gave up


class Driver:
    """Runs jobs through a Hydra launcher, inside its ``signals``; ends with a summary and the exit code.

    Args:
        config: Hydra's master config, with ``sweep``.
    """

    def __init__(self, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config
        self.workers = count_workers(config.hydra.launcher)  # runs at a time on this machine; None: a cluster decides
        self.token = new_token()
        self.signals = StopSignals(self._stop)
        self.jobs: dict[str, Job] = {}
        self.attempts: Counter[str] = Counter()
        self._launched = 0

    # ---------------------------------------------------------------- before the first run

    def plan(self, points: Sequence[Sequence[str]], varying: set[str] | None = None) -> list[Job]:
        """Jobs for these points, all of them composed and checked; points that come to one run are one job.

        Args:
            points: overrides.
            varying: the keys to name runs by; None: those that differ between the points.

        Raises:
            UserError: of the first point that cannot be run.
        """
        return plan(points, self.context.config_loader, self.config, varying)

    def open(self) -> None:
        """Make or find the sweep's folder, and launch into it from now on."""
        settings = self.config.sweep
        place = Path(self.config.hydra.sweep.dir)
        if any(o.startswith("hydra.sweep.dir=") for o in self.config.hydra.overrides.hydra):
            place.mkdir(parents=True, exist_ok=True)
            self.folder = SweepFolder(place)
        else:
            self.folder = SweepFolder.make(Path("multirun"), settings.name or settings.study)
        self.name = settings.name or self.folder.name
        self.words = Words(self.folder.path / "sweep.log")
        os.environ.pop("WANDB_SERVICE", None)  # this process's wandb-core dies with it, its jobs need not
        config = self.config.copy()
        with open_dict(config):
            config.hydra.sweep.dir = str(self.folder.path)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=config
        )

    # ---------------------------------------------------------------- the runs

    def run(self, jobs: Sequence[Job], *, before: int = 0, total: int | None = None) -> None:
        """Do what is left to do for these jobs; how each of them ended is in its run folder.

        Args:
            jobs: planned ones.
            before, total: how many runs came before these and how many there will be, where these are not all.
        """
        names = self.folder.record(command(), {job.id: record_of(job) for job in jobs})
        for job in jobs:
            job.folder = names[job.id]
        self.jobs |= {job.id: job for job in jobs}
        todo = [job for job in jobs if self._wanted(job)]
        if total is None:
            self._announce(jobs, todo)
        with Watcher(self.folder, self.words, todo, bar=self.workers != 1, before=before, total=total):
            batches = self._batches(todo)
            while batches and not self.stopping:
                batches = [*self._launch(batches[0]), *batches[1:]]

    @property
    def stopping(self) -> bool:
        """Whether the runs are asked to stop."""
        return self.folder.stopping(self.token)

    def _wanted(self, job: Job) -> bool:
        state = self.folder.status(job.folder).get("state")
        return state not in ENDED and (state != "failed" or self.config.sweep.retry_failed)

    def _batches(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """All at once, except where the launcher starts as many processes as it is given jobs."""
        starts_all = str(self.config.hydra.launcher._target_).endswith("LocalLauncher")
        size = (self.workers or 1) if starts_all else max(1, len(jobs))
        return [list(jobs[at : at + size]) for at in range(0, len(jobs), size)]

    def _launch(self, batch: Sequence[Job]) -> list[list[Job]]:
        """Launch jobs and return those to launch again, in batches."""
        extras = shares(batch, self.config.hydra.launcher)
        lists = [
            [*job.overrides, *extra, *job.more, *self._told(job)] for job, extra in zip(batch, extras, strict=True)
        ]
        gave_up: Exception | None = None
        try:
            with unheard_by_children() if self.workers != 1 else contextlib.nullcontext():
                returns = self.launcher.launch(lists, initial_job_idx=self._launched)
            for job, returned in zip(batch, returns, strict=True):
                if returned.status == JobStatus.FAILED:  # a fault in the job around the run
                    self._fail(job, returned._return_value)
        except Exception as error:  # of the launcher: a worker died, or it cannot work at all
            gave_up = error
            self._wait_for_survivors(batch)
        self._launched += len(batch)
        return self._again(batch, gave_up)

    def _told(self, job: Job) -> list[str]:
        """What a job is told beside its settings: where it belongs and who launched it."""
        told = [
            f"hydra.sweep.dir={quoted(str(self.folder.path))}",
            f"hydra.sweep.subdir={quoted(job.folder)}",
            f"+hydra.job.env_set.{VARIABLE}={self.token}",
            f"sweep.retry_failed={self.config.sweep.retry_failed}",
            f"sweep.fail_fast={self.config.sweep.fail_fast}",
        ]
        if not job.grouped:
            told.append(f"tracking.group={quoted(self.name)}")
        if not job.named:
            told.append(f"tracking.name={quoted(job.label)}")
        return told

    def _again(self, batch: Sequence[Job], gave_up: Exception | None) -> list[list[Job]]:
        """Of a batch that was launched, the jobs that did not come to an end and that nobody is at.

        Those whose process died are launched one by one, so that the one which kills its process kills no other.
        """
        dead, waiting = [], []
        for job in batch:
            state = self.folder.status(job.folder).get("state")
            if self.stopping or state in (*ENDED, "failed") or holder(self.folder.path / job.folder):
                continue
            if state is None and gave_up:
                waiting.append(job)
                continue
            self.attempts[job.id] += 1
            if self.attempts[job.id] < ATTEMPTS:
                self.words.say(f"{job.label}: its process ended in mid-run; going on from its checkpoint")
                dead.append(job)
            elif state != "interrupted":
                self._fail(job, RuntimeError(f"the process that trained it died {ATTEMPTS} times"))
        if gave_up and len(waiting) == len(batch):
            self._cannot_launch(gave_up)
        if gave_up:
            log.debug("the launcher gave up", exc_info=gave_up)
        return [[job] for job in dead] + ([waiting] if waiting else [])

    def _cannot_launch(self, error: Exception) -> NoReturn:
        """A launcher that does not work at all, as Slurm's where there is no Slurm; the traceback goes to the log."""
        self.words.note("".join(traceback.format_exception(error)))
        name = self.config.hydra.runtime.choices["hydra/launcher"]
        where = f"{self.folder.shown}/sweep.log"
        raise UserError(f"hydra/launcher={name}: {type(error).__name__}: {error} (traceback in {where})") from error

    def _wait_for_survivors(self, batch: Sequence[Job]) -> None:
        """Wait for those of a broken batch that go on all the same, as on a cluster."""
        while not self.stopping and any(holder(self.folder.path / job.folder) for job in batch):
            time.sleep(WAIT)

    def _fail(self, job: Job, error: Exception) -> None:
        log.error("%s failed", job.label, exc_info=error)
        about = {**self.folder.status(job.folder), "name": job.label, "run_id": job.id, "overrides": job.overrides}
        fixed = {k: v for k, v in about.items() if k not in ("state", "started", "updated", "ended", "error")}
        RunFolder(self.folder.path / job.folder, fixed).status("failed", f"{type(error).__name__}: {error}")

    # ---------------------------------------------------------------- what is said

    def _announce(self, jobs: Sequence[Job], todo: Sequence[Job]) -> None:
        states = Counter(self.folder.status(job.folder).get("state", "new") for job in jobs)
        left = len(jobs) - len(todo)
        begun = sum(states[state] for state in ("running", "interrupted"))
        parts = [f"{len(todo)} to do" + (f" ({begun} of them begun)" if begun else "")]
        parts += [f"{states[state]} {state} already" for state in ENDED if states[state]]
        if states["failed"] and not self.config.sweep.retry_failed:
            parts.append(f"{states['failed']} failed earlier (sweep.retry_failed=true tries again)")
        assert left >= 0
        at_once = f", {self.workers} at a time" if self.workers and self.workers > 1 and len(todo) > 1 else ""
        self.words.say(f"Sweep {self.name}: {len(jobs)} runs, {', '.join(parts)}{at_once}")

    def _stop(self, signal_name: str) -> None:
        if hasattr(self, "folder"):
            self.folder.stop(self.token, f"stopped by {signal_name}")
            os.write(2, b"stopping: the runs write their checkpoints; once more stops at once\n")

    def recall(self) -> None:
        """Count in the runs that the sweep's record has from other processes and earlier commands."""
        for identity, job in self.folder.recorded().items():
            if identity not in self.jobs:
                self.jobs[identity] = Job(
                    identity, job["overrides"], job["name"], job["folder"], True, True, threads=None, device="auto"
                )

    def end(self) -> int:
        """Sum up, and return the exit code: 1 if a run failed, 128 and more after a signal."""
        reason = self.folder.stop_reason(self.token)
        self.folder.clear(self.token)
        text, n_failed = ending(self.folder, list(self.jobs.values()), reason, command(self.name))
        self.folder.clear_torn()
        self.words.say(text)
        if self.signals.signum:
            return 128 + self.signals.signum
        if reason and "SIG" in reason:  # a run in this process took the signal
            return 128 + getattr(signal, reason.split()[-1])
        return 1 if n_failed else 0


def command(name: str | None = None) -> str:
    """This process's command line, with the sweep's name if that is not in it."""
    arguments = list(sys.argv[1:])
    if name and not any(a.startswith(("sweep.name=", "sweep.study=", "hydra.sweep.dir=")) for a in arguments):
        arguments.append(f"sweep.name={name}")
    return shlex.join(["python", Path(sys.argv[0]).name, *arguments])


def record_of(job: Job) -> dict[str, Any]:
    return {"folder": job.folder, "name": job.label, "overrides": job.overrides}


def quoted(text: str) -> str:
    """A text as Hydra's grammar takes any text."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
