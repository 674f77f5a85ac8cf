"""Whether a column's rows come in the published order, at the end and on the way there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gsvae.compare.paper.pivot import Pivot
from gsvae.compare.runs import Run, is_number, read_history
from gsvae.compare.statistics import NOISE, Score, welch

__all__ = ["Agreement", "Curve", "agreement", "curve", "kendall", "on_the_way"]

POINTS = 5  # epochs at which the order is told


@dataclass(frozen=True)
class Agreement:
    """Our order of a column's rows beside the published one.

    Attributes:
        ours, theirs: the rows that both have, the best first.
        tau: Kendall's τ of the two, 1 for the same order, −1 for the opposite; None for fewer than two rows.
        swapped: pairs in another order than published, and whether our difference may be noise (None: cannot be told).
    """

    ours: list[str]
    theirs: list[str]
    tau: float | None
    swapped: list[tuple[str, str, bool | None]]


@dataclass(frozen=True)
class Curve:
    """A number over epochs: mean and standard deviation over seeds (0 for one)."""

    epochs: list[float]
    mean: list[float]
    sd: list[float]
    seeds: int


def agreement(table: Pivot, column: str) -> Agreement | None:
    """The agreement by the table's last metric; None where nothing is published."""
    metric = table.metrics[-1]
    scores = {row: found for row in table.rows if (found := table.score(row, column, metric))}
    theirs = {row: mean for row in scores if (mean := table.theirs(row, column, metric)) is not None}
    if not theirs:
        return None
    ours = {row: scores[row].mean for row in theirs}
    swapped = [
        (a, b, noise(scores[a], scores[b]))
        for a in best_first(ours)
        for b in ours
        if ours[a] < ours[b] and theirs[a] > theirs[b]
    ]
    return Agreement(best_first(ours), best_first(theirs), kendall(ours, theirs), swapped)


def best_first(means: Mapping[str, float]) -> list[str]:
    return sorted(means, key=means.__getitem__)


def noise(a: Score, b: Score) -> bool | None:
    p = welch(a, b)
    return None if p is None else p > NOISE


def kendall(a: Mapping[str, float], b: Mapping[str, float]) -> float | None:
    """Kendall's τ-b of two rankings of the same names; None for fewer than two, or none that differ."""
    names = list(a)
    pairs = [(sign(a[x] - a[y]), sign(b[x] - b[y])) for i, x in enumerate(names) for y in names[:i]]
    size = math.sqrt(sum(abs(p) for p, _ in pairs) * sum(abs(q) for _, q in pairs))
    return sum(p * q for p, q in pairs) / size if size else None


def sign(value: float) -> int:
    return (value > 0) - (value < 0)


def curve(runs: Sequence[Run], metric: str = "val/neg_elbo") -> Curve | None:
    """A number of ``history.jsonl`` over the epochs that all of the runs have; None if there is none."""
    lines = [
        {row["epoch"]: row[metric] for row in read_history(run.folder) if is_number(row.get(metric)) and "epoch" in row}
        for run in runs
    ]
    common = sorted(set.intersection(*map(set, lines))) if lines else []
    if not common:
        return None
    scores = [Score(tuple(line[epoch] for line in lines)) for epoch in common]
    return Curve(common, [s.mean for s in scores], [s.sd or 0.0 for s in scores], len(runs))


def on_the_way(table: Pivot, column: str) -> list[tuple[float, list[str], float | None]]:
    """At some epochs that all of a column's rows have: our order then, and Kendall's τ with the published one.

    By ``val/neg_elbo``, which is on the test images where the runs say so (``evaluation.val_on_test``).
    """
    curves = {row: curve(table.groups[row, column].runs) for row in table.rows if (row, column) in table.groups}
    there = {row: dict(zip(c.epochs, c.mean, strict=True)) for row, c in curves.items() if c}
    common = sorted(set.intersection(*map(set, there.values()))) if there else []
    if len(common) > POINTS:
        common = [common[round((k + 1) * len(common) / POINTS) - 1] for k in range(POINTS)]
    found = []
    for epoch in common:
        means = {row: line[epoch] for row, line in there.items()}
        theirs = {row: mean for row in means if (mean := table.theirs(row, column, table.metrics[-1])) is not None}
        tau = kendall({row: means[row] for row in theirs}, theirs)
        found.append((epoch, best_first(means), tau))
    return found
