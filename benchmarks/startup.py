"""Seconds from ``python run.py`` to the first training step on digits, and where they go.

    python benchmarks/startup.py [--runs 3]

Aim: under 6 seconds with warm file caches, of which imports are the most.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[1]
IMPORTS = (
    "torch",
    "hydra",
    "wandb",
    "matplotlib.figure",
    "torchvision",
    "sklearn.datasets",
    "gsvae.experiment",
)


def first_step() -> float:
    """Start a run that logs every step and wait for the line of its first one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "run.py",
            "tracking.log_every=1",
            "training.steps=1",
            f"hydra.run.dir={folder}/run",
        ]
        begun = time.perf_counter()
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 1 of"):
                taken = time.perf_counter() - begun
                process.communicate()
                return taken
    raise SystemExit("the run ended before its first step")


def import_time(module: str) -> float:
    """Seconds to import a module in a fresh interpreter."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], cwd=PROJECT, check=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    first_step()
    print(f"first step after {statistics.median(first_step() for _ in range(args.runs)):.2f} s")
    empty = import_time("sys")
    for module in IMPORTS:
        taken = statistics.median(import_time(module) for _ in range(args.runs)) - empty
        print(f"  import {module:20s} {taken:5.2f} s")


if __name__ == "__main__":
    main()
