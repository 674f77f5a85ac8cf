"""The table as a picture: above, each column's numbers with what is published; below, their way there."""

from pathlib import Path
from typing import Any

from gsvae.compare.paper.order import curve
from gsvae.compare.paper.pivot import Pivot
from gsvae.compare.paper.words import METRICS
from gsvae.files import write_atomically

__all__ = ["draw"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999933")  # Okabe and Ito's
WAY = "val/neg_elbo"


def draw(table: Pivot, path: Path) -> None:
    """Write the picture as PNG."""
    from matplotlib.figure import Figure  # half a second

    n = len(table.columns)
    ways = any(curve(group.runs, WAY) for group in table.groups.values())
    height = 1.0 + 0.34 * len(table.rows)
    heights = [height, 2.6] if ways else [height]
    figure = Figure(figsize=(1.8 + max(2.4 * n, 4.0), sum(heights) + 0.9), layout="constrained")
    axes = figure.subplots(len(heights), n, squeeze=False, gridspec_kw={"height_ratios": heights})
    for place, column in enumerate(table.columns):
        points(axes[0, place], table, column, first=place == 0)
        if ways:
            lines(axes[1, place], table, column, first=place == 0)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def points(axes: Any, table: Pivot, column: str, *, first: bool) -> None:
    """A line per row: ours with their standard deviation, filled; what is published, hollow; the last metric black."""
    for place, metric in enumerate(table.metrics):
        last = place == len(table.metrics) - 1
        colour, shape = ("black" if last else "0.6"), "os^v"[place % 4]
        name = METRICS.get(metric, metric)
        shift = 0.16 * (place - (len(table.metrics) - 1) / 2)
        ours = [(y + shift, found) for y, row in enumerate(table.rows) if (found := table.score(row, column, metric))]
        theirs = [
            (y + shift, mean) for y, row in enumerate(table.rows)
            if (mean := table.theirs(row, column, metric)) is not None
        ]  # fmt: skip
        axes.errorbar([s.mean for _, s in ours], [y for y, _ in ours], xerr=[s.sd or 0.0 for _, s in ours], fmt=shape,
                      color=colour, markersize=5, capsize=2, linewidth=1, label=name)  # fmt: skip
        if table.published:
            axes.plot([mean for _, mean in theirs], [y for y, _ in theirs], shape, color=colour, markersize=7,
                      markerfacecolor="none", label=f"{name}, {table.published.name}")  # fmt: skip
    names = [row.replace("_", " ") for row in table.rows]
    axes.set_yticks(range(len(names)), names if first else [""] * len(names), fontsize=8)
    for tick, row in zip(axes.get_yticklabels(), table.rows, strict=True):
        tick.set_color(colour_of(table, row))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title(column, fontsize=9)
    axes.grid(axis="x", color="0.92")
    axes.tick_params(labelsize=8)
    axes.set_xlabel("nats per image" if "elbo" in table.metrics[-1] else table.metrics[-1], fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def lines(axes: Any, table: Pivot, column: str, *, first: bool) -> None:
    """A curve per row over epochs, mean and standard deviation over seeds; what is published at the right."""
    ends: list[float] = []
    for row in table.rows:
        group = table.groups.get((row, column))
        found = curve(group.runs, WAY) if group else None
        if not found:
            continue
        colour, ends = colour_of(table, row), [*ends, found.mean[-1]]
        axes.plot(found.epochs, found.mean, color=colour, linewidth=1.3, marker="." if len(found.epochs) < 12 else "")
        low, high = (
            [m + sign * s for m, s in zip(found.mean, found.sd, strict=True)] for sign in (-1, 1)
        )  # fmt: skip
        axes.fill_between(found.epochs, low, high, color=colour, alpha=0.18, linewidth=0)
        theirs = table.theirs(row, column, table.metrics[-1])
        if theirs is not None:
            axes.plot([1.03], [theirs], "o", transform=axes.get_yaxis_transform(), clip_on=False, color=colour,
                      markersize=6, markerfacecolor="none")  # fmt: skip
            ends.append(theirs)
    if ends:  # the first epochs are far above what is to be told apart
        spread = max(max(ends) - min(ends), 1e-3)
        axes.set_ylim(min(ends) - 0.15 * spread, max(ends) + 1.0 * spread)
    axes.set_xlabel("epoch", fontsize=8)
    if first:
        axes.set_ylabel(way_name(table), fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)


def way_name(table: Pivot) -> str:
    """The curves' images: with ``evaluation.val_on_test`` those are the test images."""
    runs = [run for group in table.groups.values() for run in group.runs]
    on_test = all(run.settings.get("evaluation.val_on_test") for run in runs)
    return f"−ELBO, {'test' if on_test else 'validation'} images"


def colour_of(table: Pivot, row: str) -> str:
    return COLOURS[table.rows.index(row) % len(COLOURS)]
