"""Means over seeds with their standard errors, and whether a difference of two is noise."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsvae.compare.groups import Group

__all__ = ["NOISE", "Score", "choose_metric", "holm", "rank_groups", "score", "verdict", "welch", "welch_matrix"]

NOISE = 0.05  # a difference with a larger p is called noise
PREFERRED = ("val/neg_elbo", "test/neg_elbo")  # choosing by test images would flatter what is chosen
MORE_IS_BETTER = ("codes/perplexity", "codes/active", "train/images_per_second")


@dataclass(frozen=True)
class Score:
    """A metric over a group's finished runs: ``mean`` and its standard error ``se`` (None for one run)."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / self.n

    @property
    def sd(self) -> float | None:
        """The sample's standard deviation, with n − 1."""
        if self.n < 2:
            return None
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.values) / (self.n - 1))

    @property
    def se(self) -> float | None:
        """The sample's standard deviation over √n."""
        return None if self.sd is None else self.sd / math.sqrt(self.n)


def score(group: Group, metric: str) -> Score | None:
    """A group's score, of its finished runs; None if none has the metric.

    A seed that was run twice counts once, as the later folder has it: the same run again is no further evidence.
    """
    found: dict[Any, float] = {}
    for index, run in enumerate(group.runs):
        if run.state == "finished" and metric in run.metrics:
            found[("no seed", index) if run.seed is None else json.dumps(run.seed)] = run.metrics[metric]
    return Score(tuple(found.values())) if found else None


def choose_metric(groups: Sequence[Group]) -> str | None:
    """The metric to rank by; None before anything has finished."""
    return next((name for name in PREFERRED if any(score(group, name) for group in groups)), None)


def rank_groups(groups: Sequence[Group], metric: str, *, maximize: bool = False) -> list[tuple[Group, Score]]:
    """Groups with a score, the best first."""
    scored = [(group, found) for group in groups if (found := score(group, metric))]
    return sorted(scored, key=lambda pair: -pair[1].mean if maximize else pair[1].mean)


def welch(a: Score, b: Score) -> float | None:
    """The p of Welch's two-sided t-test; None where there is a single run, or no spread at all."""
    return welch_matrix([a, b])[0][1]


def welch_matrix(scores: Sequence[Score | None]) -> list[list[float | None]]:
    """The p of :func:`welch` for every pair."""
    from scipy.special import stdtr  # scipy.stats has the test itself, and takes two seconds to import

    tested = [s if s and s.n > 1 else None for s in scores]
    mean = np.array([s.mean if s else math.nan for s in tested])
    v = np.array([(s.se or 0.0) ** 2 if s else math.nan for s in tested])  # the variance of a mean
    w = np.array([(s.se or 0.0) ** 4 / (s.n - 1) if s else math.nan for s in tested])
    with np.errstate(invalid="ignore", divide="ignore"):
        total = v[:, None] + v
        t = (mean[:, None] - mean) / np.sqrt(total)
        p = 2 * stdtr(total**2 / (w[:, None] + w), -np.abs(t))
    return [[None if math.isnan(value) else value for value in row] for row in p.tolist()]


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """The p of several tests, corrected as Holm does, so that all of them together err as often as one; None stays."""
    corrected: list[float | None] = [None] * len(ps)
    least = 0.0
    tested = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    for index, (p, place) in enumerate(tested):
        least = max(least, min(1.0, p * (len(tested) - index)))
        corrected[place] = least
    return corrected


def verdict(ranked: Sequence[tuple[Group, Score]], metric: str) -> str:
    """One sentence: who is best, by how much, and whether that is noise."""
    if not ranked:
        return "Nothing has finished yet."
    (best, first), *rest = ranked
    if not rest:
        return f"{best.label}: {metric} {first.mean:.2f}."
    runner_up, second = rest[0]
    unit = " nats" if metric.endswith(("neg_elbo", "iwae", "kl", "reconstruction", "loss")) else ""
    said = f"{best.label} beats {runner_up.label} by {abs(first.mean - second.mean):.2f}{unit} ({metric}"
    p = welch(first, second)
    if p is None:
        alone = "one seed each" if max(first.n, second.n) == 1 else "too few seeds, or no spread between them"
        return f"{said}): {alone}, so whether that is noise cannot be told."
    judged = "that may well be noise" if p > NOISE else "that is unlikely to be noise"
    return f"{said}, Welch's p = {p:.2g}): {judged}."
