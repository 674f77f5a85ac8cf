"""Bias against variance: a line for each estimator, over its temperatures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gsvae.files import write_atomically
from gsvae.gradients.lab import Report, Row

__all__ = ["draw"]

MARKERS = "osD^vP*Xhp<>d8"
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#111111", "#bcbd22", "#17becf",
           "#08306b", "#a63603", "#006d2c", "#7f7f7f")  # fmt: skip
LEAST = 1e-8  # below it a variance is rounding, and the estimator exact
FLOOR = 1e-4  # a variance below it is as good as none, and would only stretch the axis


def draw(report: Report, path: Path) -> None:
    """Write the figure: bias² (across) and variance (up), both relative to ‖g*‖², on logarithmic axes.

    Where the bias is not told from 0, the marker is empty and stands at the most it may be, two standard errors above
    the estimate, with an arrow to the left. Variances below 1e-4 stand at 1e-4. Estimators without any are named below.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.6), layout="constrained")
    axes = figure.subplots()
    lines: dict[str, list[Row]] = {}
    for row in report.rows:
        lines.setdefault(row.estimator, []).append(row)
    shown = {name: [row for row in rows if row.measured.variance > LEAST] for name, rows in lines.items()}
    for index, (name, rows) in enumerate((name, rows) for name, rows in shown.items() if rows):
        draw_line(axes, name, rows, color=COLOURS[index % len(COLOURS)], marker=MARKERS[index % len(MARKERS)])
    axes.set(xscale="log", yscale="log")
    axes.margins(0.1)
    draw_error_lines(axes)
    axes.set_xlabel("bias² / ‖g*‖²")
    axes.set_ylabel("variance of one draw / ‖g*‖²")
    axes.grid(which="major", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    figure.legend(loc="outside right upper", frameon=False)
    figure.suptitle(heading(report), fontsize="medium")
    exact = [name for name, rows in shown.items() if not rows]
    figure.supxlabel(caption(report, exact), fontsize="small", color="0.3", x=0.01, ha="left")
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=130))


def heading(report: Report) -> str:
    what = "the encoder's parameters" if report.settings.wrt == "encoder" else "each image's logits"
    return f"Bias and variance of the gradient to {what}"


def caption(report: Report, exact: Sequence[str]) -> str:
    lines = [
        f"{report.run.folder.resolve().name}, step {report.run.step:,}.",
        f"g*: {report.reference}. {report.settings.draws} draws on {report.n_images} images.",
        "Empty, with an arrow: the bias is not told from 0, and at most where the marker is (2 standard errors).",
        "Dotted: equal expected squared error of one draw, bias² + variance. Down and to the left is better.",
    ]
    if any(LEAST < row.measured.variance < FLOOR for row in report.rows):
        lines.append(f"At {FLOOR:g}: variance of {FLOOR:g} or less.")
    if exact:
        lines.append(f"Not shown: {', '.join(exact)} (no variance).")
    return "\n".join(lines)


def draw_line(axes: Any, name: str, rows: Sequence[Row], color: str, marker: str) -> None:
    """One estimator; its first and last temperature are written beside it."""
    from matplotlib.patheffects import withStroke

    xs = [place_of(row) for row in rows]
    ys = [max(row.measured.variance, FLOOR) for row in rows]
    label = name + (f" ({rows[0].weights})" if rows[0].weights else "")
    axes.plot(xs, ys, color=color, linewidth=1.2, alpha=0.7)
    axes.plot([], [], color=color, marker=marker, linewidth=1.2, label=label)
    for x, y, row in zip(xs, ys, rows):
        told = row.measured.is_biased
        axes.plot([x], [y], color=color, marker=marker, markersize=7, markerfacecolor=color if told else "white")
        if not told:
            axes.annotate(
                "", (x, y), xytext=(-24, 0), textcoords="offset points",
                arrowprops={"arrowstyle": "<-", "color": color, "shrinkB": 3},
            )  # fmt: skip
    if rows[0].tau is None:
        return
    outline = [withStroke(linewidth=2.5, foreground="white")]
    for index in sorted({0, len(rows) - 1}):
        axes.annotate(
            f"τ={rows[index].tau:g}", (xs[index], ys[index]), xytext=(6, 5), textcoords="offset points",
            fontsize="small", color=color, path_effects=outline,
        )  # fmt: skip


def place_of(row: Row) -> float:
    """Where a point stands: at its bias², or at the most that it may be."""
    m = row.measured
    return m.bias2 if m.is_biased else max(max(m.bias2, 0.0) + 2 * m.bias2_se, LEAST)


def draw_error_lines(axes: Any) -> None:
    """Where bias² + variance is 0.1, 1, 10 and so on, as far as the axes go."""
    import numpy as np

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for power in range(-8, 9):
        error2 = 10.0**power
        end = min(right, error2 - low)
        if left < end:
            x = np.geomspace(left, end, 500)
            y = error2 - x
            axes.plot(x[y < high], y[y < high], color="0.65", linewidth=0.9, linestyle=":", zorder=0)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
