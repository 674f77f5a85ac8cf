"""Runs as their folders tell of them, whatever state they are in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvae.errors import UserError

__all__ = ["Run", "Sweep", "read_history", "read_sweep", "states"]


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
    folders = [path] if (path / "status.json").is_file() else sorted(f.parent for f in path.glob("**/status.json"))
    runs = [run for folder in folders if (run := read_run(folder))]
    record = read_json(path / "sweep.json")
    begun = {run.folder.name for run in runs}
    jobs = record.get("jobs", {}).values()
    runs += [Run(path / job["folder"], job["name"], "waiting") for job in jobs if job["folder"] not in begun]
    if not runs:
        raise UserError(f"{path}: there is no run in it; expected a sweep's folder, or a run's")
    return Sweep(path, str(record.get("name", path.resolve().name)), runs)


def read_run(folder: Path) -> Run | None:
    """A run from its folder; None if its status cannot be read (yet)."""
    status = read_json(folder / "status.json")
    if "state" not in status:
        return None
    summary = read_json(folder / "summary.json") if status["state"] == "finished" else {}
    metrics = {key: float(value) for key, value in summary.items() if is_number(value)}
    kl = summary.get("codes/kl_per_latent") or ()
    return Run(
        folder=folder,
        name=str(status.get("name", folder.name)),
        state=str(status["state"]),
        error=status.get("error"),
        settings=status.get("settings") or {},
        choices=status.get("choices") or {},
        keys=tuple(str(o).split("=", 1)[0].lstrip("+~") for o in status.get("overrides") or ()),
        metrics=metrics,
        protocol=summary.get("protocol"),
        kl_L=tuple(value for value in kl if is_number(value)),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none or it is damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``history.jsonl``; a torn last line is left out."""
    rows: list[dict[str, Any]] = []
    try:
        lines = (folder / "history.jsonl").read_text().splitlines()
    except OSError:
        return rows
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def states(runs: Sequence[Run]) -> dict[str, int]:
    """How many runs are in each state, the most first."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.state] = counts.get(run.state, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
