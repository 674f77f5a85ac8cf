"""The points of a sweep: the product of what varies, with some settings changing together."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from gsvae.errors import UserError

__all__ = ["points"]

Axis = list[tuple[str, ...]]  # each item the overrides of one value


def points(arguments: Sequence[str], zipped: Sequence[str], config_loader: Any = None) -> list[list[str]]:
    """Every job's overrides.

    Args:
        arguments: overrides, some with several values: ``a=1,2`` ``a=choice(1,2)`` ``a=range(3)``; a later one of
            the same key replaces an earlier one.
        zipped: keys whose values go together, the first with the first.
        config_loader: Hydra's, for ``glob``.

    Raises:
        UserError: values that are none or not countable, or zipped keys with different numbers of them.
    """
    parsed = OverridesParser.create(config_loader=config_loader).parse_overrides(list(arguments))
    values = {override.get_key_element(): texts(override) for override in parsed}
    together = [key for key in values if key.lstrip("+~") in zipped]
    if zipped:
        check_zip(zipped, {key.lstrip("+~"): values[key] for key in together})
    axes: list[Axis] = []
    for key, given in values.items():
        if key not in together:
            axes.append([(f"{key}={value}",) for value in given])
        elif key == together[0]:
            rows = zip(*(values[k] for k in together), strict=True)
            axes.append([tuple(f"{k}={v}" for k, v in zip(together, row, strict=True)) for row in rows])
    return [list(itertools.chain(*point)) for point in itertools.product(*axes)]


def texts(override: Override) -> list[str]:
    """An override's values, as they are typed."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line}: every value in between; a grid needs range(...), or take hydra/sweeper=optuna"
        )
    if not (found := list(override.sweep_string_iterator())):
        raise UserError(f"{override.input_line}: has no value at all")
    return found


def check_zip(zipped: Sequence[str], values: Mapping[str, Sequence[str]]) -> None:
    shown = f"sweep.zip=[{','.join(zipped)}]"
    if missing := [key for key in zipped if key not in values]:
        raise UserError(f"{shown}: {missing[0]} has no values; give it some: {missing[0]}=...,...")
    counts = {key: len(values[key]) for key in zipped}
    if len(zipped) < 2 or len(set(counts.values())) > 1:
        words = ", ".join(f"{key} has {count}" for key, count in counts.items())
        raise UserError(f"{shown}: expected two or more keys with equally many values; {words}")
