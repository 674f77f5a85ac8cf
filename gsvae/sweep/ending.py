"""How a sweep ended: who won, what failed and why, and how to go on."""

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from gsvae.claim import holder
from gsvae.sweep.folder import ENDED, SweepFolder
from gsvae.sweep.plan import Job
from gsvae.tracking.console import table

__all__ = ["ending"]


def ending(folder: SweepFolder, jobs: Sequence[Job], stopped: str | None, go_on: str) -> tuple[str, int]:
    """The closing text of a sweep, and how many of its runs failed.

    Args:
        stopped: why it was stopped before its end, or None.
        go_on: the command that goes on with it.
    """
    status = {job.id: folder.status(job.folder) for job in jobs}
    state = {job.id: state_of(folder, job, status[job.id]) for job in jobs}
    counts = Counter(state.values())
    lines = [comparison(folder)] if counts["finished"] else []
    for name in ("failed", "diverged"):
        found = [job for job in jobs if state[job.id] == name]
        if found:
            rows = [[job.label, first_line(status[job.id]["error"]), f"{job.folder}/run.log"] for job in found]
            lines.append(table(f"{len(found)} {name}", ["run", "reason", "log"], rows, words=True))
    counted = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    lines.append(f"Sweep folder: {folder.shown} ({counted}; comparison.html, summary.csv, sweep.log)")
    if stopped:
        lines.append(f"Ended early: {stopped}.")
    if set(counts) - {*ENDED, "failed", "elsewhere"}:
        lines.append(f"Go on with: {go_on}")
    elif counts["failed"]:
        lines.append(f"Try the failed again: {go_on} sweep.retry_failed=true")
    return "\n".join(lines), counts["failed"]


def state_of(folder: SweepFolder, job: Job, status: dict[str, Any]) -> str:
    """A run's state now; nobody is at a run that is still called running."""
    state = status.get("state", "not begun")
    if state in ENDED or state == "failed":
        return state
    if holder(folder.path / job.folder):
        return "elsewhere"
    return "interrupted" if state == "running" else state


def comparison(folder: SweepFolder) -> str:
    """The table of the runs by group, best first."""
    from gsvae.compare import text, update

    update(folder.path)
    return text(folder.path, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text(folder.path)


def first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
