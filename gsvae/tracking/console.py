"""What a person sees: a progress bar on a terminal, plain lines otherwise, and a table at the end."""

import io
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["Lines", "StdoutHandler", "TrainingProgress", "in_numbers", "table"]

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 2.0
SECONDS_BETWEEN_MOVES = 0.2


class StdoutHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever sys.stdout is now, so that lines go above a progress bar."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)


class Lines:
    """Plain lines of progress, not too many."""

    def __init__(self) -> None:
        self._last = 0.0

    def say(self, step: int, total: int, per_epoch: int, numbers: str) -> None:
        """Log a line, if it is the last or the one before was long ago."""
        if step == total or time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            log.info("step %d of %d (epoch %.1f): %s", step, total, step / per_epoch, numbers)


class TrainingProgress:
    """Shows how far training is. Does not exist twice at a time on one terminal."""

    def __init__(self, total_steps: int, steps_per_epoch: int) -> None:
        self.total = total_steps
        self.per_epoch = steps_per_epoch
        self._lines = Lines()
        self._last_move = 0.0
        self._bar: Progress | None = None
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("[progress.description]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                console=Console(file=sys.stdout),
            )
            self._task = self._bar.add_task("training", total=total_steps, numbers="")
            self._bar.start()

    def update(self, step: int, numbers: str) -> None:
        """Show the numbers of a log point."""
        if self._bar:
            self._bar.update(self._task, completed=step, numbers=numbers)
        else:
            self._lines.say(step, self.total, self.per_epoch, numbers)

    def moved(self, step: int) -> None:
        """Move the bar between log points; nothing is read from the device, and plain lines wait for the metrics."""
        if self._bar and time.monotonic() - self._last_move >= SECONDS_BETWEEN_MOVES:
            self._last_move = time.monotonic()
            self._bar.update(self._task, completed=step)

    def note(self, text: str) -> None:
        """Show what is being done beside the steps."""
        if self._bar:
            self._bar.update(self._task, description=text)

    def close(self) -> None:
        if self._bar:
            self._bar.stop()


def in_numbers(metrics: Sequence[Mapping[str, float]]) -> str:
    """The last window's metrics of one run, or what several have in common."""
    losses = [m["train/loss"] for m in metrics]
    images = f"{sum(m['train/images_per_second'] for m in metrics) / len(metrics):,.0f} images/s"
    if len(metrics) == 1:
        return f"loss {losses[0]:.2f}  τ {metrics[0]['train/tau']:.3g}  {images}"
    return f"{len(metrics)} runs  loss {min(losses):.2f} to {max(losses):.2f}  {images} each"


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "", *, words: bool = False
) -> str:
    """A table as plain text; the first column is left-aligned, the others are numbers or ``words``; None shows as –."""
    drawn = Table(title=title, title_justify="left", caption=note or None, caption_justify="left")
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="right" if index and not words else "left", no_wrap=not words)
    for row in rows:
        drawn.add_row(*(cell(value) for value in row))
    out = io.StringIO()
    Console(file=out, width=110, color_system=None).print(drawn)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def cell(value: Any) -> str:
    """Numbers with two decimals."""
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
