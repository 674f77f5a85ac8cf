"""Each run's own random streams, so that its numbers do not depend on the pack it is trained in."""

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Streams", "Uniforms", "derive_seed", "seeded"]

T = TypeVar("T")
NAMES = ("order", "noise", "pixels")

STEPS_AT_ONCE = 64  # that uniform numbers are drawn for: with 64 runs, one draw a step in all
NUMBERS_AT_ONCE = 1 << 23  # and at most so many numbers of one run, 32 MiB in float32


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
    """Generators on the training device for the order of the data, the sampler's noise and dynamic binarisation.

    What they give is drawn in blocks: the order of an epoch, the noise of some steps. A checkpoint in mid-block
    holds where the block began, and it is drawn again after a resume.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generators = {name: torch.Generator(device).manual_seed(derive_seed(seed, name)) for name in NAMES}
        self._begun: dict[str, Tensor] = {}

    def begin(self, name: str) -> torch.Generator:
        """The generator to draw the next block with."""
        self._begun[name] = self.generators[name].get_state()
        return self.generators[name]

    def state(self, between: Collection[str]) -> dict[str, Tensor]:
        """From where to draw on; ``between`` names the streams that are not in the middle of a block."""
        return {
            name: generator.get_state() if name in between else self._begun.get(name, generator.get_state())
            for name, generator in self.generators.items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from :meth:`state`."""
        for name, generator in self.generators.items():
            generator.set_state(state[name].cpu())


class Uniforms:
    """Uniform numbers in [0, 1) for the steps of R runs, each run's from its own stream, several steps at a time.

    A draw per run and step would cost a pack a kernel launch per run and step. How many steps are drawn at once
    depends on the shape alone, so that a run's numbers do not depend on its pack.

    Args:
        name: of the streams to draw from.
        shape: of one run's numbers in one step.
    """

    def __init__(
        self, streams: Sequence[Streams], name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.streams, self.name, self.shape = streams, name, tuple(shape)
        self.dtype, self.device = dtype, device
        self.steps = max(1, min(STEPS_AT_ONCE, NUMBERS_AT_ONCE // max(1, math.prod(shape))))
        self._block_RT: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the numbers drawn at once."""
        return len(self.streams) * self.steps * math.prod(self.shape) * self.dtype.itemsize

    def of(self, step: int) -> Tensor:
        """The numbers ``(R, *shape)`` of a global step, the caller's to change; steps come in order."""
        if self._block_RT is None or step % self.steps == 0:
            if self._block_RT is None:
                size = (len(self.streams), self.steps, *self.shape)
                self._block_RT = torch.empty(size, dtype=self.dtype, device=self.device)
            for block, streams in zip(self._block_RT, self.streams):
                block.uniform_(generator=streams.begin(self.name))
        return self._block_RT[:, step % self.steps]
