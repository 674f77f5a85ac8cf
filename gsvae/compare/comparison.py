"""A comparison: the runs of one or many sweeps, what they differ in, and their ranking."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gsvae.compare.groups import Group, differing_keys, group_runs, mixed_protocols
from gsvae.compare.runs import Run, Sweep, read_sweep
from gsvae.compare.statistics import MORE_IS_BETTER, Score, choose_metric, rank_groups, verdict
from gsvae.errors import UserError, near_miss

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """What is shown of some runs.

    Attributes:
        keys: the settings in which the groups differ.
        metric: what is ranked by; None before any run has finished.
    """

    name: str
    runs: list[Run]
    keys: list[str]
    groups: list[Group]
    metric: str | None
    maximize: bool
    ranked: list[tuple[Group, Score]] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        found = verdict(self.ranked, self.metric or "")
        return f"{found} But the images are not the same: see the warning." if self.warning and self.ranked else found

    @property
    def unscored(self) -> list[Run]:
        """Finished runs that lack the metric."""
        return [run for run in self.runs if run.state == "finished" and self.metric not in run.metrics]

    @property
    def warning(self) -> str | None:
        return mixed_protocols(self.runs)


def compare(paths: Sequence[Path], metric: str | None = None, *, maximize: bool | None = None) -> Comparison:
    """Read and rank the runs of sweep folders, or run folders.

    Args:
        paths: the folders; where there are several, the sweep is one of the settings that differ.
        metric: what to rank by; None: ``val/neg_elbo``, or ``test/neg_elbo`` where nothing has the first.
        maximize: whether more is better; None: as the metric has it.

    Raises:
        UserError: no such folder, no runs in it, or no such metric.
    """
    sweeps = together([read_sweep(path) for path in paths])
    runs = [run for sweep in sweeps for run in (with_sweep(sweep) if len(sweeps) > 1 else sweep.runs)]
    keys = differing_keys(runs)
    groups = group_runs(runs, keys)
    if metric is not None:
        known = sorted({name for run in runs for name in run.metrics})
        if metric not in known:
            meant = near_miss(metric, known) or f"; there are {', '.join(known) or 'none yet'}"
            raise UserError(f"--metric {metric}: no finished run has it{meant}")
    metric = metric or choose_metric(groups)
    more = metric in MORE_IS_BETTER if maximize is None else maximize
    ranked = rank_groups(groups, metric, maximize=more) if metric else []
    return Comparison(" + ".join(sweep.name for sweep in sweeps), runs, keys, groups, metric, more, ranked)


def together(sweeps: Sequence[Sweep]) -> list[Sweep]:
    """Sweeps that have names of their own and no run in common; runs that were given singly are one sweep."""
    seen: set[Path] = set()
    found: dict[Path | None, Sweep] = {}
    for sweep in sorted(sweeps, key=is_single):  # a run that is also in a sweep belongs to that
        place = None if is_single(sweep) and len(sweeps) > 1 else sweep.path.resolve()
        new = [run for run in sweep.runs if run.state == "waiting" or run.folder.resolve() not in seen]
        seen |= {run.folder.resolve() for run in new}
        if place is None:
            earlier = found[None].runs if None in found else []
            found[None] = Sweep(sweep.path, "runs", [*earlier, *new])
        else:
            found.setdefault(place, Sweep(sweep.path, sweep.name, new))
    names = [sweep.name for sweep in found.values()]
    return [
        replace(sweep, name=str(sweep.path.resolve())) if names.count(sweep.name) > 1 else sweep
        for sweep in found.values()
        if sweep.runs
    ]


def is_single(sweep: Sweep) -> bool:
    """Whether it is one run's own folder."""
    return [run.folder for run in sweep.runs] == [sweep.path]


def with_sweep(sweep: Sweep) -> list[Run]:
    """A sweep's runs with its name among their settings."""
    return [
        replace(run, settings={"sweep": sweep.name, **run.settings}, keys=("sweep", *run.keys)) for run in sweep.runs
    ]
