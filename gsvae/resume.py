"""Going on with a run: which settings it had, and which may differ now."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from gsvae.errors import UserError
from gsvae.identity import numeric_settings
from gsvae.overrides import run_folder_of
from gsvae.training.checkpoint import read_checkpoint, read_last

__all__ = ["Resumed", "read_run"]

log = logging.getLogger(__name__)

LENGTH = ("training.epochs", "training.steps")  # may grow


@dataclass(frozen=True)
class Resumed:
    """A run's last checkpoint and the weights of its best one (empty if there is none)."""

    state: dict[str, Any]
    best_weights: dict[str, Tensor]


def read_run(cfg: DictConfig, total_steps: int) -> Resumed:
    """Read the run's checkpoints and hold the settings against it.

    Raises:
        UserError: a checkpoint cannot be read, or a setting contradicts it; the message names them.
    """
    given = Path(str(cfg.resume))
    folder = run_folder_of(str(cfg.resume))
    state = read_checkpoint(given) if given.suffix == ".pt" else read_last(folder / "checkpoints")
    if "optimizer" not in state:
        raise UserError(f"resume={given}: holds weights only; resume the run folder {folder}")
    refuse_contradictions(cfg, state)
    if total_steps < state["step"]:
        raise UserError(
            f"training.epochs={cfg.training.epochs}: the checkpoint is at step {state['step']} already, "
            f"these settings end at {total_steps}"
        )
    return Resumed(state, best_weights(folder / "checkpoints" / "best.pt", state))


def refuse_contradictions(cfg: DictConfig, state: dict[str, Any]) -> None:
    """Raise a UserError that names every setting which differs from the checkpoint's and may not."""
    then = numeric_settings(OmegaConf.create(state["config"]))
    now = numeric_settings(cfg)
    differ = [key for key in sorted(then | now) if then.get(key) != now.get(key) and key not in LENGTH]
    if differ:
        words = ", ".join(f"{key}={now.get(key)} (checkpoint: {then.get(key)})" for key in differ)
        raise UserError(f"resume={cfg.resume}: contradicts the checkpoint: {words}")


def best_weights(path: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of best.pt; a damaged one costs a warning, and the best starts anew."""
    if not state["best"]["epoch"]:
        return {}
    try:
        return read_checkpoint(path)["weights"]
    except UserError as error:
        log.warning("%s; the best weights start anew", error)
        return {}
