"""Checkpoints: written whole or not at all, checked when read, loaded with ``weights_only=True``."""

import io
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from gsvae.errors import UserError
from gsvae.files import sync_folder, write_atomically

__all__ = ["read_checkpoint", "read_last", "write_best", "write_last"]

log = logging.getLogger(__name__)

FORMAT = 2


def write_last(folder: Path, state: dict[str, Any]) -> None:
    """Write ``last.pt``; the one it replaces stays as ``previous.pt``."""
    last, coming = folder / "last.pt", folder / "next.pt"
    _write(coming, state)  # to disk first, so that the renames follow each other at once
    if last.exists():
        os.replace(last, folder / "previous.pt")
    os.replace(coming, last)
    sync_folder(folder)


def write_best(folder: Path, state: dict[str, Any]) -> None:
    """Write ``best.pt``."""
    _write(folder / "best.pt", state)


def _write(path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def read_checkpoint(path: Path, asked: str = "resume=") -> dict[str, Any]:
    """Read one checkpoint to the CPU.

    Args:
        asked: what stands before the path in messages.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise UserError(f"{asked}{path}: there is no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{asked}{path}: damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{asked}{path}: not a checkpoint of this version of gsvae")
    return state


def read_last(folder: Path, asked: str = "resume=") -> dict[str, Any]:
    """Read ``last.pt``, or with a warning ``previous.pt`` where the last is damaged or missing."""
    try:
        return read_checkpoint(folder / "last.pt", asked)
    except UserError as error:
        if not (folder / "previous.pt").is_file():
            raise
        log.warning("%s; going on from previous.pt", error)
        return read_checkpoint(folder / "previous.pt", asked)
