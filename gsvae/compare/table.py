"""The comparison on a terminal: a row per group, best first, then what did not finish."""

import io

from rich.console import Console, RenderableType
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from gsvae.compare.comparison import Comparison
from gsvae.compare.groups import shown
from gsvae.compare.runs import states
from gsvae.compare.statistics import Score, score

__all__ = ["as_text", "render"]

COLUMNS = {
    "val/neg_elbo": "val −ELBO",
    "test/neg_elbo": "test −ELBO",
    "test/iwae": "test IWAE",
    "codes/perplexity": "perplexity",
    "codes/active": "active latents",
}
ROWS = 40


def render(comparison: Comparison) -> RenderableType:
    """The table, the verdict, and the runs that did not finish."""
    parts: list[RenderableType] = []
    if comparison.ranked:
        parts.append(ranking(comparison))
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


def ranking(comparison: Comparison) -> Table:
    """A row per group with means and standard errors over its runs."""
    columns = dict.fromkeys([comparison.metric or "", *COLUMNS])
    present = [name for name in columns if any(score(group, name) for group, _ in comparison.ranked)]
    table = Table(
        title=Text(f"{comparison.name}: mean ± standard error, one-hot codes, nats per image"), title_justify="left"
    )
    for key in comparison.keys or ["runs"]:
        table.add_column(Text(key), no_wrap=True)
    table.add_column("n", justify="right")
    for name in present:
        arrow = ("↑" if comparison.maximize else "↓") if name == comparison.metric else ""
        table.add_column(f"{COLUMNS.get(name, name)}{arrow and ' ' + arrow}", justify="right", no_wrap=True)
    for place, (group, found) in enumerate(comparison.ranked[:ROWS]):
        names = [shown(value) for value in group.values.values()] or ["all"]
        cells = [as_cell(score(group, name)) for name in present]
        table.add_row(*map(Text, names), str(found.n), *cells, style="bold" if place == 0 else "")
    return table


def as_cell(found: Score | None) -> str:
    if found is None:
        return "–"
    return f"{found.mean:.2f}" if found.se is None else f"{found.mean:.2f} ± {found.se:.2f}"


def as_text(comparison: Comparison) -> str:
    """The same without colours, for logs."""
    out = io.StringIO()
    Console(file=out, width=140, color_system=None).print(render(comparison))
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())
