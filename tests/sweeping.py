"""Sweeps of runs that take a second, and what is found in their folders afterwards."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from command_line import RUN_PY

QUICK = [
    "experiment=debug", "training.epochs=4", "training.threads=1", "evaluation.iwae_samples=2",
    "tracking.images_every=0",
]  # fmt: skip
TIMINGS = ("train/images_per_second", "seconds", "peak_memory_mb")
FAULTY = ["sampling=custom", "sampling._target_=faulty.Faulty", "allow_targets=[faulty]"]


def faulty_module(folder: Path) -> None:
    shutil.copy(Path(__file__).with_name("faulty.py"), folder)


def start(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """``python run.py`` in ``folder``, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, str(RUN_PY), *arguments],
        cwd=folder,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


def finish(process: subprocess.Popen[str], timeout: float = 180) -> tuple[int, str]:
    out, _ = process.communicate(timeout=timeout)
    return process.returncode, out


def runs(sweep: Path) -> dict[str, Path]:
    """The run folders of a sweep by the settings in their names."""
    return {path.parent.name.rpartition("_")[0]: path.parent for path in sorted(sweep.glob("*/status.json"))}


def status(run: Path) -> dict:
    return json.loads((run / "status.json").read_text())


def states(sweep: Path) -> dict[str, str]:
    return {name: status(run)["state"] for name, run in runs(sweep).items()}


def summary(run: Path) -> dict:
    values = json.loads((run / "summary.json").read_text())
    return {key: value for key, value in values.items() if key not in TIMINGS}


def history(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows]


def numbers(sweep: Path) -> dict[str, tuple]:
    """Everything the runs of a sweep came to."""
    return {name: (summary(run), history(run)) for name, run in runs(sweep).items()}
