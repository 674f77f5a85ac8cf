"""Runs as a table of two settings, and which of a column's differences are noise."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gsvae.compare.comparison import Comparison
from gsvae.compare.groups import MISSING, Group, differing_keys, rank, shown, value_of
from gsvae.compare.paper.published import Published, label_of
from gsvae.compare.runs import Run
from gsvae.compare.statistics import MORE_IS_BETTER, NOISE, Score, holm, score, welch
from gsvae.errors import UserError, near_miss

__all__ = ["ALONE", "BEST", "NEAR", "WORSE", "Pivot", "pivot"]

BEST, NEAR, WORSE, ALONE = "best", "near", "worse", "alone"


@dataclass(frozen=True)
class Pivot:
    """A table.

    Attributes:
        rows, columns: their names, in the published order and then ours.
        row_key, column_keys: the settings they are values of.
        metrics: the numbers shown; the last is the one that orders are judged by.
        groups: the finished runs of each cell.
        verdicts: of each number (row, column, metric): ``best`` of its column; ``near`` if its difference from the
            best may be noise (Welch's test, Holm's correction over the column, p > 0.05); ``worse``; or ``alone``
            where there are too few seeds to tell.
        unfinished: how many runs are not in the table because they have not finished.
        commands: the sweep's.
    """

    name: str
    rows: list[str]
    columns: list[str]
    row_key: str
    column_keys: tuple[str, ...]
    metrics: tuple[str, ...]
    groups: dict[tuple[str, str], Group]
    published: Published | None = None
    unfinished: int = 0
    warning: str | None = None
    commands: tuple[str, ...] = ()
    verdicts: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def score(self, row: str, column: str, metric: str) -> Score | None:
        """A cell's number over seeds, None if there is none."""
        group = self.groups.get((row, column))
        return score(group, metric) if group else None

    def theirs(self, row: str, column: str, metric: str) -> float | None:
        """The published mean, None if there is none."""
        return self.published.mean(row, column, metric) if self.published else None

    def epochs(self, column: str | None = None) -> list[int]:
        """The lengths of training there are, of a column's runs or of all."""
        groups = [group for (_, place), group in self.groups.items() if column in (None, place)]
        return sorted({run.settings["training.epochs"] for g in groups for run in g.runs if lasted(run)})

    def seeds(self) -> list[int]:
        """The numbers of seeds there are in a cell."""
        found = [self.score(row, column, metric) for row, column in self.groups for metric in self.metrics]
        return sorted({one.n for one in found if one})


def lasted(run: Run) -> bool:
    return isinstance(run.settings.get("training.epochs"), int)


def pivot(
    comparison: Comparison,
    rows: str,
    columns: Sequence[str],
    metrics: Sequence[str],
    published: Published | None = None,
    commands: Sequence[str] = (),
) -> Pivot:
    """Arrange a comparison's finished runs.

    Args:
        rows, columns: the settings that go down and across, ``sampling`` and ``model.n_cat``, ``model.n_latent``.
        metrics: numbers of ``summary.json``.

    Raises:
        UserError: no run has such a setting or number; runs of one cell differ in more than their seed; or the
            published figures are not of these settings.
    """
    finished = [run for run in comparison.runs if run.state == "finished"]
    if not finished:
        raise UserError(f"{comparison.name}: no run has finished yet")
    for option, key in [("--rows", rows), *(("--columns", key) for key in columns)]:
        check_key(option, key, finished)
    for metric in metrics:
        if not any(metric in run.metrics for run in finished) and not (published and metric in published.metrics):
            known = sorted({name for run in finished for name in run.metrics})
            meant = near_miss(metric, known) or f"; there are {', '.join(known)}"
            raise UserError(f"--metrics {metric}: no finished run has it{meant}")
    groups = cells(finished, rows, columns)
    check_alike(groups)
    ours = sorted(groups, key=lambda place: [rank(number(text)) for text in (place[0], *place[1].split("×"))])
    row_names, column_names = (list(dict.fromkeys(place[axis] for place in ours)) for axis in (0, 1))
    if published:
        check_published(published, rows, columns, metrics, row_names, column_names)
        row_names = in_order(row_names, list(published.figures))
        column_names = in_order(column_names, published.column_names)
    table = Pivot(
        name=comparison.name,
        rows=row_names,
        columns=column_names,
        row_key=rows,
        column_keys=tuple(columns),
        metrics=tuple(metrics),
        groups=groups,
        published=published,
        unfinished=len(comparison.runs) - len(finished),
        warning=comparison.warning,
        commands=tuple(commands),
    )
    for column in column_names:
        for metric in metrics:
            table.verdicts.update(judged(table, column, metric))
    return table


