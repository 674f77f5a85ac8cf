"""Data sets: uint8 images in memory, split and binarised by one protocol."""

from gsvae.data.digits import Digits
from gsvae.data.images import ImageData, Images, Splits, binarize
from gsvae.data.mnist import KMNIST, MNIST, FashionMNIST
from gsvae.data.omniglot import Omniglot

__all__ = [
    "KMNIST",
    "MNIST",
    "Digits",
    "FashionMNIST",
    "ImageData",
    "Images",
    "Omniglot",
    "Splits",
    "binarize",
]
