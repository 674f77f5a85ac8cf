"""Runs compared: a table over seeds, ``summary.csv``, and ``comparison.html``, one page that opens offline."""

import fcntl
import os
import time
from pathlib import Path

from gsvae.compare.comparison import Comparison, compare
from gsvae.compare.page import write_page
from gsvae.compare.sheet import write_sheet
from gsvae.compare.table import WIDTH, as_text
from gsvae.errors import UserError

__all__ = ["Comparison", "compare", "text", "update"]


def update(folder: Path) -> None:
    """Write a sweep's ``summary.csv`` and ``comparison.html``; several processes may, one after the other does.

    Raises:
        UserError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    asked = time.time_ns()
    (folder / ".sweep").mkdir(exist_ok=True)
    with open(folder / ".sweep" / "compare.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if asked < begun(lock.read()) <= time.time_ns():  # somebody has looked since, and saw what we would see
            return
        looked = time.time_ns()
        write(compare([folder]), folder)
        lock.truncate(0)
        lock.write(str(looked))
        lock.flush()
        os.fsync(lock.fileno())


def begun(record: str) -> int:
    """When the last look began, nanoseconds; 0 where that is not known."""
    return int(record) if record.strip().isdecimal() else 0


def write(comparison: Comparison, folder: Path) -> None:
    """Write the sheet and the page into a folder."""
    write_sheet(comparison, folder / "summary.csv")
    write_page(comparison, folder / "comparison.html")


def text(folder: Path, width: int = WIDTH) -> str:
    """A sweep's table and verdict as plain text."""
    return as_text(compare([folder]), width)
