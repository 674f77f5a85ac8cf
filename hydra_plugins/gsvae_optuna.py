"""Hydra's way to gsvae's search on Optuna; the work is in ``gsvae/sweep`` and ``gsvae/search``."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

__all__ = ["OptunaSweeper"]


class OptunaSweeper(Sweeper):
    """Trials that Optuna suggests, each a run; gsvae reads the other settings from ``hydra.sweeper`` itself."""

    def __init__(self, params: DictConfig | None = None, **settings: Any) -> None:
        self.params: Any = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        from gsvae.sweep.trials import search

        search(self, arguments)
