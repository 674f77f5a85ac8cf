"""One run's events, given to the run folder first and to W&B second."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from gsvae.tracking.painter import Painter
from gsvae.tracking.run_folder import RunFolder
from gsvae.tracking.wandb_sink import WandbSettings, WandbSink

__all__ = ["Tracker"]


class Tracker:
    """Where a run's metrics, images and outcome go.

    Args:
        folder: the run folder.
        wandb: what W&B is told; None to leave it out.
    """

    def __init__(self, folder: RunFolder, wandb: WandbSettings | None) -> None:
        self.folder = folder
        self._settings = wandb
        self._wandb: WandbSink | None = None
        self.painter = Painter()
        self._drawing: list[Future[None]] = []

    def start(self, keep_rows: int = 0) -> None:
        """Begin, or go on after the first ``keep_rows`` rows of the history."""
        self.folder.start(keep_rows)
        if self._settings is not None:
            self._wandb = WandbSink(self._settings, self.folder.history())

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row of metrics; it has ``step`` and ``epoch``."""
        number = self.folder.log(row)
        if self._wandb:
            self._wandb.log(number, row)

    def images(self, drawings: Mapping[str, Callable[[Path], None]]) -> None:
        """Draw PNG files by name, each by calling its function with the path, beside the last row."""
        self.drawn()  # a picture is drawn by one at a time
        paths = {name: self.folder.image_path(name) for name in drawings}
        self._drawing = self.painter.draw({paths[name]: draw for name, draw in drawings.items()})
        if self._wandb:
            self._wandb.images(self.folder.rows - 1, paths, self._drawing)

    def drawn(self) -> None:
        """Wait for pictures that are still being drawn; raises what went wrong."""
        drawing, self._drawing = self._drawing, []
        for picture in drawing:
            picture.result()

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set the run's final values."""
        self.folder.summary(values)
        if self._wandb:
            self._wandb.summary(values)

    def artifact(self, path: Path, aliases: Sequence[str], metadata: Mapping[str, Any]) -> None:
        """Send a file of the run folder to W&B as the run's model."""
        if self._wandb:
            self._wandb.artifact(path, aliases, metadata)

    def close(self, state: str, error: str | None = None, **more: Any) -> None:
        """End with a state of ``status.json``; :meth:`wait` then waits for W&B."""
        self.drawn()
        self.folder.status(state, error, **more)
        self.folder.close()
        if self._wandb:
            self._wandb.close(0 if state in ("finished", "pruned") else 1)

    def abandon(self) -> None:
        """Stop writing; the run is another process's now, and so is its status."""
        self.folder.close()
        if self._wandb:
            self._wandb.close(1)

    def wait(self) -> None:
        """Wait until W&B has everything, for a bounded time."""
        if self._wandb:
            self._wandb.wait()

    @property
    def wandb_where(self) -> str:
        """The folder W&B keeps this run in, for ``wandb sync``; empty without W&B."""
        return self._wandb.where if self._wandb else ""
