"""Studies: what varies and how, read from the W&B sweep files in ``sweeps/``, which Hydra multiruns share."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gsvae.config import CONF
from gsvae.errors import UserError, near_miss

__all__ = ["SWEEPS", "Rows", "Study", "read_study"]

SWEEPS = CONF.parent / "sweeps"
PLAIN = re.compile(r"[A-Za-z_][\w./-]*")  # texts that need no quotes in Hydra's grammar


@dataclass(frozen=True)
class Rows:
    """Settings that go together, as in a paper's table of settings.

    Attributes:
        keys: the settings.
        values: row by row, as they are typed; a shorter row leaves the last keys as they are.
    """

    keys: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Study:
    """What varies: ``settings`` all with all, as they are typed on Hydra's command line, and ``rows`` together."""

    settings: dict[str, str]
    rows: tuple[Rows, ...] = ()


def read_study(name: str) -> Study:
    """A study from its file.

    Args:
        name: of a file in ``sweeps/``, or the path of one.

    Raises:
        UserError: there is no such study, or it has something that Hydra's command line cannot say.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SWEEPS / f"{name}.yaml"
    if not path.is_file():
        known = sorted(found.stem for found in SWEEPS.glob("*.yaml"))
        raise UserError(f"sweep.study={name}: allowed are {', '.join(known)}, or a file's path{near_miss(name, known)}")
    try:
        parameters = {str(key): dict(p) for key, p in yaml.safe_load(path.read_text())["parameters"].items()}
        together = [key for key, parameter in parameters.items() if "rows" in parameter]
        return Study(
            {key: as_typed(key, parameter, name) for key, parameter in parameters.items() if key not in together},
            tuple(as_rows(key, parameters[key]["rows"], name) for key in together),
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"sweep.study={name}: not a W&B sweep file with parameters ({error})") from error


def as_rows(key: str, rows: list[list[Any]], study: str) -> Rows:
    """The rows of a parameter that is called by several keys, ``tau.init optim.lr``."""
    keys = tuple(key.split())
    if not rows:
        raise UserError(f"sweep.study={study}: {key} has no rows")
    for row in rows:
        if not isinstance(row, list) or not 1 <= len(row) <= len(keys):
            raise UserError(f"sweep.study={study}: {row}: expected a list of at most {len(keys)} values: {key}")
    return Rows(keys, tuple(tuple(map(quoted, row)) for row in rows))


def as_typed(key: str, parameter: dict[str, Any], study: str) -> str:
    """One parameter: its value, its values, or its range."""
    if "values" in parameter:
        return ",".join(quoted(value) for value in parameter["values"])
    if "value" in parameter:
        return quoted(parameter["value"])
    low, high = parameter["min"], parameter["max"]
    whole = isinstance(low, int) and isinstance(high, int)
    kind = parameter.get("distribution", "int_uniform" if whole else "uniform")
    known = {
        "uniform": f"interval({low},{high})",
        "int_uniform": f"int(interval({low},{high}))",
        "log_uniform_values": f"tag(log,interval({low},{high}))",
    }
    if kind not in known:
        meant = near_miss(kind, known)
        raise UserError(f"sweep.study={study}: {key} has distribution {kind}; Hydra can say {', '.join(known)}{meant}")
    return known[kind]


def quoted(value: Any) -> str:
    """A value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{','.join(quoted(item) for item in value)}]"
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in ("null", "true", "false", "nan", "inf"):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
