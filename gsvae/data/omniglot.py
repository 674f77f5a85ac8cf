"""Omniglot at 28×28, as density-estimation papers use it."""

from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch

from gsvae.data.images import ImageData, Images
from gsvae.errors import UserError
from gsvae.files import write_atomically

__all__ = ["Omniglot"]

FOLDERS = {"train": "images_background", "test": "images_evaluation"}


class Omniglot(ImageData):
    """19,280 + 13,180 characters in torchvision's layout, ``root/omniglot-py``, ink 255, reduced from 105×105.

    The reduced images are kept beside the originals, so that only the first run reads 32,460 files.
    """

    def load(self) -> tuple[Images, Images]:
        return self._part("train"), self._part("test")

    def _part(self, split: str) -> Images:
        folder = Path(self.root) / "omniglot-py"
        cache = folder / f"{FOLDERS[split]}-28x28.npz"
        if not cache.is_file():
            pixels, labels = self._reduce(folder, split)
            write_atomically(cache, lambda file: np.savez(file, pixels=pixels, labels=labels))
        try:
            with np.load(cache) as held:
                pixels, labels = held["pixels"], held["labels"]
        except Exception as error:
            raise UserError(f"{cache}: damaged; delete it, and it is made again") from error
        return Images(torch.from_numpy(pixels).flatten(1), torch.from_numpy(labels))

    def _reduce(self, folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
        from PIL import Image, ImageOps
        from torchvision.datasets import Omniglot as Original  # imports in seconds

        try:
            original = Original(self.root, background=split == "train", download=True)
        except (URLError, OSError, RuntimeError) as error:
            raise UserError(
                f"data.root={self.root}: {folder} lacks {FOLDERS[split]}.zip, and it cannot be downloaded "
                f"({str(error).splitlines()[0]}); set data.root to where it is, or use data=digits"
            ) from error
        small = []
        labels = []
        for image, label in original:
            grey = ImageOps.invert(image.convert("L"))
            small.append(np.asarray(grey.resize((28, 28), Image.Resampling.BOX)))
            labels.append(label)
        return np.stack(small), np.asarray(labels, np.int64)
