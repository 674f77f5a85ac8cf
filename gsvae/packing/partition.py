"""Which jobs can be one pack: those that differ only in what a pack's runs may differ in."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gsvae.identity import flat

__all__ = ["Cut", "cut", "partition", "shared_settings"]

# A run's own. All else changes shapes, code, data or when things happen, and must be the same in a pack.
OWN = (
    "seed",
    "tau",
    "optim.lr",
    "optim.clip",
    "optim.schedule",
    "training.beta",
    "training.beta_warmup",
    "tracking",
    "sweep",
    "resume",
)
COMMON = ("tracking.log_every", "tracking.images_every")


@dataclass
class Cut:
    """Jobs that are trained together, by their places in the batch, and why no others are among them."""

    jobs: list[int]
    settings: Mapping[str, Any]
    why: str = ""
    limits: list[str] = field(default_factory=list)


def shared_settings(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a job that all jobs of its pack must have, by dotted key."""

    def own(key: str) -> bool:
        return key not in COMMON and any(key == name or key.startswith(f"{name}.") for name in OWN)

    return {key: value for key, value in flat(dict(cfg)).items() if not own(key)}


def partition(settings: Sequence[Mapping[str, Any]]) -> list[Cut]:
    """Gather jobs with the same shared settings, in the order of their first ones.

    Args:
        settings: of each job, from :func:`shared_settings`.
    """
    cuts: list[Cut] = []
    for index, mine in enumerate(settings):
        fitting = next((cut for cut in cuts if cut.settings == mine), None)
        if fitting:
            fitting.jobs.append(index)
        else:
            cuts.append(Cut([index], mine, why_apart(mine, cuts)))
    return cuts


def why_apart(settings: Mapping[str, Any], cuts: Sequence[Cut]) -> str:
    """What keeps a job from the pack that it is nearest to."""
    if not cuts:
        return ""
    apart = [differences(settings, cut.settings) for cut in cuts]
    nearest = min(range(len(cuts)), key=lambda i: len(apart[i]))
    words = ", ".join(f"{key}={settings.get(key)} ({cuts[nearest].settings.get(key)})" for key in apart[nearest])
    return f"apart from the first with {words}" if nearest == 0 else f"apart from another with {words}"


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]


def cut(whole: Cut, most: int, reason: str, least_parts: int = 1) -> list[Cut]:
    """Cut a pack into parts of nearly the same size, none with more than ``most`` runs, for a stated reason."""
    n_parts = max(-(-len(whole.jobs) // most), min(least_parts, len(whole.jobs)))
    if n_parts == 1:
        return [whole]
    bounds = [round(i * len(whole.jobs) / n_parts) for i in range(n_parts + 1)]
    limits = [*whole.limits, reason]
    return [Cut(whole.jobs[a:b], whole.settings, whole.why, limits) for a, b in itertools.pairwise(bounds)]
