"""Learning-rate and β schedules: multipliers that are pure functions of the global step."""

import math
from dataclasses import dataclass

__all__ = ["Constant", "Cosine", "Exponential", "Warmup"]


@dataclass(frozen=True)
class Constant:
    """1 at every step."""

    def __call__(self, step: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Exponential:
    """factor^⌊t / every⌋: Jang's notebook has factor 0.9, every 1000 steps."""

    factor: float
    every: int

    def __call__(self, step: int) -> float:
        return self.factor ** (step // self.every)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to ``final`` over ``steps`` steps, then stays (arXiv 1608.03983, without restarts)."""

    final: float
    steps: int

    def __call__(self, step: int) -> float:
        done = min(step / self.steps, 1.0)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Warmup:
    """Rises on a straight line to 1 over ``steps`` steps; ``steps=0`` is 1 from the start."""

    steps: int

    def __call__(self, step: int) -> float:
        return min(1.0, (step + 1) / self.steps) if self.steps else 1.0
