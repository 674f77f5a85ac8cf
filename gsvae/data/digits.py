"""scikit-learn's bundled handwritten digits: real, 8×8, no network and no files needed."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsvae.data.images import ImageData, Images
from gsvae.errors import UserError

__all__ = ["Digits"]


class Digits(ImageData):
    """1,797 digits by 13 writers (the test part of UCI optdigits), 8×8 with 17 grey levels.

    ``n_test`` of them, always the same, are the test images; a writer may be in every split.
    """

    image_shape = (1, 8, 8)

    def __init__(self, n_test: int = 297, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_test = n_test

    def load(self) -> tuple[Images, Images]:
        rows = np.loadtxt(_bundled_file(), delimiter=",", dtype=np.int64)
        if self.n_test >= len(rows):
            raise UserError(f"data.n_test={self.n_test}: must be below the {len(rows)} digits there are")
        pixels = torch.from_numpy(rows[:, :64] * 255 // 16).to(torch.uint8)
        images = Images(pixels, torch.from_numpy(rows[:, 64]))
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1797))
        return images.take(order[self.n_test :]), images.take(order[: self.n_test])


def _bundled_file() -> Path:
    """The file behind ``sklearn.datasets.load_digits``, found without a second spent on importing scikit-learn."""
    spec = find_spec("sklearn")
    path = Path(str(spec.origin)).parent / "datasets" / "data" / "digits.csv.gz" if spec else Path()
    if not path.is_file():
        raise UserError("data=digits: scikit-learn's digits.csv.gz is not there; reinstall scikit-learn")
    return path
