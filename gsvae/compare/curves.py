"""Training curves: a group's mean over seeds at each step, and the span of its runs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gsvae.compare.runs import Run, is_number, read_history

__all__ = ["curves"]

POINTS = 150
AXES = ("step", "epoch")


def curves(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """By metric: ``x`` in steps, over the runs the ``mean``, the lowest and the highest value, and the steps per epoch.

    Runs that ended early count as far as they came.
    """
    per_epoch = None
    by_metric: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for run in runs:
        points: dict[str, list[tuple[float, float]]] = {}
        for row in read_history(run.folder):
            for name, value in row.items():
                if name not in AXES and not name.startswith("test") and is_number(value):
                    points.setdefault(name, []).append((row["step"], value))
            if is_number(row.get("epoch")) and row["epoch"] > 0:
                per_epoch = row["step"] / row["epoch"]
        for name, found in points.items():
            by_metric.setdefault(name, []).append(tuple(np.array(found, dtype=float).T))
    return {
        name: {**merged(lines), "per_epoch": per_epoch}
        for name, lines in by_metric.items()
        if max(len(x) for x, _ in lines) > 1
    }


def merged(lines: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, list[Any]]:
    """Several curves at common steps."""
    steps = np.unique(np.concatenate([x for x, _ in lines]))
    if len(steps) > POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, POINTS).round().astype(int)]
    values = np.array([np.interp(steps, x, y, left=np.nan, right=np.nan) for x, y in lines])
    there = ~np.isnan(values)
    count = there.sum(0)
    with np.errstate(invalid="ignore"):
        mean = np.where(there, values, 0).sum(0) / count
    low = np.where(there, values, np.inf).min(0)
    high = np.where(there, values, -np.inf).max(0)
    return {"x": steps.tolist(), "mean": rounded(mean), "low": rounded(low), "high": rounded(high)}


def rounded(values: np.ndarray) -> list[float | None]:
    """Five digits are more than a screen shows."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values.tolist()]
