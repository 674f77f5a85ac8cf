"""A sweep's folder: its record, its runs' folders, and the mark that asks its runs to stop."""

import fcntl
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from gsvae.errors import UserError
from gsvae.files import remove_torn, write_atomically, write_json
from gsvae.tracking.run_folder import read_status

__all__ = ["ENDED", "SweepFolder"]

ENDED = ("finished", "diverged", "pruned")  # for good; failed runs may be tried again
TORN = 5.0  # seconds after which a temporary file is nobody's


class SweepFolder:
    """What is kept of a sweep: ``sweep.json``, ``.sweep/`` for its processes' dealings, a folder per run."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @classmethod
    def make(cls, parent: Path, name: str | None) -> "SweepFolder":
        """The folder of the sweep called ``name``, made or found; without a name a new one, never another's.

        Raises:
            UserError: the name cannot be a folder's.
        """
        if name is not None:
            if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
                raise UserError(f"sweep.name={name}: may hold letters, digits and . _ + -, and starts with no sign")
            (parent / name).mkdir(parents=True, exist_ok=True)
            return cls(parent / name)
        parent.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        count = 1
        while True:
            path = parent / (stamp if count == 1 else f"{stamp}-{count}")
            try:
                path.mkdir()
                return cls(path)
            except FileExistsError:  # another sweep began in this second
                count += 1

    @property
    def name(self) -> str:
        return self.path.name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among the processes of this sweep; the lock dies with its holder."""
        (self.path / ".sweep").mkdir(parents=True, exist_ok=True)
        with open(self.path / ".sweep" / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def run_folders(self) -> dict[str, str]:
        """Names of the runs' folders by run id."""
        return {path.name.rpartition("_")[2]: path.name for path in self.path.iterdir() if is_run_folder(path)}

    def record(self, command: str, jobs: dict[str, dict[str, Any]]) -> dict[str, str]:
        """Add a command and its jobs (by run id) to ``sweep.json``; a run that has a folder keeps it.

        Returns:
            The name of each of these jobs' folders.
        """
        with self.locked():
            path = self.path / "sweep.json"
            known: dict[str, Any] = {"name": self.name, "commands": [], "jobs": {}}
            if path.is_file():
                known = json.loads(path.read_text())
            there = self.run_folders() | {identity: job["folder"] for identity, job in known["jobs"].items()}
            for identity, job in jobs.items():
                job["folder"] = there.get(identity, job["folder"])
            if command not in known["commands"]:
                known["commands"].append(command)
            known["jobs"] |= jobs
            write_json(path, known)
        return {identity: job["folder"] for identity, job in jobs.items()}

    def recorded(self) -> dict[str, dict[str, Any]]:
        """The jobs in ``sweep.json``, by run id; none before the first was recorded."""
        path = self.path / "sweep.json"
        found: dict[str, dict[str, Any]] = json.loads(path.read_text())["jobs"] if path.is_file() else {}
        return found

    @property
    def shown(self) -> str:
        """The folder's path as it is typed from here."""
        here = Path.cwd()
        return str(self.path.relative_to(here) if self.path.is_relative_to(here) else self.path)

    def status(self, run_folder: str) -> dict[str, Any]:
        """A run's ``status.json``; empty before it was begun."""
        return read_status(self.path / run_folder)

    def summary(self, run_folder: str) -> dict[str, Any]:
        """A run's ``summary.json``; empty before it has finished."""
        path = self.path / run_folder / "summary.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return found

    # ---------------------------------------------------------------- asking runs to stop

    def stop(self, token: str, reason: str) -> None:
        """Ask the runs that the process of this token launched to stop."""
        if not self.stopping(token):  # the first reason counts
            write_atomically(self.stop_mark(token), lambda file: file.write(reason.encode()))

    def stopping(self, token: str) -> bool:
        """Whether they are asked to."""
        return self.stop_mark(token).exists()

    def stop_reason(self, token: str) -> str | None:
        """Why they are; None if they are not."""
        return self.stop_mark(token).read_text() if self.stopping(token) else None

    def clear(self, token: str) -> None:
        """Forget that they were."""
        self.stop_mark(token).unlink(missing_ok=True)

    def clear_torn(self) -> None:
        """Remove files in the sweep's own folder whose writer did not live to end; writing takes no such time."""
        remove_torn(self.path, age=TORN)

    def stop_mark(self, token: str) -> Path:
        return self.path / ".sweep" / f"stop.{token}"


def is_run_folder(path: Path) -> bool:
    return path.is_dir() and re.search(r"(^|_)[0-9a-f]{8}$", path.name) is not None
