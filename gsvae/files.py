"""Files that are never lost or half-written: temporary file, fsync, rename."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["remove_torn", "sync_folder", "write_atomically", "write_json"]

TEMPORARY = ".*.tmp"


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Call ``write`` on a temporary file beside ``path``, bring it to disk and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_torn(folder: Path, *, below: bool = False, age: float = 0.0) -> None:
    """Remove what :func:`write_atomically` left where its process did not live to end.

    Args:
        below: in all folders below as well.
        age: seconds that such a file must have, where another process may be writing.
    """
    for torn in folder.rglob(TEMPORARY) if below else folder.glob(TEMPORARY):
        with suppress(FileNotFoundError):
            if not age or time.time() - torn.stat().st_mtime > age:
                torn.unlink()


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to disk, so that a rename in it survives a power cut."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # not every platform opens folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    text = json.dumps(value, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
