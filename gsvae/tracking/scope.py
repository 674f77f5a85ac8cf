"""Whose log line it is, where one process trains several runs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

__all__ = ["NoRun", "OnlyRun", "run_scope"]

_folder: ContextVar[Path | None] = ContextVar("run folder", default=None)


@contextmanager
def run_scope(folder: Path) -> Iterator[None]:
    """What is logged meanwhile, and in threads that get this context, is of the run in ``folder``."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


class OnlyRun(logging.Filter):
    """Passes the lines of one run, and warnings that are of no run in particular."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def filter(self, record: logging.LogRecord) -> bool:
        current = _folder.get()
        return current == self.folder or (current is None and record.levelno >= logging.WARNING)


class NoRun(logging.Filter):
    """Passes lines that are of no run."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _folder.get() is None
