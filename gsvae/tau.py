"""Temperature schedules: pure functions of the global training step, so a resumed run anneals as if never stopped."""

import math
from dataclasses import dataclass

__all__ = ["Constant", "Cosine", "Exponential", "Linear"]


@dataclass(frozen=True)
class Constant:
    """τ(t) = init."""

    init: float

    def __call__(self, step: int) -> float:
        return self.init


@dataclass(frozen=True)
class Exponential:
    """τ(t) = max(min, init · exp(−rate · t)), t held for ``every`` steps (Jang et al., arXiv 1611.01144)."""

    init: float
    min: float
    rate: float
    every: int = 1

    def __call__(self, step: int) -> float:
        return max(self.min, self.init * math.exp(-self.rate * (step // self.every * self.every)))


@dataclass(frozen=True)
class Linear:
    """τ falls from init to min on a straight line over ``steps`` steps, then stays."""

    init: float
    min: float
    steps: int

    def __call__(self, step: int) -> float:
        done = min(step / self.steps, 1.0)
        return (1.0 - done) * self.init + done * self.min


@dataclass(frozen=True)
class Cosine:
    """τ falls from init to min on half a cosine over ``steps`` steps, then stays (DALL·E, arXiv 2102.12092)."""

    init: float
    min: float
    steps: int

    def __call__(self, step: int) -> float:
        done = min(step / self.steps, 1.0)
        share = 0.5 * (1.0 + math.cos(math.pi * done))
        return share * self.init + (1.0 - share) * self.min
