"""From where runs begin or go on: those at one step can be trained together."""

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from omegaconf import DictConfig

from gsvae.errors import UserError
from gsvae.files import remove_torn
from gsvae.tracking.scope import run_scope
from gsvae.training.checkpoint import read_checkpoint, read_last

__all__ = ["by_step"]

log = logging.getLogger(__name__)


class Starting(Protocol):
    """A run that is to begin or to go on: ``cfg.resume`` will say from where."""

    cfg: DictConfig
    folder: Path


S = TypeVar("S", bound=Starting)


def by_step(jobs: Sequence[S]) -> list[list[S]]:
    """Let each run go on from its checkpoint, or begin anew, and gather those that stand at the same step.

    A pack killed while it wrote its checkpoints leaves some of its runs one checkpoint behind; the others then go
    back to their previous one, so that the pack stays whole.
    """
    at = {job.folder: choose_start(job) for job in jobs}
    if len(set(at.values())) > 1:
        others = Counter(at.values())
        for job in jobs:
            back = previous_step(job.folder) if at[job.folder] else None
            if back is not None and back != at[job.folder] and others[back]:
                job.cfg.resume = str(job.folder / "checkpoints" / "previous.pt")
                at[job.folder] = back
    groups: dict[int, list[S]] = {}
    for job in jobs:
        groups.setdefault(at[job.folder], []).append(job)
    return list(groups.values())


def choose_start(job: Starting) -> int:
    """Go on from the run's checkpoint if it has a sound one, and return its step; else clear what is left, and 0."""
    folder = job.folder
    remove_torn(folder, below=True)
    checkpoints = folder / "checkpoints"
    if any(checkpoints.glob("*.pt")):
        with run_scope(folder):
            try:
                step: int = read_last(checkpoints)["step"]
                if step:
                    job.cfg.resume = str(folder)
                    return step
            except UserError as error:
                log.warning("%s; the run starts anew", error)
    for left in ("checkpoints", "images"):
        shutil.rmtree(folder / left, ignore_errors=True)
    (folder / "summary.json").unlink(missing_ok=True)
    job.cfg.resume = None
    return 0


def previous_step(folder: Path) -> int | None:
    """The step of the checkpoint before the last; None if there is no sound one."""
    try:
        step: int = read_checkpoint(folder / "checkpoints" / "previous.pt")["step"]
    except UserError:
        return None
    return step
