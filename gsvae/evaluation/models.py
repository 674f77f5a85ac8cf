"""Several models of one architecture called as one, for evaluating a pack at the price of few kernel launches.

Shapes: R models, B images, S samples, L latents, K categories, D pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from gsvae.model import CategoricalVAE

__all__ = ["Alone", "Models", "Stacked"]


class Models(Protocol):
    """What evaluation asks of R models, all with R in front of B; ``prior_logits_LK`` is ``(R, 1, L, K)``."""

    n_cat: int

    @property
    def prior_logits_LK(self) -> Tensor:
        """Logits of the priors."""

    def encode(self, x_BD: Tensor, /) -> Tensor:
        """Logits ``(R, B, L, K)`` for pixels ``(R, B, D)``."""

    def decode(self, z: Tensor, /) -> Tensor:
        """Bernoulli logits ``(..., R, B, D)`` for codes ``(..., R, B, L, K)``."""


class Alone:
    """One model, called directly."""

    def __init__(self, model: CategoricalVAE) -> None:
        self.model, self.n_cat = model, model.n_cat

    @property
    def prior_logits_LK(self) -> Tensor:
        return self.model.prior_logits_LK[None, None]

    def encode(self, x_RBD: Tensor) -> Tensor:
        return self.model.encode(x_RBD[0]).unsqueeze(0)

    def decode(self, z: Tensor) -> Tensor:
        return self.model.decode(z.squeeze(-4)).unsqueeze(-3)


class Method(nn.Module):
    """A method of a model as a module, for ``functional_call``."""

    def __init__(self, model: CategoricalVAE, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = getattr(self.model, self.name)(value)
        return result


class Stacked:
    """R models, lifted over their stacked weights.

    Args:
        model: any one of them; it is left as it is.
        weights: of each, by the names of ``model``'s parameters and buffers.
    """

    def __init__(self, model: CategoricalVAE, weights: Sequence[Mapping[str, Tensor]]) -> None:
        self.n_cat = model.n_cat
        self._methods = {name: Method(model, name) for name in ("encode", "decode")}
        self._weights = {f"model.{name}": torch.stack([w[name] for w in weights]) for name in weights[0]}

    @property
    def prior_logits_LK(self) -> Tensor:
        return self._weights["model.prior_logits_LK"].unsqueeze(1)

    def encode(self, x_RBD: Tensor) -> Tensor:
        return self._call("encode", x_RBD, 0, 0)

    def decode(self, z: Tensor) -> Tensor:
        return self._call("decode", z, z.ndim - 4, z.ndim - 4)

    def _call(self, name: str, value: Tensor, along: int, out: int) -> Tensor:
        def one(weights: Any, value: Tensor) -> Tensor:
            result: Tensor = functional_call(self._methods[name], weights, (value,))
            return result

        lifted: Tensor = vmap(one, in_dims=(0, along), out_dims=out)(self._weights, value)
        return lifted
