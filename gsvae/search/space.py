"""The space of a search, written in Hydra's override grammar."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from gsvae.errors import UserError

__all__ = ["Space", "read_space"]


@dataclass(frozen=True)
class Space:
    """What a search varies, and what it leaves alone.

    Attributes:
        constants: overrides that are the same for every trial.
        distributions: what each key may be; categories are the texts they were typed as.
    """

    constants: list[str]
    distributions: dict[str, BaseDistribution]

    def overrides(self, params: dict[str, Any]) -> list[str]:
        """A trial's parameters as overrides, nothing rounded away."""
        return [f"{key}={params[key]}" for key in self.distributions]

    def corners(self) -> list[list[str]]:
        """The first and the last value of everything: if both can be run, so can what lies between."""
        return [self.overrides({key: ends(d)[place] for key, d in self.distributions.items()}) for place in (0, 1)]

    @property
    def is_countable(self) -> bool:
        return all(not math.isinf(count(d)) for d in self.distributions.values())

    def grid(self) -> dict[str, list[Any]]:
        """Every value of every key, of a space that is countable."""
        return {key: values(d) for key, d in self.distributions.items()}


def read_space(overrides: Sequence[str]) -> Space:
    """Read ``a,b`` ``choice(a,b)`` ``range(0,10,2)`` ``interval(0,1)`` ``int(interval(1,9))`` ``tag(log,interval(…))``.

    Raises:
        UserError: a key that cannot be searched over, or none at all.
    """
    parsed = {o.get_key_element(): o for o in OverridesParser.create().parse_overrides(list(overrides))}
    constants = [o.input_line for o in parsed.values() if not o.is_sweep_override()]
    distributions = {key: distribution(o) for key, o in parsed.items() if o.is_sweep_override()}
    if not distributions:
        raise UserError("hydra/sweeper=optuna: nothing to search; give some setting several values or an interval(...)")
    return Space([str(line) for line in constants], distributions)


def distribution(override: Override) -> BaseDistribution:
    """What Optuna calls the values of one override."""
    line, value = override.input_line, override.value()
    log = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        start, end = value.start, value.end
        assert start is not None
        assert end is not None
        if not start < end:
            raise UserError(f"{line}: the interval's end must lie above its start")
        if log and start <= 0:
            raise UserError(f"{line}: an interval on a log scale must start above 0")
        if isinstance(start, int) and isinstance(end, int):
            return IntDistribution(start, end, log=log)
        return FloatDistribution(float(start), float(end), log=log)
    if log:
        raise UserError(f"{line}: log is for an interval(...)")
    if isinstance(value, RangeSweep):
        return stepped(list(value.range()), line)
    if isinstance(value, ChoiceSweep) and not value.shuffle:
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    raise UserError(f"{line}: a search takes a,b choice(...) range(...) interval(...) int(interval(...)) tag(log,...)")


def stepped(found: list[Any], line: str | None) -> BaseDistribution:
    """The values of Hydra's range, which leaves out its stop, unlike Optuna."""
    found = sorted(found)
    if not found:
        raise UserError(f"{line}: the range is empty")
    step = found[1] - found[0] if len(found) > 1 else 1
    if all(isinstance(value, int) for value in found):
        return IntDistribution(found[0], found[-1], step=step)
    return FloatDistribution(float(found[0]), float(found[-1]), step=float(step))


def ends(d: BaseDistribution) -> tuple[Any, Any]:
    if isinstance(d, CategoricalDistribution):
        return d.choices[0], d.choices[-1]
    assert isinstance(d, IntDistribution | FloatDistribution)
    return d.low, d.high


def count(d: BaseDistribution) -> float:
    """How many values there are."""
    return math.inf if isinstance(d, FloatDistribution) and d.step is None else len(values(d))


def values(d: BaseDistribution) -> list[Any]:
    if isinstance(d, CategoricalDistribution):
        return list(d.choices)
    if isinstance(d, IntDistribution):
        return list(range(d.low, d.high + 1, d.step))
    assert isinstance(d, FloatDistribution)
    assert d.step is not None
    return [d.low + i * d.step for i in range(round((d.high - d.low) / d.step) + 1)]
