"""Runs compared: a table over seeds, ``summary.csv``, and ``comparison.html``, one page that opens offline."""

import fcntl
import os
import time
from pathlib import Path

from gsvae.compare.comparison import Comparison, compare
from gsvae.compare.page import write_page
from gsvae.compare.sheet import write_sheet
from gsvae.compare.table import as_text

__all__ = ["Comparison", "compare", "text", "update"]


def update(folder: Path) -> None:
    """Write a sweep's ``summary.csv`` and ``comparison.html``; several processes may, one after the other does.

    Raises:
        UserError: there is no run in the folder.
    """
    asked = time.time_ns()
    (folder / ".sweep").mkdir(parents=True, exist_ok=True)
    with open(folder / ".sweep" / "compare.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if int(lock.read() or 0) > asked:  # somebody has looked since, and saw what we would see
            return
        looked = time.time_ns()
        write(compare([folder]), folder)
        lock.truncate(0)
        lock.write(str(looked))
        lock.flush()
        os.fsync(lock.fileno())


def write(comparison: Comparison, folder: Path) -> None:
    """Write the sheet and the page into a folder."""
    write_sheet(comparison, folder / "summary.csv")
    write_page(comparison, folder / "comparison.html")


def text(folder: Path) -> str:
    """A sweep's table and verdict as plain text."""
    return as_text(compare([folder]))
