"""A search: trials suggested by Optuna, run as a sweep's jobs, until the study has all it was asked for."""

import shlex
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gsvae.claim import holder
from gsvae.errors import UserError, near_miss
from gsvae.overrides import key_of
from gsvae.search import Study, Suggestion, read_settings, read_space
from gsvae.sweep.driver import Driver, quoted
from gsvae.sweep.plan import Job
from gsvae.sweep.sweepers import asked_for, study_of
from gsvae.sweep.token import TRIAL
from gsvae.sweep.workers import batch_size

__all__ = ["search"]


def search(sweeper: Any, arguments: Sequence[str]) -> None:
    """Run the search that a command line and ``conf/hydra/sweeper/optuna.yaml`` describe."""
    Search(sweeper, arguments).run()


class Search:
    """One process's part in a study."""

    def __init__(self, sweeper: Any, arguments: Sequence[str]) -> None:
        self.settings = read_settings(given(sweeper.config.hydra.sweeper))
        varied = study_of(sweeper)
        if varied.rows:
            shown = f"sweep.study={sweeper.config.sweep.study}"
            raise UserError(f"{shown}: has rows of settings that go together, for hydra/sweeper=grid and no search")
        if sweeper.config.sweep.only:
            raise UserError("sweep.only: chooses among a grid's runs; in a search give the values themselves")
        self.space = read_space(asked_for(sweeper, arguments, varied))
        self.driver = Driver(sweeper.hydra_context, sweeper.task_function, sweeper.config)
        for corner in self.space.corners():  # a mistake is found before there is a study
            self.driver.plan([[*self.space.constants, *corner]])
        self.driver.open()
        self.study = Study(self.settings, self.space, self.driver.folder.path, self.driver.name)

    def run(self) -> None:
        """Ask, run, tell, until nothing is left to ask for; then say what was best, and exit."""
        driver = self.driver
        at_once = batch_size(driver.config.hydra.launcher)
        driver.words.say(f"Search {driver.name}: {self.study.total} trials, {self.study.begun} of them begun earlier")
        left_behind = self.study.running()
        with driver.signals:
            while not driver.stopping:
                batch, left_behind = left_behind[:at_once], left_behind[at_once:]
                batch = batch or self.study.ask(at_once)
                if not batch:
                    break
                self.run_batch(batch)
        driver.recall()
        code = driver.end()
        driver.words.say(self.best())
        sys.exit(code)

    def run_batch(self, batch: Sequence[Suggestion]) -> None:
        """Run some trials and tell the study how they ended; those that another process is at are left to it."""
        jobs: dict[int, Job] = {}
        for suggestion in batch:
            point = [*self.space.constants, *suggestion.overrides]
            (job,) = self.driver.plan([point], varying={key_of(key) for key in self.space.distributions})
            if self.settings.pruner != "none":
                job.more.append(f"+hydra.job.env_set.{TRIAL}={self.handle(suggestion)}")
            jobs[suggestion.number] = job
        once = list({job.id: job for job in jobs.values()}.values())
        self.driver.run(once, before=min(jobs), total=self.study.total)
        for number, job in jobs.items():
            self.tell(number, job)

    def handle(self, suggestion: Suggestion) -> str:
        """How the run's process finds its trial, as an override's value."""
        return quoted(self.study.handle(suggestion.number))

    def tell(self, number: int, job: Job) -> None:
        """Tell the study how a trial ended, if it did."""
        folder = self.driver.folder
        state = folder.status(job.folder).get("state", "")
        if state in ("failed", "diverged", "pruned"):
            self.study.tell(number, None, state)
        elif state == "finished":
            numbers = folder.summary(job.folder)
            for name in self.settings.objectives:
                if name not in numbers:
                    raise UserError(f"hydra.sweeper.objectives={name}: no such number{near_miss(name, numbers)}")
            self.study.tell(number, [numbers[name] for name in self.settings.objectives], state)
        elif not holder(folder.path / job.folder) and not self.driver.stopping:
            self.study.tell(number, None, "failed")

    def best(self) -> str:
        """The best trials as commands that make them again."""
        found = self.study.best()
        if not found:
            return "No trial has finished yet."
        lines = []
        for best in found:
            scores = ", ".join(f"{name} {value:.2f}" for name, value in zip(self.settings.objectives, best.values))
            lines.append(f"trial {best.number}: {scores}: {self.command(best.overrides)}")
        title = "Best" if len(found) == 1 else "Best in one objective or the other (Pareto front)"
        return "\n".join([f"{title}:", *lines])

    def command(self, overrides: Sequence[str]) -> str:
        """A command line for a run of its own."""
        return shlex.join(["python", "run.py", *self.space.constants, *overrides])


def given(node: DictConfig) -> dict[str, Any]:
    """The sweeper's settings; ``storage`` unresolved, for it may name a secret."""
    settings = OmegaConf.to_container(node, resolve=False)
    assert isinstance(settings, dict)
    rest = {str(k): v for k, v in settings.items() if k not in ("_target_", "params", "storage")}
    resolved = OmegaConf.to_container(OmegaConf.create(rest), resolve=True)
    assert isinstance(resolved, dict)
    return {**{str(k): v for k, v in resolved.items()}, "storage": settings.get("storage")}
