"""Omniglot at 28×28, split by alphabet as it was published."""

import io
from contextlib import suppress
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch

from gsvae.data.download import download
from gsvae.data.images import ImageData, Images
from gsvae.errors import UserError
from gsvae.files import write_atomically

__all__ = ["Omniglot"]

FOLDERS = {"train": "images_background", "test": "images_evaluation"}


class Omniglot(ImageData):
    """19,280 + 13,180 characters, reduced from 105×105, ink 255; labels number a split's characters.

    Read from torchvision's two archives in ``root/omniglot-py``; the reduced images are kept beside them, so that
    only the first run decodes 32,460 pictures. Training and test images are of different alphabets, unlike in the
    24,345 + 8,070 images of many density-estimation papers, so their numbers do not compare with these.
    """

    shared_labels = False

    def load(self) -> tuple[Images, Images]:
        return self._part("train"), self._part("test")

    def _part(self, split: str) -> Images:
        folder = Path(self.root) / "omniglot-py"
        cache = folder / f"{FOLDERS[split]}-28x28.npz"
        if cache.is_file():
            try:
                with np.load(cache) as held:
                    pixels, labels = held["pixels"], held["labels"]
            except Exception as error:
                raise UserError(f"{cache}: damaged; delete it, and it is made again") from error
        else:
            archive = folder / f"{FOLDERS[split]}.zip"
            if not archive.is_file():
                download(self.root, folder, [archive.name], lambda into: _fetch(into, split))
            pixels, labels = _reduce(archive)
            with suppress(OSError):  # a folder that cannot be written to only costs the time again
                write_atomically(cache, lambda file: np.savez(file, pixels=pixels, labels=labels))
        return Images(torch.from_numpy(pixels).flatten(1), torch.from_numpy(labels))


def _fetch(into: Path, split: str) -> Path:
    from torchvision.datasets import Omniglot as Original  # imports in seconds, and only a download needs it
    from torchvision.datasets.utils import download_url

    name = FOLDERS[split]
    download_url(f"{Original.download_url_prefix}/{name}.zip", into, md5=Original.zips_md5[name])
    return into


def _reduce(archive: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels ``(N, 28, 28)`` and labels ``(N,)`` of the pictures in an archive, in the order of their names."""
    from PIL import Image, ImageOps

    small = []
    try:
        with ZipFile(archive) as held:
            names = sorted(name for name in held.namelist() if name.endswith(".png"))
            for name in names:
                grey = ImageOps.invert(Image.open(io.BytesIO(held.read(name))).convert("L"))
                small.append(np.asarray(grey.resize((28, 28), Image.Resampling.BOX)))
        # The folder of a picture, alphabet/character, is its class.
        labels = np.unique([name.rpartition("/")[0] for name in names], return_inverse=True)[1]
        return np.stack(small), labels.astype(np.int64)
    except Exception as error:
        raise UserError(f"{archive}: damaged; delete it, and it is downloaded again") from error
