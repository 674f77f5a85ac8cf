"""Reads IDX files, the format of MNIST and its kin, and says which file is wrong and how."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsvae.errors import UserError

__all__ = ["read_idx"]

UNSIGNED_BYTE = 0x08
REMEDY = "delete it, and it is downloaded again"


def read_idx(path: Path, n_dims: int) -> Tensor:
    """Return the uint8 tensor in an IDX file, packed (``.gz``) or not, with ``n_dims`` dimensions.

    Raises:
        UserError: the header is not that of such a file, or the file is shorter or longer than it says.
    """
    raw = _read(path)
    header = 4 + 4 * n_dims
    if len(raw) < header or raw[:4] != bytes([0, 0, UNSIGNED_BYTE, n_dims]):
        raise UserError(f"{path}: not an IDX file of unsigned bytes with {n_dims} dimensions; {REMEDY}")
    shape = struct.unpack(f">{n_dims}I", raw[4:header])
    if len(raw) - header != math.prod(shape):
        raise UserError(
            f"{path}: truncated or damaged: {len(raw)} bytes, its header says {header + math.prod(shape)}; {REMEDY}"
        )
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy())


def _read(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: truncated or damaged: cannot be unpacked; {REMEDY}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
