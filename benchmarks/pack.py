"""What a pack of R runs costs against R single ones: base model, MNIST, batch 100, in one process.

    python benchmarks/pack.py --data ../shared/data [--runs 1,2,4,8,16] [--device cuda] [--threads 2]

A row per R: the time of a step of the pack as it is trained here (on the CPU the runs take turns, on a GPU they are one
computation) and of the one computation wherever it is, both against R single steps made in turns with them; images per
second of all runs together; operations per step that launch a kernel on a GPU; memory per run. The median over the
rounds counts. Every run has its own learning rate, as in a sweep over it.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from gsvae.config import check, register
from gsvae.parts import build_objective, count_steps, make_lane, make_lanes, make_run, shared_parts
from gsvae.tracking.console import table
from gsvae.training.lane import Lane
from gsvae.training.loop import STRETCH

BLOCK = 2 * STRETCH  # steps of each run in a round


class Launches(TorchDispatchMode):
    """Counts operations that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.n += not func.is_view and "empty" not in func.name() and "detach" not in func.name()
        return func(*args, **(kwargs or {}))


class Bench:
    """Makes lanes of runs with seeds 0, 1, 2, ..."""

    def __init__(self, overrides: Sequence[str]) -> None:
        register()
        self.overrides = list(overrides)
        self.device, self.data, self.splits = shared_parts(self.cfg(0))

    def cfg(self, r: int) -> DictConfig:
        """The settings of run r."""
        with initialize_config_dir(str(Path(__file__).parents[1] / "conf"), version_base="1.3"):
            cfg = compose("config", [*self.overrides, f"seed={r}", f"optim.lr={1e-3 * (1 + r / 100)}"])
        check(cfg)
        return cfg

    def lanes(self, n: int, *, one: bool) -> list[Lane]:
        """Lanes of n runs: as they are trained, or as one computation."""
        cfgs = [self.cfg(r) for r in range(n)]
        objectives = [build_objective(cfg, self.data, self.splits, self.device) for cfg in cfgs]
        total = count_steps(cfgs[0], self.splits)
        runs = [make_run(cfg, Path(tempfile.mkdtemp()), {}, self.device, total, None) for cfg in cfgs]
        if one:
            return [make_lane(cfgs[0], objectives, runs, self.splits)]
        return make_lanes(cfgs[0], objectives, runs, self.splits)


def stepper(lanes: Sequence[Lane]) -> Callable[[], float]:
    """Makes a block of steps of all runs, in turns as the loop makes them; returns seconds."""
    starts = itertools.count(0, STRETCH)

    def block() -> float:
        begun = time.perf_counter()
        for _ in range(BLOCK // STRETCH):
            at = next(starts)
            for lane in lanes:
                if lane.window.left < STRETCH:
                    lane.window.clear()
                lane.advance(at, at + STRETCH)
        if lanes[0].pack.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    return block


def memory(lanes: Sequence[Lane], n: int) -> float:
    """MiB of a run, between steps on the CPU, at its peak on a GPU."""
    if lanes[0].pack.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / n / 2**20
    return sum(lane.nbytes for lane in lanes) / n / 2**20


def launches(lanes: Sequence[Lane]) -> float:
    """Operations per step over a whole block of the noise, 64 steps."""
    (lane,) = lanes
    with Launches() as counted:
        for at in range(6400, 6464):
            if not lane.window.left:
                lane.window.clear()
            lane.advance(at, at + 1)
    return counted.n / 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--runs", default="1,2,4,8,16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("overrides", nargs="*", help="settings of the runs, such as sampling=hard")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bench = Bench([
        "data=mnist", f"data.root={args.data}", "model=base", "model.n_latent=30", "model.n_cat=10",
        "training.batch_size=100", "tracking.mode=disabled", f"device={args.device}", *args.overrides,
    ])  # fmt: skip
    single = stepper(bench.lanes(1, one=True))
    single()
    rows = []
    for n in map(int, args.runs.split(",")):
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        trained, one = bench.lanes(n, one=False), bench.lanes(n, one=True)
        as_trained, as_one = stepper(trained), stepper(one)
        as_trained(), as_one()
        turns, ones, speeds, to_one = [], [], [], []
        for _ in range(args.rounds):
            alone = sum(single() for _ in range(n))
            turn, together = as_trained(), as_one()
            turns.append(turn / alone)
            ones.append(together / alone)
            to_one.append(turn / alone * n)
            speeds.append(n * BLOCK * 100 / turn)
        median = statistics.median
        numbers = [median(turns), median(ones), median(to_one), f"{median(speeds):,.0f}"]
        rows.append([str(n), *numbers, launches(one), memory(trained, n)])
    columns = ["R", "pack / R singles", "one comp. / R", "pack / 1", "images/s·run", "ops a step", "MiB a run"]
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else f"CPU, {args.threads} threads"
    print(table(f"A step of a pack of R runs, base model, MNIST, batch 100 ({name})", columns, rows))


if __name__ == "__main__":
    main()
