"""Reads IDX files, the format of MNIST and its kin, and says which file is wrong and how."""

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsvae.errors import UserError

__all__ = ["read_idx"]

UNSIGNED_BYTE = 0x08


def read_idx(path: Path, n_dims: int) -> Tensor:
    """Return the uint8 tensor in an IDX file with ``n_dims`` dimensions.

    Raises:
        UserError: the header is not that of such a file, or the file is shorter or longer than it says.
    """
    raw = path.read_bytes()
    header = 4 + 4 * n_dims
    if len(raw) < header or raw[:4] != bytes([0, 0, UNSIGNED_BYTE, n_dims]):
        raise UserError(
            f"{path}: not an IDX file of unsigned bytes with {n_dims} dimensions; "
            "delete it, and it is downloaded again"
        )
    shape = struct.unpack(f">{n_dims}I", raw[4:header])
    if len(raw) - header != math.prod(shape):
        raise UserError(
            f"{path}: truncated or damaged: {len(raw)} bytes, its header says {header + math.prod(shape)}; "
            "delete it, and it is downloaded again"
        )
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy())
