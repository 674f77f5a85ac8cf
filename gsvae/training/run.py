"""One run of a pack: what it alone owns, and how far it has come."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsvae.evaluation import Scores
from gsvae.tracking import Tracker
from gsvae.training.streams import Streams

__all__ = ["Best", "Run"]

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
        give_up: told the epoch and metrics of every validation, answers whether the run is to be pruned; or None.
        evaluated: epochs whose end has been dealt with.
        active: False once it has diverged or was pruned.
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
    give_up: Callable[[int, Mapping[str, float]], bool] | None = None
    best: Best = field(default_factory=Best)
    last_metrics: dict[str, float] = field(default_factory=dict)
    evaluated: int = 0
    active: bool = True
    outcome: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(cls, device: torch.device, **parts: Any) -> "Run":
        """A run with fresh streams on ``device``."""
        return cls(streams=Streams(parts["seed"], device), **parts)

    def progress(self) -> dict[str, Any]:
        """Everything of this object that a checkpoint holds."""
        return {
            "streams": self.streams.state(),
            "evaluated": self.evaluated,
            "history_rows": self.tracker.folder.rows,
            "last_metrics": self.last_metrics,
            "best": {
                "value": self.best.value,
                "epoch": self.best.epoch,
                "step": self.best.step,
                "metrics": self.best.metrics,
            },
        }

    def restore(self, progress: dict[str, Any], best_weights: dict[str, Tensor], *, mid_epoch: bool) -> None:
        """Go on from :meth:`progress`; no ``best_weights`` means that best.pt is lost, and the best starts anew."""
        self.streams.load(progress["streams"], mid_epoch=mid_epoch)
        self.evaluated = progress["evaluated"]
        self.last_metrics = progress["last_metrics"]
        if best_weights:
            self.best = Best(**progress["best"], weights=best_weights)

    def consider(self, epoch: int, step: int, scores: Scores, weights: dict[str, Tensor]) -> None:
        """Keep the weights if their validation −ELBO is the lowest so far."""
        if scores.neg_elbo < self.best.value:
            metrics = scores.metrics("val")
            self.best = Best(scores.neg_elbo, epoch, step, weights, metrics, saved=False)
