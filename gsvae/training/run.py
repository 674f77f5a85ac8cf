"""One run of a pack: what it alone owns, how far it has come, and how it ended."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsvae.claim import ClaimLost
from gsvae.errors import in_words
from gsvae.evaluation import Scores
from gsvae.tracking import Tracker
from gsvae.tracking.console import Lines
from gsvae.tracking.scope import run_scope
from gsvae.training.streams import Streams

__all__ = ["Best", "Run"]

log = logging.getLogger(__name__)

Schedule = Callable[[int], float]


@dataclass
class Best:
    """The weights with the lowest validation −ELBO so far."""

    value: float = math.inf
    epoch: int = 0
    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    saved: bool = True  # whether best.pt holds it


@dataclass
class Run:
    """What one run of a pack owns.

    Attributes:
        seed: of all its streams.
        tau, lr, beta: temperature, learning rate and KL weight as functions of the global step.
        clip: largest norm of its gradient, or None.
        tracker: where its metrics go.
        checkpoints: the folder of its checkpoints.
        header: what its checkpoints say of it: ``config`` (YAML), ``run_id``, ``wandb_id``.
        streams: its generators.
        check: called before anything is written; raises ClaimLost where the run is another process's by now.
        give_up: told the epoch and metrics of every validation, answers whether the run is to be pruned; or None.
        failing: called when the run fails, before others go on.
        evaluated: epochs whose end has been dealt with.
        warned: kinds of findings that validations have warned of.
        active: False once it has ended.
        step: how far it is.
        outcome: how it ended: ``state`` as in ``status.json``, or ``lost`` to another process; ``error``.
    """

    seed: int
    tau: Schedule
    lr: Schedule
    beta: Schedule
    clip: float | None
    tracker: Tracker
    checkpoints: Path
    header: dict[str, Any]
    streams: Streams
    check: Callable[[], None] = lambda: None
    give_up: Callable[[int, Mapping[str, float]], bool] | None = None
    failing: Callable[[], None] = lambda: None
    best: Best = field(default_factory=Best)
    last_metrics: dict[str, float] = field(default_factory=dict)
    evaluated: int = 0
    warned: list[str] = field(default_factory=list)
    active: bool = True
    step: int = 0
    outcome: dict[str, Any] = field(default_factory=dict)
    lines: Lines = field(default_factory=Lines)

    @classmethod
    def create(cls, device: torch.device, **parts: Any) -> "Run":
        """A run with fresh streams on ``device``."""
        return cls(streams=Streams(parts["seed"], device), **parts)

    def progress(self) -> dict[str, Any]:
        """Everything of this object that a checkpoint holds."""
        return {
            "step": self.step,
            "evaluated": self.evaluated,
            "warned": list(self.warned),
            "history_rows": self.tracker.folder.rows,
            "last_metrics": self.last_metrics,
            "best": {
                "value": self.best.value,
                "epoch": self.best.epoch,
                "step": self.best.step,
                "metrics": self.best.metrics,
            },
        }

    def restore(self, progress: dict[str, Any], best_weights: dict[str, Tensor]) -> None:
        """Go on from :meth:`progress`; no ``best_weights`` means that best.pt is lost, and the best starts anew."""
        self.step = progress["step"]
        self.evaluated = progress["evaluated"]
        self.warned = list(progress.get("warned", []))  # not in earlier checkpoints
        self.last_metrics = progress["last_metrics"]
        if best_weights:
            self.best = Best(**progress["best"], weights=best_weights)

    def consider(self, epoch: int, step: int, scores: Scores, weights: dict[str, Tensor]) -> None:
        """Keep the weights if their validation −ELBO is the lowest so far."""
        if scores.neg_elbo < self.best.value:
            metrics = scores.metrics("val")
            self.best = Best(scores.neg_elbo, epoch, step, weights, metrics, saved=False)

    # ---------------------------------------------------------------- its own work, and its end

    def attempt(self, work: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Do some work for this run alone: its log lines are its own, and so is what goes wrong."""
        with run_scope(self.tracker.folder.path):
            try:
                self.check()
                work(*args, **kwargs)
            except ClaimLost as lost:
                self.leave(lost)
            except (Exception, SystemExit) as error:  # a user's code may exit
                self.fail(error)

    def end(self, state: str, error: str, **more: Any) -> None:
        """End the run before its last step, or without its results."""
        self.active = False
        self.outcome = {"state": state, "error": error, **more}
        self.tracker.close(state, error, step=self.step)

    def fail(self, error: BaseException) -> None:
        """End the run with its failure on record."""
        log.error("run failed", exc_info=error)
        self.end("failed", in_words(error), exception=error)
        self.failing()

    def leave(self, lost: ClaimLost) -> None:
        """Write nothing more; the run is another process's."""
        log.warning("%s; leaving it", lost)
        self.active = False
        self.outcome = {"state": "lost", "error": str(lost), "exception": lost}
        self.tracker.abandon()
