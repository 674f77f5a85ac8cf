"""SIGINT, SIGTERM and a cluster's SIGUSR2 as a flag that long work looks at between its steps."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupt", "Interrupted"]


class Interrupted(BaseException):
    """The run was asked to stop; not an Exception, so that nothing which contains failures swallows it."""

    def __init__(self, signum: int, reason: str | None = None) -> None:
        super().__init__(reason or f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.by_signal = reason is None


class Interrupt:
    """While entered, the first SIGINT or SIGTERM sets a flag; the second one acts as it always did.

    Outside the main thread (some launchers) signals cannot be caught, and nothing is installed.

    Args:
        also: called by every check, to raise for reasons of its own.
    """

    def __init__(self, also: Callable[[], None] | None = None) -> None:
        self.signum: int | None = None
        self._also = also
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for signum in self._signals():
                self._before[signum] = signal.signal(signum, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal has come."""
        if self.signum is not None:
            raise Interrupted(self.signum)
        if self._also is not None:
            self._also()

    def _signals(self) -> list[int]:
        """SIGUSR2 too where something waits for it: it is how submitit hears of a time limit."""
        taken = hasattr(signal, "SIGUSR2") and callable(signal.getsignal(signal.SIGUSR2))
        return [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR2] if taken else [])]

    def _received(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()
