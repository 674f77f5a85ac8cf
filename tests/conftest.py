"""Where the real data and the stand-in service are, when they are."""

import os
from pathlib import Path

# Small tensors, and a machine that may be busy: two threads waiting for each other would cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    if not (SHARED / "data" / "MNIST").is_dir():
        pytest.skip("real MNIST is not at ../shared/data")
    return SHARED / "data"


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
