"""Who draws a run's pictures: this process, or others beside it where many runs would wait for their pictures."""

import signal
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

__all__ = ["Painter"]

Drawing = Callable[[Path], None]


class Painter:
    """Draws at once, or in ``processes`` of its own."""

    def __init__(self, processes: int = 0) -> None:
        self._pool: Any = None
        if processes:
            from joblib.externals.loky import get_reusable_executor

            self._pool = get_reusable_executor(max_workers=processes)

    def draw(self, drawings: Mapping[Path, Drawing]) -> list[Future[None]]:
        """Draw each picture at its path; what is still being drawn is returned."""
        if self._pool is not None:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is not for its processes
            try:
                return [self._pool.submit(draw, path) for path, draw in drawings.items()]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for path, draw in drawings.items():
            draw(path)
        return []
