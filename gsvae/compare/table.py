"""The comparison on a terminal: a row per group, best first, then what did not finish."""

import io
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.console import Group as Lines
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gsvae.compare.comparison import Comparison
from gsvae.compare.groups import shown
from gsvae.compare.runs import states
from gsvae.compare.statistics import Score, score

__all__ = ["WIDTH", "as_text", "render"]

COLUMNS = {
    "val/neg_elbo": "val −ELBO",
    "test/neg_elbo": "test −ELBO",
    "test/iwae": "test IWAE",
    "codes/perplexity": "perplexity",
    "codes/active": "active latents",
}
ROWS = 40
WIDTH = 140  # characters of a line, where there is no terminal


def render(comparison: Comparison) -> RenderableType:
    """The table, the verdict, and the runs that did not finish."""
    parts: list[RenderableType] = []
    if comparison.ranked:
        parts.append(Ranking(comparison))
    if left := len(comparison.ranked) - ROWS:
        parts += [Text(f"… and {left} more in summary.csv")] if left > 0 else []
    parts.append(Text(comparison.verdict))
    if comparison.warning:
        parts.append(Text(f"warning: {comparison.warning}"))
    unfinished = [run for run in comparison.runs if run.state != "finished"]
    left_out = [f"{n} {state}" for state, n in states(unfinished).items()]
    if comparison.metric and comparison.unscored:
        left_out.append(f"{len(comparison.unscored)} finished without {comparison.metric}")
    if left_out:
        parts.append(Text("Not ranked: " + ", ".join(left_out)))
        told = [run for run in unfinished if run.error and run.error.strip()]
        for run in told[:ROWS]:
            parts.append(Text(f"  {run.name}: {run.state}: {(run.error or '').strip().splitlines()[0]}"))
        if len(told) > ROWS:
            parts.append(Text(f"  … and {len(told) - ROWS} more in summary.csv"))
    return Lines(*parts)


class Ranking:
    """A row per group with means and standard errors over its runs, in as many columns as there is room for.

    Numbers are never cut off: the last columns give way first, then the settings are wrapped.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = metrics_of(self.comparison)
        while len(shown) > 2 and self.width(console, options, shown) > options.max_width:
            shown.pop()
        yield ranking(self.comparison, shown)

    def width(self, console: Console, options: ConsoleOptions, shown: Sequence[str]) -> int:
        """How wide a table of these numbers would like to be."""
        return Measurement.get(console, options.update(max_width=10_000), ranking(self.comparison, shown)).maximum


def metrics_of(comparison: Comparison) -> list[str]:
    """The numbers to show, the one that is ranked by first."""
    columns = dict.fromkeys([comparison.metric or "", *COLUMNS])
    return [name for name in columns if any(score(group, name) for group, _ in comparison.ranked)]


def ranking(comparison: Comparison, shown_metrics: Sequence[str]) -> Table:
    """The table with these numbers."""
    table = Table(
        title=Text(f"{comparison.name}: mean ± standard error, one-hot codes, nats per image"), title_justify="left"
    )
    for key in comparison.keys or ["runs"]:
        table.add_column(Text(key), overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    for name in shown_metrics:
        arrow = ("↑" if comparison.maximize else "↓") if name == comparison.metric else ""
        table.add_column(f"{COLUMNS.get(name, name)}{arrow and ' ' + arrow}", justify="right", no_wrap=True)
    for place, (group, found) in enumerate(comparison.ranked[:ROWS]):
        names = [shown(value) for value in group.values.values()] or ["all"]
        cells = [as_cell(score(group, name)) for name in shown_metrics]
        table.add_row(*map(Text, names), str(found.n), *cells, style="bold" if place == 0 else "")
    return table


def as_cell(found: Score | None) -> str:
    if found is None:
        return "–"
    return f"{found.mean:.2f}" if found.se is None else f"{found.mean:.2f} ± {found.se:.2f}"


def as_text(comparison: Comparison, width: int = WIDTH) -> str:
    """The same without colours, for logs."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(render(comparison))
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())
