"""Hydra's way to gsvae's launchers of packs; the work is in ``gsvae/packing``. Imported at every start."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

__all__ = ["PackedLauncher", "PackedSlurmLauncher"]


class PackedLauncher(Launcher):
    """Runs that fit together are trained as one; gsvae reads the settings from ``hydra.launcher`` itself."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from gsvae.packing.launch import launch

        return launch(self, job_overrides, initial_job_idx)


class PackedSlurmLauncher(PackedLauncher):
    """Each pack a job of a Slurm array."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from gsvae.packing.slurm import launch

        return launch(self, job_overrides, initial_job_idx)
