"""Models: plain modules with ``encode`` and ``decode``, written for one run."""

from gsvae.model.base import CategoricalVAE
from gsvae.model.conv import Conv
from gsvae.model.mlp import MLP

__all__ = ["MLP", "CategoricalVAE", "Conv"]
