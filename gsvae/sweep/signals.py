"""The first SIGINT or SIGTERM to a sweep's driver asks its runs to stop; the second acts as it always did."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.resource_tracker import ensure_running
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopSignals", "unheard_by_children"]


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
        self._restore()
        self._on_stop(signal.Signals(signum).name)

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()


@contextlib.contextmanager
def unheard_by_children() -> Iterator[None]:
    """Processes that this thread starts meanwhile never hear SIGINT.

    A terminal's Ctrl-C goes to all of them, also to one that still imports or that a library controls, and would end it
    there; they learn of it by the sweep's mark. This process hears it by another thread, of which there must be one.
    """
    ensure_running()  # multiprocessing's helper; its start on the way would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
