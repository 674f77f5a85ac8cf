"""Runs as their folders tell of them, whatever state they are in."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvae.errors import UserError

__all__ = ["Run", "Sweep", "is_number", "read_commands", "read_history", "read_sweep", "states"]

MOST_ROWS = 150  # of a history that are read, of each kind of row


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        folder: its run folder.
        name: what it is called.
        state, error: of its ``status.json``; ``waiting`` if it was not begun.
        settings: those that change its numbers, by dotted key.
        choices: the option chosen of each config group.
        keys: the keys of the settings given to it, in the order given.
        metrics: the numbers of its ``summary.json``.
        protocol: how its images were binarised.
        kl_L: the KL of each of its latents, nats.
    """

    folder: Path
    name: str
    state: str
    error: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    protocol: str | None = None
    kl_L: tuple[float, ...] = ()

    @property
    def seed(self) -> Any:
        return self.settings.get("seed")


@dataclass(frozen=True)
class Sweep:
    """The runs of a folder, and those of its jobs that were not begun."""

    path: Path
    name: str
    runs: list[Run]


def read_sweep(path: Path) -> Sweep:
    """Read a sweep folder, or a single run's.

    Raises:
        UserError: there is no run in it.
    """
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder")
    runs = [run for folder in run_folders(path) if (run := read_run(folder))]
    record = read_json(path / "sweep.json")
    begun = {run.folder.name for run in runs}
    for job in as_dict(record.get("jobs")).values():
        folder, name = as_dict(job).get("folder"), as_dict(job).get("name")
        if folder is None or str(folder) not in begun:
            runs.append(Run(path / str(folder or ""), str(name or folder or "a job"), "waiting"))
    if not runs:
        raise UserError(f"{path}: there is no run in it; expected a sweep's folder, or a run's")
    return Sweep(path, str(record.get("name") or path.resolve().name), runs)


def read_commands(path: Path) -> list[str]:
    """The commands a sweep was run by, as its record has them."""
    commands = read_json(path / "sweep.json").get("commands")
    return [str(command) for command in commands] if isinstance(commands, list) else []


def run_folders(path: Path) -> list[Path]:
    """The run folders at or below a folder, by their paths; what is inside a run's is its own."""
    found = []
    for place, folders, files in os.walk(path):
        if "status.json" in files:
            found.append(Path(place))
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".")]
    return sorted(found)


def read_run(folder: Path) -> Run | None:
    """A run from its folder; None if its status cannot be read (yet)."""
    status = read_json(folder / "status.json")
    if "state" not in status:
        return None
    summary = read_json(folder / "summary.json") if status["state"] == "finished" else {}
    metrics = {key: float(value) for key, value in summary.items() if is_number(value)}
    kl, protocol, error = summary.get("codes/kl_per_latent"), summary.get("protocol"), status.get("error")
    overrides = status.get("overrides")
    return Run(
        folder=folder,
        name=str(status.get("name") or folder.name),
        state=str(status["state"]),
        error=None if error is None else str(error),
        settings=as_dict(status.get("settings")),
        choices={
            group: "null" if option is None else str(option) for group, option in as_dict(status.get("choices")).items()
        },
        keys=tuple(str(o).split("=", 1)[0].lstrip("+~") for o in overrides) if isinstance(overrides, list) else (),
        metrics=metrics,
        protocol=None if protocol is None else str(protocol),
        kl_L=tuple(value for value in kl if is_number(value)) if isinstance(kl, list) else (),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none or it is damaged."""
    try:
        return as_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``history.jsonl``, thinned if they are many; a torn last line is left out."""
    try:
        lines = (folder / "history.jsonl").read_bytes().split(b"\n")
    except OSError:
        return []
    rows: list[dict[str, Any]] = []
    for line in thinned(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and is_number(row.get("step")):
            rows.append(row)
    return rows


def thinned(lines: list[bytes]) -> list[bytes]:
    """Of each kind of row at most ``MOST_ROWS``, evenly spaced, the last among them: most of the time goes in parsing.

    Rows of training and of validation differ in their last key.
    """
    if len(lines) <= MOST_ROWS:
        return lines
    kinds: dict[bytes, list[int]] = {}
    for index, line in enumerate(lines):
        kinds.setdefault(b"".join(line.rsplit(b'"', 2)[1:2]), []).append(index)
    kept: list[int] = []
    for places in kinds.values():
        if len(places) > MOST_ROWS:
            places = [places[round(k * (len(places) - 1) / (MOST_ROWS - 1))] for k in range(MOST_ROWS)]
        kept += places
    return [lines[index] for index in sorted(kept)]


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def as_dict(value: Any) -> dict[str, Any]:
    """The value, if it is the JSON object that is expected in its place."""
    return value if isinstance(value, dict) else {}


def states(runs: Sequence[Run]) -> dict[str, int]:
    """How many runs are in each state, the most first."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.state] = counts.get(run.state, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
