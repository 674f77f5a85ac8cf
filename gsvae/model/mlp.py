"""Multi-layer perceptrons on flat pixels; no hidden layers makes the linear model."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from gsvae.model.base import CategoricalVAE

__all__ = ["MLP"]


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of the given widths with ReLU between them, and none after the last."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


class MLP(CategoricalVAE):
    """D–hidden–L·K and its mirror image. ``hidden=[512, 256]`` is the network of Jang et al. (arXiv 1611.01144)."""

    def __init__(self, image_shape: tuple[int, int, int], hidden: Sequence[int], **kwargs: Any) -> None:
        super().__init__(image_shape, **kwargs)
        widths = [self.n_pixels, *hidden, self.n_latent * self.n_cat]
        self.encoder = perceptron(widths)
        self.decoder = perceptron(widths[::-1])
