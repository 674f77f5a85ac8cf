"""How long a sweep of MNIST runs takes with several workers, as a ratio to one run after another.

    python benchmarks/sweep.py --data ../shared/data

Every run is a whole one: training, validation, one-hot test numbers, pictures, checkpoints.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN_PY = Path(__file__).resolve().parents[1] / "run.py"


def seconds(launcher: str, folder: str, args: argparse.Namespace) -> float:
    """Wall-clock seconds of a sweep from the command line to its end."""
    command = [
        sys.executable, str(RUN_PY), "-m", f"hydra/launcher={launcher}", "data=mnist", f"data.root={args.data}",
        f"training.epochs={args.epochs}", "evaluation.iwae_samples=10", "tracking.mode=disabled",
        "tau.init=0.3,0.5,1.0,2.0", "seed=0,1,2", f"sweep.name={launcher}",
    ]  # fmt: skip
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=lambda path: Path(path).resolve(), help="folder with MNIST/raw")
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = {launcher: seconds(launcher, folder, args) for launcher in ("basic", "joblib")}
    for launcher, taken in times.items():
        print(f"{launcher:8} {taken:7.1f} s")
    print(f"joblib / basic = {times['joblib'] / times['basic']:.2f}   (12 runs of MNIST, {args.epochs} epochs each)")


if __name__ == "__main__":
    main()
