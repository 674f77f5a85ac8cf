"""Hydra's way to gsvae's sweeper; the work is in ``gsvae/sweep``. Imported at every start, so it imports little."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

__all__ = ["GridSweeper"]


class GridSweeper(Sweeper):
    """Every point of a grid, each a run; ``params`` holds points beside the command line's."""

    def __init__(self, params: DictConfig | None = None) -> None:
        self.params: Any = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        from gsvae.sweep.sweepers import grid

        grid(self, arguments)
