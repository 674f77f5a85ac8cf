"""Published figures, read from a YAML file: what they are of, and a number per row, column and metric."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gsvae.errors import UserError

__all__ = ["Published", "label_of", "read_published"]


@dataclass(frozen=True)
class Published:
    """Somebody else's table.

    Attributes:
        name: how the figures are called.
        rows, columns, metrics: the settings and numbers that the table is of.
        epochs, seeds: how long they trained, and how many runs a mean is of; None where the file does not say.
        figures: by row and column a mean per metric.
    """

    name: str
    rows: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    epochs: int | None
    seeds: int | None
    figures: dict[str, dict[str, tuple[float, ...]]]

    @property
    def column_names(self) -> list[str]:
        """The columns that some row has a figure in."""
        return list(dict.fromkeys(name for found in self.figures.values() for name in found))

    def mean(self, row: str, column: str, metric: str) -> float | None:
        """A figure, None if there is none."""
        cell = self.figures.get(row, {}).get(column)
        return None if cell is None else cell[self.metrics.index(metric)]


def label_of(values: Sequence[str]) -> str:
    """Several settings' values as one column's name, ``8×4``."""
    return "×".join(values)


def read_published(path: Path) -> Published:
    """Read a file of published figures; docs/tables/reinmax_published.yaml is one.

    Raises:
        UserError: there is no such file, or it is not one of figures.
    """
    shown = f"--published {path}"
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"{shown}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{shown}: is not YAML ({str(error).splitlines()[0]})") from error
    try:
        metrics = tuple(map(str, content["metrics"]))
        return Published(
            name=str(content.get("name", "published")),
            rows=str(content["rows"]),
            columns=tuple(map(str, content["columns"])),
            metrics=metrics,
            epochs=whole(content.get("epochs")),
            seeds=whole(content.get("seeds")),
            figures={
                str(row): {str(column).replace("x", "×"): cell(found, metrics) for column, found in columns.items()}
                for row, columns in content["figures"].items()
            },
        )
    except KeyError as error:
        raise UserError(f"{shown}: lacks {error}; expected rows, columns, metrics and figures") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{shown}: is not a table of figures ({error})") from error


def cell(found: Any, metrics: Sequence[str]) -> tuple[float, ...]:
    numbers = tuple(float(number) for number in found)
    if len(numbers) != len(metrics) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{found}: expected {len(metrics)} numbers, {', '.join(metrics)}")
    return numbers


def whole(value: Any) -> int | None:
    return None if value is None else int(value)
