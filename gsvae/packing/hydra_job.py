"""What Hydra does around a job's task, begun and ended apart, so that several jobs can be under way at once.

The counterpart of ``hydra.core.utils.run_job``: config saved in ``.hydra``, ``run.log`` opened as ``hydra/job_logging``
says, callbacks called, a ``JobReturn`` made. Its environment variables are given to the run, not to the process.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from gsvae.config import check, without_hydra
from gsvae.errors import UserError
from gsvae.sweep.job import SweepJob
from gsvae.tracking.scope import NoRun, OnlyRun

__all__ = ["HydraJob", "routed"]


class HydraJob:
    """One job of a launcher.

    Args:
        config: Hydra's of the whole sweep.
        overrides: of this job.
        number: of this job.
    """

    def __init__(self, context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int) -> None:
        self.context = context
        self.config = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(self.config.hydra.job):
            self.config.hydra.job.id = self.config.hydra.job.num = number
        with self._current():
            place = os.path.join(str(self.config.hydra.sweep.dir), str(self.config.hydra.sweep.subdir))
            with read_write(self.config.hydra.runtime), open_dict(self.config.hydra.runtime):
                self.config.hydra.runtime.output_dir = os.path.abspath(place)
        self.folder = Path(self.config.hydra.runtime.output_dir)
        self.cfg = without_hydra(self.config)
        if self.config.hydra.job.chdir:
            raise UserError("hydra.job.chdir=true: the runs of a pack share a process; take another hydra/launcher")
        self._return = JobReturn(
            overrides=list(self.config.hydra.overrides.task),
            cfg=self.cfg.copy(),
            hydra_cfg=OmegaConf.create({"hydra": self.config.hydra}),
            working_dir=os.getcwd(),
            task_name=JobRuntime.instance().get("name"),
        )

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """Hydra's own look at its config is a look at this job's."""
        before = Singleton.get_state()
        HydraConfig.instance().set_config(self.config)
        try:
            yield
        finally:
            Singleton.set_state(before)

    def begin(self, task: TaskFunction) -> SweepJob:
        """Make the folder and its ``.hydra``, and give the run as it is to be trained."""
        record = {"config.yaml": self.cfg, "hydra.yaml": self._return.hydra_cfg, "overrides.yaml": self._overrides}
        if self.config.hydra.output_subdir is not None:
            place = self.folder / str(self.config.hydra.output_subdir)
            place.mkdir(parents=True, exist_ok=True)
            for name, part in record.items():
                (place / name).write_text(OmegaConf.to_yaml(part))
        with self._current():
            self.context.callbacks.on_job_start(config=self.config, task_function=task)
        choices = {str(group): str(option) for group, option in self.config.hydra.runtime.choices.items()}
        told = {**os.environ, **{str(k): str(v) for k, v in self.config.hydra.job.env_set.items()}}
        job = SweepJob(self.cfg, self.folder, choices, list(self._overrides), told)
        try:
            check(self.cfg)
        except UserError as error:  # of a sweeper that does not check
            job.error = error
        return job

    @property
    def _overrides(self) -> Any:
        return self.config.hydra.overrides.task

    def end(self, job: SweepJob) -> JobReturn:
        """Tell callbacks and launcher how the run ended."""
        raised = job.error if not job.token else None  # gsvae's sweeper reads it in the status
        self._return.status = JobStatus.FAILED if raised else JobStatus.COMPLETED
        self._return.return_value = raised or job.score()
        with self._current():
            self.context.callbacks.on_job_end(config=self.config, job_return=self._return)
        return self._return

    def log_file(self) -> logging.Handler | None:
        """The run's log file, from ``hydra/job_logging``; None where that has none."""
        settings: Any = OmegaConf.to_container(self.config.hydra.job_logging, resolve=True)
        for name in settings.get("root", {}).get("handlers", []):
            handler = settings["handlers"][name]
            if "filename" not in handler:
                continue
            file = logging.FileHandler(handler["filename"], delay=True)
            layout = settings.get("formatters", {}).get(handler.get("formatter"), {})
            file.setFormatter(logging.Formatter(layout.get("format"), layout.get("datefmt")))
            file.setLevel(handler.get("level", logging.NOTSET))
            file.addFilter(OnlyRun(self.folder))
            return file
        return None


@contextlib.contextmanager
def routed(jobs: Sequence[HydraJob]) -> Iterator[None]:
    """Each run's lines go to its own log file, and only those that are of no run to the terminal."""
    root, no_run = logging.getLogger(), NoRun()
    terminal = list(root.handlers)
    files = [file for job in jobs if (file := job.log_file())]
    for handler in terminal:
        handler.addFilter(no_run)
    root.handlers += files
    try:
        yield
    finally:
        for file in files:
            root.removeHandler(file)
            file.close()
        for handler in terminal:
            handler.removeFilter(no_run)
