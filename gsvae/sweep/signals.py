"""The first SIGINT or SIGTERM to a sweep's driver asks its runs to stop; the second ends it at once.

A terminal's Ctrl-C goes to the workers as well; they leave it to the driver, whose mark they see in half a second.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["AtOnce", "StopSignals", "leave_interrupts_to_driver"]


class AtOnce(KeyboardInterrupt):
    """A second Ctrl-C to the driver itself; a plain KeyboardInterrupt may be a worker's."""


def leave_interrupts_to_driver() -> None:
    """Ignore SIGINT in this process, a worker; while a run trains, its first one still ends it with a checkpoint."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_at_once(signum: int, frame: FrameType | None) -> None:
    raise AtOnce


class StopSignals:
    """While entered, the first signal calls ``on_stop`` with its name; runs in this process have their own handlers."""

    def __init__(self, on_stop: Callable[[str], None]) -> None:
        self.signum: int | None = None
        self._on_stop = on_stop
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _received(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        signal.signal(signal.SIGINT, end_at_once)
        signal.signal(signal.SIGTERM, self._before[signal.SIGTERM])
        self._on_stop(signal.Signals(signum).name)

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()
