"""Runs small enough to compare to the last bit, alone and packed."""

import itertools
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gsvae.data import Images, Splits
from gsvae.evaluation import Evaluator
from gsvae.model import MLP
from gsvae.objective import Objective
from gsvae.sampling import Sampler
from gsvae.tau import Constant
from gsvae.tracking import RunFolder, Tracker
from gsvae.training.batches import Batches
from gsvae.training.checkpoint import read_checkpoint, read_last
from gsvae.training.interrupt import Interrupted
from gsvae.training.lane import Lane
from gsvae.training.loop import Plan, Trainer
from gsvae.training.pack import Pack
from gsvae.training.run import Run
from gsvae.training.schedules import Exponential
from gsvae.training.streams import seeded

CPU = torch.device("cpu")
BATCH = 10
TIMINGS = ("train/images_per_second",)
TAU = Constant(1.0)
DECAY = Exponential(0.99, 1)


@dataclass(frozen=True)
class Spec:
    """What may differ inside a pack."""

    seed: int
    tau: Any = TAU
    lr: float = 1e-3
    beta: float = 1.0
    clip: float | None = None
    decay: Callable[[int], float] = DECAY


def splits(n: int = 105) -> Splits:
    """Random grey images of 3×4 pixels."""
    pixels = torch.randint(0, 256, (n + 40, 12), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    images = Images(pixels, torch.zeros(n + 40, dtype=torch.int64))
    index = torch.arange(n + 40)
    return Splits(images.take(index[:n]), images.take(index[n : n + 20]), images.take(index[n + 20 :]))


def trainer(
    specs: list[Spec],
    sampler: type[Sampler],
    optimizer: type[torch.optim.Optimizer],
    folder: Path,
    *,
    steps: int = 25,
    dtype: torch.dtype = torch.float64,
    dynamic: bool = False,
    prior: str = "uniform",
    keep_rows: tuple[int, ...] = (0, 0, 0, 0),
    compiled: bool = False,
    lifted: bool = True,
    pictures: bool = False,
    **optimizer_settings: Any,
) -> Trainer:
    """A trainer of these runs as one computation, or with ``lifted=False`` in turns."""
    data = splits()

    def objective(spec: Spec) -> Objective:
        def make() -> Objective:
            model = MLP(image_shape=(1, 3, 4), hidden=[9], n_latent=3, n_cat=4, prior=prior)
            return Objective(model, sampler())

        return seeded(spec.seed, "init", make).to(dtype)

    objectives = [objective(spec) for spec in specs]
    runs = [
        Run.create(
            CPU,
            seed=spec.seed,
            tau=spec.tau,
            lr=lambda step, spec=spec: spec.lr * spec.decay(step),
            beta=lambda step, beta=spec.beta: beta,
            clip=spec.clip,
            tracker=Tracker(RunFolder(folder / str(spec.seed), {}), None),
            checkpoints=folder / str(spec.seed) / "checkpoints",
            header={"config": "{}", "run_id": "test", "wandb_id": "test"},
        )
        for spec in specs
    ]
    for run, keep in zip(runs, keep_rows, strict=False):
        run.tracker.start(keep)
    plan = Plan(steps, log_every=7, evaluate_every=1, images_every=0, checkpoint_seconds=1e9)

    def lane(rows: slice) -> Lane:
        ours = runs[rows]
        make = partial(optimizer, **optimizer_settings)
        pack = Pack(objectives[rows], make, [run.clip for run in ours], compiled=compiled)
        noise_shape = objectives[0].sampler.noise_shape(BATCH, 3, 4)
        pixels = data.train.pixels_ND
        batches = Batches(pixels, BATCH, [run.streams for run in ours], noise_shape, dtype, dynamic=dynamic)
        return Lane(pack, ours, batches, Evaluator(2, 5, 30, dynamic), plan.log_every)

    lanes = [lane(slice(None))] if lifted else [lane(slice(r, r + 1)) for r in range(len(runs))]
    made = Trainer(lanes, data, plan)
    if not pictures:  # which take longer than all the rest
        made._draw = lambda *_: None
    return made


def stop_after(subject: Trainer, n_checks: int) -> None:
    """Have the trainer find a signal at its n-th look for one."""
    looks = itertools.count()

    def check() -> None:
        if next(looks) == n_checks:
            raise Interrupted(signal.SIGTERM)

    subject.interrupt.check = check


def in_two(make: Callable[..., Trainer], n_checks: int) -> Trainer:
    """A trainer that has gone on from the checkpoints of one interrupted at its n-th look for a signal."""
    cut = make()
    stop_after(cut, n_checks)
    with pytest.raises(Interrupted):
        cut.fit()
    for run in cut.runs:
        run.tracker.folder.close()
    states = [read_last(run.checkpoints) for run in cut.runs]
    rest = make(keep_rows=tuple(state["history_rows"] for state in states))
    best = [
        read_checkpoint(run.checkpoints / "best.pt")["weights"] if state["best"]["epoch"] else {}
        for run, state in zip(rest.runs, states, strict=True)
    ]
    rest.resume(states, best)
    rest.fit()
    return rest


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's history, but for timings."""
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


def weights(made: Trainer, r: int) -> dict[str, torch.Tensor]:
    """The parameters of run ``r`` now."""
    for lane in made.lanes:
        if r < len(lane.runs):
            return lane.pack.weights(r)
        r -= len(lane.runs)
    raise IndexError(r)


class Launches(TorchDispatchMode):
    """Counts the operations that would each launch a kernel on a GPU: all but views and bookkeeping."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.n += not func.is_view and "empty" not in func.name() and "detach" not in func.name()
        return found
