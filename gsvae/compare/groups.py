"""What runs differ in, and the groups of those that differ in their seed alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gsvae.compare.runs import Run, is_number

__all__ = ["Group", "differing_keys", "group_runs", "images_of", "mixed_protocols", "shown", "value_of"]

MISSING = "–"


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        values: what they have of the keys in which groups differ.
        runs: the runs, by seed.
    """

    values: dict[str, Any]
    runs: list[Run]

    @property
    def label(self) -> str:
        """``tau.init=0.5 sampling=soft``."""
        return " ".join(f"{key}={shown(value)}" for key, value in self.values.items()) or "all"


def group_runs(runs: Sequence[Run], keys: Sequence[str]) -> list[Group]:
    """Groups in the order of their values; runs that were not begun tell nothing of themselves and are left out."""
    found: dict[str, Group] = {}
    for run in runs:
        if run.state == "waiting":
            continue
        values = {key: value_of(run, key) for key in keys}
        found.setdefault(json.dumps(values, default=str), Group(values, [])).runs.append(run)
    for group in found.values():
        group.runs.sort(key=lambda run: (run.seed is None, rank(run.seed)))
    return sorted(found.values(), key=lambda group: [rank(value) for value in group.values.values()])


def differing_keys(runs: Sequence[Run]) -> list[str]:
    """The settings that differ, besides the seed, in the order they were given in.

    Where another option of a group was chosen, the group stands for all that the option alone decides:
    ``sampling`` for ``sampling._target_``.
    """
    begun = [run for run in runs if run.state != "waiting"]
    chosen = [group for group in ordered({g for run in begun for g in run.choices}) if differs(begun, f"@{group}")]
    keys = [key for key in ordered({k for run in begun for k in run.settings}) if key != "seed" and differs(begun, key)]
    told = [key for key in keys if not any(is_decided_by(begun, key, group) for group in chosen)]
    given = [key.replace("/", ".") for run in begun for key in run.keys]
    names = [group.replace("/", ".") for group in chosen if has_own_value(begun, group)] + told
    return sorted(dict.fromkeys(names), key=lambda name: given.index(name) if name in given else len(given))


def has_own_value(runs: Sequence[Run], group: str) -> bool:
    """Whether the choice changes any number; choosing another kind of tracking does not."""
    dotted = group.replace("/", ".")
    return any(key.startswith(f"{dotted}.") and differs(runs, key) for run in runs for key in run.settings)


def is_decided_by(runs: Sequence[Run], key: str, group: str) -> bool:
    """Whether a group's option fixes a setting below it."""
    if not key.startswith(group.replace("/", ".") + "."):
        return False
    values: dict[str, set[str]] = {}
    for run in runs:
        values.setdefault(run.choices.get(group, ""), set()).add(text(run.settings.get(key, MISSING)))
    return all(len(found) == 1 for found in values.values())


def differs(runs: Sequence[Run], key: str) -> bool:
    if key.startswith("@"):
        return len({run.choices.get(key[1:]) for run in runs}) > 1
    return len({text(run.settings.get(key, MISSING)) for run in runs}) > 1


def value_of(run: Run, key: str) -> Any:
    """A run's setting, or its choice of a group."""
    if key in run.settings:
        return run.settings[key]
    by_group = {group.replace("/", "."): option for group, option in run.choices.items()}
    return by_group.get(key, MISSING)


def mixed_protocols(runs: Sequence[Run]) -> str | None:
    """A warning where the runs' numbers are not about the same images, or None."""
    finished = [run for run in runs if run.state == "finished"]
    kinds = sorted({images_of(run) for run in finished if run.protocol})
    if len(kinds) > 1:
        return f"Not comparable: these runs are scored on different images: {', '.join(kinds)}."
    told = [run for run in finished if run.settings]
    keys = sorted({key for run in told for key in run.settings if key.startswith("data.") and differs(told, key)})
    if keys:
        words = [
            f"{key} is {', '.join(sorted({shown(run.settings.get(key, MISSING)) for run in told}))}" for key in keys
        ]
        return f"Not comparable: these runs do not have the same images: {'; '.join(words)}."
    return None


def images_of(run: Run) -> str:
    """The data set and how it was binarised, as far as the run tells: ``mnist (dynamic)``."""
    return " ".join([run.choices.get("data", ""), f"({run.protocol})" if run.protocol else ""]).strip()


def shown(value: Any) -> str:
    """A value as it is typed; of a number six digits are enough to read."""
    if isinstance(value, str):
        return value
    return f"{value:.6g}" if isinstance(value, float) and len(repr(value)) > 8 else json.dumps(value)


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def ordered(names: set[str]) -> list[str]:
    return sorted(names)


def rank(value: Any) -> tuple[int, float, str]:
    """Numbers by size, before all else by its text."""
    if is_number(value):
        return (0, float(value), "")
    return (1, 0.0, shown(value))
