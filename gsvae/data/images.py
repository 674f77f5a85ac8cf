"""Image data held as uint8 tensors: train, validation and test splits, and the binarisation protocol."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gsvae.errors import UserError

__all__ = ["ImageData", "Images", "Splits", "binarize"]


@dataclass(frozen=True)
class Images:
    """Grey images ``(N, D)``, uint8, 255 is ink, with their labels ``(N,)``, int64."""

    pixels_ND: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.pixels_ND)

    def take(self, index: Tensor) -> "Images":
        return Images(self.pixels_ND[index], self.labels_N[index])

    def to(self, device: torch.device) -> "Images":
        return Images(self.pixels_ND.to(device), self.labels_N.to(device))


@dataclass(frozen=True)
class Splits:
    """The three splits; ``val`` is None when nothing was held out."""

    train: Images
    val: Images | None
    test: Images


class ImageData:
    """A data set. A subclass implements :meth:`load`; the splits and the protocol are the same for all.

    Args:
        root: folder of the files, in torchvision's layout.
        n_val: images held out of the training images, chosen by ``seed``; 0 for none.
        seed: of the validation split and of static binarisation, so that all runs of a study share them.
        binarize: ``none`` (grey values are Bernoulli means), ``dynamic`` (resampled each time an image is used),
            ``static`` (sampled once) or ``threshold`` (at 0.5). Numbers across protocols do not compare.
        epochs: the usual length of training on this data, the default of ``training.epochs``.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    shared_labels = True  # a label stands for the same class in training and test images

    def __init__(
        self, root: str = "data", n_val: int = 5000, seed: int = 0, binarize: str = "none", epochs: int = 20
    ) -> None:
        self.root = root
        self.n_val = n_val
        self.seed = seed
        self.binarize = binarize
        self.epochs = epochs

    def load(self) -> tuple[Images, Images]:
        """Return the training and the test images.

        Raises:
            UserError: the files are missing or damaged; the message names them.
        """
        raise NotImplementedError

    def splits(self) -> Splits:
        """Load, split and, for the static and threshold protocols, binarise once.

        Raises:
            UserError: files that are missing or damaged, or ``n_val`` leaving nothing to train on.
        """
        train, test = self.load()
        if self.n_val >= len(train):
            raise UserError(f"data.n_val={self.n_val}: must be below the {len(train)} training images there are")
        if self.binarize in ("static", "threshold"):
            train, test = self._fixed(train, 0), self._fixed(test, 1)
        if self.n_val == 0:
            return Splits(train, None, test)
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed))
        return Splits(train.take(order[self.n_val :]), train.take(order[: self.n_val]), test)

    def _fixed(self, images: Images, part: int) -> Images:
        grey = images.pixels_ND
        if self.binarize == "threshold":
            ink = grey >= 128
        else:  # one draw per pixel, from a stream of its own per split
            uniform = np.random.default_rng([self.seed, part]).random(grey.shape, dtype=np.float32)
            ink = torch.from_numpy(uniform) * 255 < grey
        return Images(ink.to(torch.uint8) * 255, images.labels_N)


def binarize(x: Tensor, u: Tensor) -> Tensor:
    """Pixels in {0, 1} with the grey values in [0, 1] as means, by uniform numbers (dynamic binarisation)."""
    return (u < x).to(x.dtype)
