"""The points of a sweep: the product of what varies, with some settings changing together."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from gsvae.errors import UserError, near_miss
from gsvae.overrides import key_of
from gsvae.studies import Rows

__all__ = ["only", "points"]

Axis = list[tuple[str, ...]]  # each item the overrides of one value


def points(
    arguments: Sequence[str], zipped: Sequence[str], config_loader: Any = None, rows: Sequence[Rows] = ()
) -> list[list[str]]:
    """Every job's overrides.

    Args:
        arguments: overrides, some with several values: ``a=1,2`` ``a=choice(1,2)`` ``a=range(3)``; a later one of
            the same key replaces an earlier one.
        zipped: keys whose values go together, the first with the first.
        config_loader: Hydra's, for ``glob``.
        rows: of a study; the arguments' values of a key replace those that rows have of it. They vary fastest, so
            that every row has had its first seed before the second is begun.

    Raises:
        UserError: values that are none or not countable, or zipped keys with different numbers of them.
    """
    parsed = OverridesParser.create(config_loader=config_loader).parse_overrides(list(arguments))
    values = {override.get_key_element(): texts(override) for override in parsed}
    together = [key for key in values if key.lstrip("+~") in zipped]
    if zipped:
        check_zip(zipped, {key.lstrip("+~"): values[key] for key in together})
    in_rows = {key for table in rows for key in table.keys}
    axes: list[Axis] = []
    for key, given in values.items():
        if key in in_rows:
            continue
        if key not in together:
            axes.append([(f"{key}={value}",) for value in given])
        elif key == together[0]:
            columns = zip(*(values[k] for k in together), strict=True)
            axes.append([tuple(f"{k}={v}" for k, v in zip(together, row, strict=True)) for row in columns])
    axes += [axis_of(table, values) for table in rows]
    return [list(itertools.chain(*point)) for point in itertools.product(*axes)]


def axis_of(table: Rows, given: Mapping[str, Sequence[str]]) -> Axis:
    """A study's rows, with the values given of a key instead of a row's own; a row twice is one."""
    found: Axis = []
    for row in table.values:
        cells = [[f"{key}={v}" for v in given.get(key, [own])] for key, own in zip(table.keys, row, strict=False)]
        found += itertools.product(*cells)
    return list(dict.fromkeys(found))


def only(spanned: Sequence[list[str]], wanted: Any) -> list[list[str]]:
    """The points that have one of the wanted values of every key.

    Args:
        wanted: by key a value or a list of them; None: all points.

    Raises:
        UserError: this is no such mapping, or it has a key or a value that no point has.
    """
    if not isinstance(wanted, dict | None):
        raise UserError(f"sweep.only={wanted}: expected settings with their values: {{tau.init: [0.5, 1.0]}}")
    kept, wanted = list(spanned), wanted or {}
    for key, given in wanted.items():
        values = [as_text(value) for value in (given if isinstance(given, list) else [given])]
        there = dict.fromkeys(text for point in spanned if (text := value_in(point, key)) is not None)
        if not there:
            known = dict.fromkeys(key_of(override) for point in spanned for override in point)
            meant = near_miss(key, known) or f"; they have {', '.join(known)}"
            raise UserError(f"sweep.only={{{key}: ...}}: no run of the sweep has this setting{meant}")
        if missing := [value for value in values if value not in there]:
            shown = f"sweep.only={{{key}: {missing[0]}}}"
            raise UserError(f"{shown}: no run of the sweep has it; there are {', '.join(there)}")
        kept = [point for point in kept if value_in(point, key) in values]
    if not kept:
        raise UserError(f"sweep.only={{{', '.join(wanted)}}}: no run of the sweep has all of them together")
    return kept


def value_in(point: Sequence[str], key: str) -> str | None:
    """A point's value of a key, None if it does not set it."""
    found = [override.partition("=")[2] for override in point if key_of(override) == key]
    return as_text(found[-1]) if found else None


def as_text(value: Any) -> str:
    """A value such that numbers written differently are the same: ``5e-4`` and ``0.0005``."""
    text = {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else value
    try:
        return f"{float(text):.15g}"
    except (TypeError, ValueError):
        return str(text).strip("'\"")


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
