"""The run folder, the record of truth: status, history, summary and images, none of them ever half-written."""

import json
import math
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gsvae.files import write_atomically, write_json

__all__ = ["RunFolder", "finite_or_none", "read_status"]


class RunFolder:
    """Writes one run's folder.

    Args:
        path: the folder.
        about: facts written once into ``status.json``: ids, versions, git revision.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.rows = 0
        self._about = {"pid": os.getpid(), "host": socket.gethostname(), **about}
        self._started = now()
        path.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def history_path(self) -> Path:
        return self.path / "history.jsonl"

    def start(self, keep_rows: int) -> None:
        """Begin, or go on after the first ``keep_rows`` rows of the history.

        Rows behind them were written after the checkpoint, and are about to be written again.
        """
        lines = self.history_path.read_bytes().split(b"\n")[:-1] if self.history_path.exists() else []
        kept = b"".join(line + b"\n" for line in lines[:keep_rows])
        write_atomically(self.history_path, lambda file: file.write(kept))
        self.rows = min(keep_rows, len(lines))
        self._history = open(self.history_path, "ab")  # noqa: SIM115 - open as long as the run
        earlier = self.path / "status.json"
        if keep_rows and earlier.is_file():  # a resumed run started when it first did
            self._started = json.loads(earlier.read_text())["started"]
        self.status("running")

    def history(self) -> list[dict[str, Any]]:
        """The rows so far."""
        return [json.loads(line) for line in self.history_path.read_text().splitlines()]

    def log(self, row: Mapping[str, Any]) -> int:
        """Append a row to ``history.jsonl`` and return its number; a number that is not finite becomes null."""
        line = json.dumps({key: finite_or_none(value) for key, value in row.items()})
        self._history.write(line.encode() + b"\n")
        self._history.flush()
        self.rows += 1
        return self.rows - 1

    def sync(self) -> None:
        """Bring the history to disk, so that a checkpoint never knows of rows which a power cut takes."""
        os.fsync(self._history.fileno())

    def image_path(self, name: str) -> Path:
        return self.path / "images" / f"{name}.png"

    def summary(self, values: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        write_json(self.path / "summary.json", {key: finite_or_none(value) for key, value in values.items()})

    def status(self, state: str, error: str | None = None, **more: Any) -> None:
        """Write ``status.json``: ``state`` is running, finished, failed, interrupted, diverged or pruned."""
        times = {"started": self._started, "updated": now()}
        if state != "running":
            times["ended"] = times["updated"]
        write_json(self.path / "status.json", {"state": state, **times, "error": error, **more, **self._about})

    def close(self) -> None:
        self.sync()
        self._history.close()


def read_status(folder: Path) -> dict[str, Any]:
    """A run folder's ``status.json``; empty before the run was begun."""
    try:
        found: dict[str, Any] = json.loads((folder / "status.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def finite_or_none(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
