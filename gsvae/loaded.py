"""A run loaded from its folder, for whatever is measured of it afterwards."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from gsvae.config import Evaluation, Tracking, Training
from gsvae.data import ImageData, Splits
from gsvae.errors import UserError
from gsvae.objective import Objective
from gsvae.parts import build_objective, count_steps, schedule, shared_parts
from gsvae.training.checkpoint import read_checkpoint, read_last

__all__ = ["LoadedRun", "load_run", "read_settings"]


@dataclass(frozen=True)
class LoadedRun:
    """A run as one of its checkpoints has it.

    Attributes:
        folder: the run folder.
        checkpoint: the file the weights are from.
        state: what that file holds.
        cfg: the run's settings, with device and data.root as they are now.
        device: where data and objective are.
        data, splits: its images.
        objective: model and sampler with the checkpoint's weights, in evaluation mode.
    """

    folder: Path
    checkpoint: Path
    state: dict[str, Any]
    cfg: DictConfig
    device: torch.device
    data: ImageData
    splits: Splits
    objective: Objective

    @property
    def step(self) -> int:
        """Steps that the weights were trained for."""
        return int(self.state["step"])

    @property
    def tau(self) -> float:
        """The temperature of the last of these steps."""
        tau = schedule(self.cfg, self.cfg.tau, "tau", count_steps(self.cfg, self.splits))
        return float(tau(max(self.step - 1, 0)))


def load_run(
    folder: Path | str, checkpoint: str = "best", device: str = "auto", data_root: str | None = None
) -> LoadedRun:
    """Load a run with its data and the weights of a checkpoint.

    Args:
        folder: its run folder; where it was trained does not matter.
        checkpoint: ``best``, ``last`` or the path of a checkpoint file.
        device: as the setting ``device``.
        data_root: where the images are now; None for the run's own ``data.root``, relative to the working folder.

    Raises:
        UserError: no such folder, checkpoint, data or device, or a checkpoint that is damaged or not of this run.
    """
    folder = Path(folder)
    path, state = read(folder, checkpoint)
    cfg = settings_of(path, state)
    if data_root is not None:
        cfg.data.root = data_root
    cfg.device, cfg.training.compile, cfg.training.threads = device, False, None
    tf32 = cfg.training.precision == "tf32"
    if tf32:  # which only CUDA has
        cfg.training.precision = "fp32"
    where, data, splits = shared_parts(cfg)
    if tf32 and where.type == "cuda":
        cfg.training.precision = "tf32"
        torch.set_float32_matmul_precision("high")
    objective = build_objective(cfg, data, splits, where).eval()
    put_weights(objective, state["weights"], path)
    return LoadedRun(folder, path, state, cfg, where, data, splits, objective)


def read_settings(folder: Path | str, checkpoint: str = "best") -> DictConfig:
    """The settings in a run's checkpoint, without anything being loaded for them.

    Raises:
        UserError: no such folder or checkpoint, or one that is damaged or not of a run.
    """
    return settings_of(*read(Path(folder), checkpoint))


def read(folder: Path, checkpoint: str) -> tuple[Path, dict[str, Any]]:
    """A checkpoint of a run folder and where it is."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    if checkpoint not in ("best", "last"):
        return Path(checkpoint), read_checkpoint(Path(checkpoint), asked="")
    checkpoints = folder / "checkpoints"
    if not checkpoints.is_dir():
        raise UserError(f"{folder}: is not a run's folder, or one without a checkpoint yet (checkpoints/ is not there)")
    path = checkpoints / f"{checkpoint}.pt"
    return path, read_last(checkpoints, asked="") if checkpoint == "last" else read_checkpoint(path, asked="")


def settings_of(path: Path, state: dict[str, Any]) -> DictConfig:
    """The settings in a checkpoint; those younger than the run have their defaults."""
    try:
        sections = {"training": asdict(Training()), "evaluation": asdict(Evaluation()), "tracking": asdict(Tracking())}
        defaults = OmegaConf.create({**sections, "allow_targets": []})
        merged = OmegaConf.merge(defaults, OmegaConf.create(str(state["config"])))
        assert isinstance(merged, DictConfig)
        for key in ("data._target_", "model._target_", "sampling._target_", "tau._target_", "seed"):
            if OmegaConf.select(merged, key) is None:
                raise ValueError(f"no {key}")
    except Exception as error:
        raise UserError(f"{path}: has no settings of a run ({str(error).splitlines()[0]})") from error
    return merged


def put_weights(objective: Objective, weights: dict[str, Tensor], path: Path) -> None:
    """Copy a checkpoint's weights into the run's parameters and buffers."""
    own = dict(objective.named_parameters()) | dict(objective.named_buffers())
    wrong = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    wrong += [name for name in weights if name not in own]
    if wrong:
        raise UserError(f"{path}: its weights do not fit the run's model ({wrong[0]}); has the model's code changed?")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])
