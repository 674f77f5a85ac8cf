"""A training step of the base model on MNIST against the bare matrix products of that step, in one process.

    python benchmarks/step.py [--data ../shared/data] [--threads 2] [--rounds 15]

Prints ratios and the peak memory. Beside our step stands a plain eager loop (linear layers, Gumbel noise by
``exponential_``, torch's losses, Adam) as anyone would write it. All are timed in turns, a block of steps of each, so
that a machine whose speed drifts drifts for all; the median over the rounds counts.
"""

import argparse
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from gsvae.config import check, register
from gsvae.data import MNIST
from gsvae.experiment import peak_memory
from gsvae.parts import build_objective, count_steps, load_data, make_lane, make_run
from gsvae.tracking.console import table

SETTINGS = [
    "data=mnist",
    "model=base",
    "model.n_latent=30",
    "model.n_cat=10",
    "training.batch_size=100",
    "tracking.mode=disabled",
]
STEPS = 40  # in a block


def training_step(overrides: list[str]) -> Callable[[], None]:
    """One step of training as the loop does it, from drawing the batch to the update."""
    register()
    with initialize_config_dir(str(Path(__file__).parents[1] / "conf"), version_base="1.3"):
        cfg = compose("config", [*SETTINGS, *overrides])
    check(cfg)
    device = torch.device("cpu")
    data, splits = load_data(cfg, device)
    objective = build_objective(cfg, data, splits, device)
    run = make_run(cfg, Path(tempfile.mkdtemp()), {}, device, count_steps(cfg, splits), None)
    lane = make_lane(cfg, [objective], [run], splits)
    steps = itertools.count()

    def step() -> None:
        t = next(steps)
        lane.advance(t, t + 1)
        if lane.window.full:
            lane.window.clear()

    return step


def matrix_products(batch: int = 100) -> Callable[[], None]:
    """The products of the same step: each layer's output, weight gradient and, but for the first, input gradient."""
    widths = [784, 512, 256, 300, 256, 512, 784]
    layers = [
        (torch.randn(batch, n_in), torch.randn(n_out, n_in), torch.randn(batch, n_out))
        for n_in, n_out in itertools.pairwise(widths)
    ]

    def step() -> None:
        for index, (x, weight, grad) in enumerate(layers):
            torch.mm(x, weight.t())
            torch.mm(grad.t(), x)
            if index:
                torch.mm(grad, weight)

    return step


def plain_step(pixels_ND: torch.Tensor, batch: int = 100, n_latent: int = 30, n_cat: int = 10) -> Callable[[], None]:
    """The same model and loss in a plain eager loop."""
    code = n_latent * n_cat
    encoder = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, code))
    decoder = nn.Sequential(nn.Linear(code, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 784))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    batches = itertools.cycle(torch.randperm(len(pixels_ND)).split(batch)[:-1])

    def step() -> None:
        x = pixels_ND[next(batches)].float() / 255
        logits = encoder(x).view(batch, n_latent, n_cat)
        noise = -torch.empty_like(logits).exponential_().log()
        z = torch.softmax(logits + noise, -1)
        pixels = decoder(z.view(batch, code))
        log_q = torch.log_softmax(logits, -1)
        kl = (log_q.exp() * (log_q + math.log(n_cat))).sum()
        loss = (F.binary_cross_entropy_with_logits(pixels, x, reduction="sum") + kl) / batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None]) -> float:
    """Seconds per step over a block."""
    begun = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - begun) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("overrides", nargs="*", help="settings of the run, such as sampling=hard")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    variants = {"fp32": [], "fp32 compiled": ["training.compile=true"], "bf16": ["training.precision=bf16"]}
    steps = {name: training_step([f"data.root={args.data}", *args.overrides, *more]) for name, more in variants.items()}
    steps["plain eager loop"] = plain_step(MNIST(root=args.data).splits().train.pixels_ND)
    bare = matrix_products()
    timings: dict[str, list[float]] = {name: [] for name in ("bare", *steps)}
    for step in (bare, *steps.values()):
        seconds(step)  # warm up, compile
    for _ in range(args.rounds):
        for name, step in {"bare": bare, **steps}.items():
            timings[name].append(seconds(step))
    rows = []
    for name in steps:
        ratios = [t / b for t, b in zip(timings[name], timings["bare"], strict=True)]
        to_plain = [t / p for t, p in zip(timings[name], timings["plain eager loop"], strict=True)]
        rows.append([name, statistics.median(ratios), min(ratios), max(ratios), statistics.median(to_plain)])
    columns = ["step", "/ bare products", "least", "most", "/ plain loop"]
    print(table("Time of a training step, base model, MNIST, batch 100", columns, rows))
    print(f"peak memory {peak_memory():.0f} MiB, {args.threads} threads, {args.rounds} rounds of {STEPS} steps")


if __name__ == "__main__":
    main()