def cells(runs: Sequence[Run], rows: str, columns: Sequence[str]) -> dict[tuple[str, str], Group]:
    """The runs of each cell, by seed."""
    found: dict[tuple[str, str], Group] = {}
    for run in runs:
        values = {key: value_of(run, key) for key in (rows, *columns)}
        names = [shown(value) for value in values.values()]
        found.setdefault((names[0], label_of(names[1:])), Group(values, [])).runs.append(run)
    for group in found.values():
        group.runs.sort(key=lambda run: (run.seed is None, rank(run.seed)))
    return found


def check_key(option: str, key: str, runs: Sequence[Run]) -> None:
    if all(value_of(run, key) == MISSING for run in runs):
        known = sorted({name for run in runs for name in (*run.settings, *run.choices)})
        raise UserError(f"{option} {key}: no run has this setting{near_miss(key, known)}")


def check_alike(groups: dict[tuple[str, str], Group]) -> None:
    """A mean is over seeds, of runs that are otherwise the same."""
    for (row, column), group in groups.items():
        if keys := [key for key in differing_keys(group.runs) if key != "sweep"]:  # seeds may be in several sweeps
            values = ", ".join(sorted({shown(value_of(run, keys[0])) for run in group.runs}))
            raise UserError(
                f"{row} {column}: its runs differ in more than their seed: {keys[0]} is {values}; put it into --rows "
                "or --columns, or name the runs' folders"
            )


def check_published(
    published: Published,
    rows: str,
    columns: Sequence[str],
    metrics: Sequence[str],
    row_names: Sequence[str],
    column_names: Sequence[str],
) -> None:
    for option, ours, theirs in [
        ("--rows", [rows], [published.rows]),
        ("--columns", list(columns), list(published.columns)),
    ]:
        if ours != theirs:
            raise UserError(f"{option} {','.join(ours)}: the published figures are of {','.join(theirs)}")
    if missing := [metric for metric in metrics if metric not in published.metrics]:
        raise UserError(f"--metrics {missing[0]}: published are {', '.join(published.metrics)}")
    for kind, our_names, their_names in [
        ("row", row_names, list(published.figures)),
        ("column", column_names, published.column_names),
    ]:
        lacking = [name for name in our_names if name not in their_names]
        if len(lacking) == len(our_names):
            there = ", ".join(their_names)
            raise UserError(f"--published: has none of our {kind}s {', '.join(our_names)}; it has {there}")
        for name in their_names:  # of one that was not run there is nothing to say; one may be misspelt
            if kind == "row" and name not in our_names and (meant := near_miss(name, lacking)):
                raise UserError(f"--published: {kind} {name}: no run has it{meant}")


def in_order(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Our names as the published table has them, others after."""
    return [name for name in dict.fromkeys([*theirs, *ours]) if name in ours]


def number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def judged(table: Pivot, column: str, metric: str) -> dict[tuple[str, str, str], str]:
    """The verdicts on a column's numbers of one metric."""
    scores = {row: found for row in table.rows if (found := table.score(row, column, metric))}
    if not scores:
        return {}
    pick = max if metric in MORE_IS_BETTER else min
    best = pick(scores, key=lambda row: scores[row].mean)
    others = [row for row in scores if row != best]
    corrected = holm([welch(scores[best], scores[row]) for row in others])
    verdicts = {(best, column, metric): BEST}
    for row, p in zip(others, corrected, strict=True):
        verdicts[row, column, metric] = ALONE if p is None else NEAR if p > NOISE else WORSE
    return verdicts
