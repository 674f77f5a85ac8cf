"""Who is training a run: an atomic claim in its folder with a heartbeat, taken over when its holder is dead.

A claim is a file ``claim.N``, created exclusively. Taking over a stale one means creating ``claim.N+1``; of two
processes that try, one succeeds. The highest number holds; a holder that finds a higher one has lost the run.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["BusyError", "Claim", "ClaimLost", "holder"]

BEAT = 5.0  # seconds between signs of life
STALE = 60.0  # seconds without one after which a claim may be taken over


class BusyError(Exception):
    """Another process is training the run; its text says which."""


class ClaimLost(BaseException):
    """Another process has taken the run over; not an Exception, so that nothing which contains failures swallows it."""


@dataclass(frozen=True)
class Holder:
    """What a claim says of the process that holds a run."""

    host: str
    pid: int
    path: Path

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition(' ')[0]}"


class Claim:
    """A run folder held by this process; a context that shows signs of life until it is left.

    Raises:
        BusyError: another live process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = take(folder)
        self._lost = False
        self._seen = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claim", daemon=True)

    def __enter__(self) -> "Claim":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if not self._lost:
            for path in claims(self.path.parent):
                if number(path) <= number(self.path):
                    path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise :class:`ClaimLost` if another process has taken the run over; costs a look at the clock."""
        if time.monotonic() - self._seen > 3 * BEAT:  # this process was suspended, or its disk was
            self._look()
        if self._lost:
            raise ClaimLost(f"another process has taken over {self.path.parent}")

    def _beat(self) -> None:
        while not self._ended.wait(BEAT) and not self._lost:
            self._look()

    def _look(self) -> None:
        try:
            os.utime(self.path)
            self._lost = number(claims(self.path.parent)[-1]) > number(self.path)
            self._seen = time.monotonic()
        except FileNotFoundError:
            self._lost = True
        except OSError:  # a file system that is away for a while; the claim may go stale, check() will tell
            pass


def holder(folder: Path) -> Holder | None:
    """The live process that holds a run folder, if there is one."""
    found = claims(folder)
    return alive(found[-1]) if found else None


def take(folder: Path) -> Path:
    """Create the folder's next claim and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    found = claims(folder)
    if found and (other := alive(found[-1])):
        raise BusyError(f"{other} is training it")
    path = folder / f"claim.{number(found[-1]) + 1 if found else 1}"
    try:
        with open(path, "x") as file:
            json.dump({"host": host(), "pid": os.getpid(), "begun": begun(os.getpid())}, file)
    except FileExistsError:
        raise BusyError("another process has just begun to train it") from None
    others = [other for other in claims(folder) if other != path]
    if any(number(other) > number(path) or alive(other) for other in others):  # made since the listing above
        path.unlink()
        raise BusyError("another process has just begun to train it")
    for old in found:
        old.unlink(missing_ok=True)
    return path


def claims(folder: Path) -> list[Path]:
    """A folder's claims, the one that holds last."""
    return sorted(folder.glob("claim.*"), key=number)


def number(path: Path) -> int:
    return int(path.suffix[1:])


# ---------------------------------------------------------------- life and death


def alive(path: Path) -> Holder | None:
    """Who holds a claim, or None if it is stale: its process is dead, or has shown no life for a minute."""
    try:
        age = now_there(path.parent) - path.stat().st_mtime
        said: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:  # created, and not yet written
        said = {"host": "?", "pid": 0, "begun": None}
    if said["host"] == host() and not is_running(said["pid"], said["begun"]):
        return None
    return Holder(said["host"], said["pid"], path) if age < STALE else None


def now_there(folder: Path) -> float:
    """The time by the clock of the file system, which need not be ours."""
    path = folder / f".now.{os.getpid()}.{secrets.token_hex(4)}"
    path.touch()
    try:
        return path.stat().st_mtime
    finally:
        path.unlink(missing_ok=True)


def host() -> str:
    """This machine, and where it has several its space of process numbers (containers)."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()} {space}".strip()


def is_running(pid: int, since: str | None) -> bool:
    """Whether the process exists and is the one that began at ``since``, not a later one with its number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return begun(pid) == since


def begun(pid: int) -> str | None:
    """When a process began, in the kernel's words; None where that cannot be told."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]  # a zombie is dead
