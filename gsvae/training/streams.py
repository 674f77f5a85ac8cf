"""Each run's own random streams, so that its numbers do not depend on the pack it is trained in."""

import hashlib
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Streams", "derive_seed", "seeded"]

T = TypeVar("T")
NAMES = ("order", "noise", "pixels")


def derive_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose, unrelated to the seeds of the others and of neighbouring runs."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seeded(seed: int, purpose: str, make: Callable[[], T]) -> T:
    """Call ``make`` with torch's global CPU generator seeded for ``purpose``, and leave that generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, purpose))
        return make()


class Streams:
    """Generators on the training device for the order of the data, the sampler's noise and dynamic binarisation."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generators = {name: torch.Generator(device).manual_seed(derive_seed(seed, name)) for name in NAMES}
        self.epoch_start = self.generators["order"].get_state()

    def permutation(self, n: int, device: torch.device) -> Tensor:
        """The order of one epoch; remembers where the stream stood, to draw the same again after a resume."""
        generator = self.generators["order"]
        self.epoch_start = generator.get_state()
        return torch.randperm(n, generator=generator, device=device)

    def state(self) -> dict[str, Tensor]:
        state = {name: generator.get_state() for name, generator in self.generators.items()}
        return state | {"epoch_start": self.epoch_start}

    def load(self, state: dict[str, Tensor], *, mid_epoch: bool) -> None:
        """Go on from ``state``; in mid-epoch the order stream goes back, so that the permutation is drawn again."""
        for name, generator in self.generators.items():
            generator.set_state(state[name].cpu())
        self.epoch_start = state["epoch_start"].cpu()
        if mid_epoch:
            self.generators["order"].set_state(self.epoch_start)
