"""What a sweep says: lines on the terminal, above its bar if there is one, and dated in ``sweep.log``."""

import os
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gsvae.sweep.folder import ENDED, SweepFolder
from gsvae.sweep.plan import Job

__all__ = ["Watcher", "Words"]

LOOK = 1.0  # seconds between looks at the runs


class Words:
    """Says lines."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.bar: Progress | None = None

    def say(self, text: str) -> None:
        """Say some lines at once."""
        if self.bar:
            self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            try:
                print(text, flush=True)
            except BrokenPipeError:  # nobody reads on (``| head``), and sweep.log has it all
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self.note(text)

    def note(self, text: str) -> None:
        """Lines for the log alone."""
        stamp = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        with open(self._log, "a") as file:
            file.writelines(f"{stamp} {line}\n" for line in text.splitlines())


class Watcher:
    """Says of every run how it ended, whoever trains it; a context around the launching.

    Args:
        jobs: the runs to watch.
        before, total: how many runs came before these, and how many there will be; None: these are all.
        bar: whether to show how many have ended, on a terminal that no run's own bar needs.
    """

    def __init__(
        self,
        folder: SweepFolder,
        words: Words,
        jobs: Sequence[Job],
        *,
        bar: bool,
        before: int = 0,
        total: int | None = None,
    ) -> None:
        self.folder, self.words, self.jobs = folder, words, jobs
        self._counted, self._total = before, before + len(jobs) if total is None else total
        self._shows = bar and sys.stdout.isatty()
        self._before = {job.id: self._stamp(job) for job in jobs}
        self._told: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> "Watcher":
        if self._shows:
            self.words.bar = Progress(
                TextColumn("runs"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(file=sys.stdout),
                transient=True,
            )
            self._task = self.words.bar.add_task("runs", total=self._total, completed=self._counted)
            self.words.bar.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        if self.words.bar:
            self.words.bar.stop()
            self.words.bar = None

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            self._look()

    def _look(self) -> None:
        for job in self.jobs:
            if job.id in self._told:
                continue
            status = self.folder.status(job.folder)
            if status.get("state") in (*ENDED, "failed") and self._stamp(job) != self._before[job.id]:
                self._told.add(job.id)
                self._counted += 1
                if self.words.bar:
                    self.words.bar.update(self._task, completed=self._counted)
                self.words.say(f"[{self._counted}/{self._total}] {job.label}: {self.outcome(job, status)}")

    def _stamp(self, job: Job) -> Any:
        """Changes with every write of the run's status."""
        try:
            return (self.folder.path / job.folder / "status.json").stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def outcome(self, job: Job, status: dict[str, Any]) -> str:
        """How a run ended, in a few words."""
        if status["state"] != "finished":
            return f"{status['state']}: {first_line(status['error'])}"
        numbers = self.folder.summary(job.folder)
        name = next((name for name in ("val/neg_elbo", "test/neg_elbo") if name in numbers), None)
        score = f", {name} {numbers[name]:.2f}" if name and numbers[name] is not None else ""
        return f"finished{score} ({numbers.get('seconds', 0):.0f} s)"


def first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
