"""Means over seeds with their standard errors, and whether a difference of two is noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gsvae.compare.groups import Group

__all__ = ["NOISE", "Score", "choose_metric", "rank_groups", "score", "verdict", "welch"]

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
    def se(self) -> float | None:
        """The sample's standard deviation over √n."""
        if self.n < 2:
            return None
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.values) / (self.n - 1) / self.n)


def score(group: Group, metric: str) -> Score | None:
    """A group's score, of its finished runs; None if none has the metric."""
    values = tuple(run.metrics[metric] for run in group.runs if run.state == "finished" and metric in run.metrics)
    return Score(values) if values else None


def choose_metric(groups: Sequence[Group]) -> str | None:
    """The metric to rank by; None before anything has finished."""
    return next((name for name in PREFERRED if any(score(group, name) for group in groups)), None)


def rank_groups(groups: Sequence[Group], metric: str, *, maximize: bool = False) -> list[tuple[Group, Score]]:
    """Groups with a score, the best first."""
    scored = [(group, found) for group in groups if (found := score(group, metric))]
    return sorted(scored, key=lambda pair: -pair[1].mean if maximize else pair[1].mean)


def welch(a: Score, b: Score) -> float | None:
    """The p of Welch's two-sided t-test; None where there is a single run, or no spread at all."""
    if a.n < 2 or b.n < 2 or not (a.se or b.se):
        return None
    from scipy.special import stdtr  # scipy.stats has the test itself, and takes two seconds to import

    va, vb = (a.se or 0.0) ** 2, (b.se or 0.0) ** 2
    t = (a.mean - b.mean) / math.sqrt(va + vb)
    freedom = (va + vb) ** 2 / (va**2 / (a.n - 1) + vb**2 / (b.n - 1))
    return float(2 * stdtr(freedom, -abs(t)))


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
