"""MNIST, Fashion-MNIST and KMNIST: downloaded by torchvision, read from its layout."""

from pathlib import Path
from urllib.error import URLError

from gsvae.data.idx import read_idx
from gsvae.data.images import ImageData, Images
from gsvae.errors import UserError

__all__ = ["KMNIST", "MNIST", "FashionMNIST"]

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class MNIST(ImageData):
    """60,000 + 10,000 handwritten digits, 28×28, in ``root/MNIST/raw``."""

    def load(self) -> tuple[Images, Images]:
        folder = Path(self.root) / type(self).__name__ / "raw"
        if not all((folder / name).is_file() for names in FILES.values() for name in names):
            self._download(folder)
        return self._read(folder, "train"), self._read(folder, "test")

    def _read(self, folder: Path, split: str) -> Images:
        pixels_path, labels_path = (folder / name for name in FILES[split])
        pixels_NHW, labels_N = read_idx(pixels_path, 3), read_idx(labels_path, 1)
        if pixels_NHW.shape[1:] != self.image_shape[1:]:
            side = "x".join(str(n) for n in pixels_NHW.shape[1:])
            raise UserError(f"{pixels_path}: images are {side}, expected 28x28")
        if len(pixels_NHW) != len(labels_N):
            raise UserError(
                f"{labels_path}: {len(labels_N)} labels for {len(pixels_NHW)} images in {pixels_path.name}"
            )
        return Images(pixels_NHW.flatten(1), labels_N.long())

    def _download(self, folder: Path) -> None:
        from torchvision import datasets  # imports in seconds, and only a download needs it

        try:
            getattr(datasets, type(self).__name__)(self.root, download=True)
        except (URLError, OSError, RuntimeError) as error:
            files = ", ".join(name for names in FILES.values() for name in names)
            raise UserError(
                f"data.root={self.root}: {folder} lacks {files}, and they cannot be downloaded "
                f"({str(error).splitlines()[0]}); set data.root to where they are, or use data=digits"
            ) from error


class FashionMNIST(MNIST):
    """60,000 + 10,000 articles of clothing, 28×28 (arXiv 1708.07747), in ``root/FashionMNIST/raw``."""


class KMNIST(MNIST):
    """60,000 + 10,000 Kuzushiji characters, 28×28 (arXiv 1812.01718), in ``root/KMNIST/raw``."""
