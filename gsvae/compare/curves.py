"""Training curves: a group's mean over seeds at each step, and the span of its runs."""

import math
from typing import Any

import numpy as np

from gsvae.compare.groups import Group
from gsvae.compare.runs import read_history

__all__ = ["curves"]

POINTS = 150
AXES = ("step", "epoch")


def curves(group: Group) -> dict[str, dict[str, list[float | None]]]:
    """By metric: ``x`` in steps, and over the group's runs the ``mean``, the lowest and the highest value.

    Runs that ended early count as far as they came.
    """
    by_metric: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for run in group.runs:
        points: dict[str, list[tuple[float, float]]] = {}
        for row in read_history(run.folder):
            for name, value in row.items():
                if name not in AXES and not name.startswith("test") and isinstance(value, int | float):
                    points.setdefault(name, []).append((row.get("step", 0), value))
        for name, found in points.items():
            by_metric.setdefault(name, []).append(tuple(np.array(found, dtype=float).T))
    return {name: merged(lines) for name, lines in by_metric.items() if max(len(x) for x, _ in lines) > 1}


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
