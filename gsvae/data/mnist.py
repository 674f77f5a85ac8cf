"""MNIST, Fashion-MNIST and KMNIST: downloaded by torchvision, read from its layout."""

from pathlib import Path

from gsvae.data.download import download
from gsvae.data.idx import read_idx
from gsvae.data.images import ImageData, Images
from gsvae.errors import UserError

__all__ = ["KMNIST", "MNIST", "FashionMNIST"]

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class MNIST(ImageData):
    """60,000 + 10,000 handwritten digits, 28×28, in ``root/MNIST/raw``, packed (``.gz``) or not."""

    name = "MNIST"  # of the folder and of torchvision's class

    def load(self) -> tuple[Images, Images]:
        folder = Path(self.root) / self.name / "raw"
        missing = [name for names in FILES.values() for name in names if not _there(folder / name).is_file()]
        if missing:
            download(self.root, folder, missing, self._fetch)
        return self._read(folder, "train"), self._read(folder, "test")

    def _fetch(self, into: Path) -> Path:
        from torchvision import datasets  # imports in seconds, and only a download needs it

        getattr(datasets, self.name)(into, download=True)
        return into / self.name / "raw"

    def _read(self, folder: Path, split: str) -> Images:
        pixels_path, labels_path = (_there(folder / name) for name in FILES[split])
        pixels_NHW, labels_N = read_idx(pixels_path, 3), read_idx(labels_path, 1)
        if pixels_NHW.shape[1:] != self.image_shape[1:]:
            side = "x".join(str(n) for n in pixels_NHW.shape[1:])
            raise UserError(f"{pixels_path}: images are {side}, expected 28x28")
        if len(pixels_NHW) != len(labels_N):
            raise UserError(f"{labels_path}: {len(labels_N)} labels for {len(pixels_NHW)} images in {pixels_path.name}")
        return Images(pixels_NHW.flatten(1), labels_N.long())


def _there(path: Path) -> Path:
    """``path`` itself, or the packed file beside it where there is only that."""
    packed = path.with_name(path.name + ".gz")
    return packed if packed.is_file() and not path.is_file() else path


class FashionMNIST(MNIST):
    """60,000 + 10,000 articles of clothing, 28×28 (arXiv 1708.07747), in ``root/FashionMNIST/raw``."""

    name = "FashionMNIST"


class KMNIST(MNIST):
    """60,000 + 10,000 Kuzushiji characters, 28×28 (arXiv 1812.01718), in ``root/KMNIST/raw``."""

    name = "KMNIST"
