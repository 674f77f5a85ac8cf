"""Runs that are trained as one computation: their pack, their batches, their schedules and their last metrics."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gsvae.data import Images
from gsvae.evaluation import Evaluator, Scores
from gsvae.training.batches import Batches
from gsvae.training.pack import Pack
from gsvae.training.run import Run
from gsvae.training.streams import derive_seed
from gsvae.training.window import Window

__all__ = ["Lane"]

ROWS_AT_ONCE = 64_000  # that are decoded at once in evaluation, of all models together

Weights = dict[str, Tensor]


class Lane:
    """R ≥ 1 runs, all at the same step.

    Args:
        pack: their parameters.
        runs: what each of them owns, in the pack's order.
        batches: where their batches and noise come from.
        evaluator: how they are scored.
        log_every: steps between log points.
    """

    def __init__(self, pack: Pack, runs: Sequence[Run], batches: Batches, evaluator: Evaluator, log_every: int) -> None:
        self.pack, self.runs, self.batches, self.evaluator = pack, runs, batches, evaluator
        self.window = Window(log_every, pack.size, pack.device, pack.dtype)
        self._schedule: tuple[Tensor, list[float | Tensor]] | None = None
        self._busy = 0.0  # seconds spent on this window's steps

    @property
    def active(self) -> bool:
        """Whether any of its runs has not ended."""
        return any(run.active for run in self.runs)

    def advance(self, step: int, until: int) -> None:
        """Train from global step ``step`` up to ``until``, within one window."""
        begun = time.perf_counter()
        for t in range(step, until):
            tau_R, beta_R, lr = self.schedule(t)
            x_RBD, noise_R = self.batches.draw(t)
            self.window.add(self.pack.step(x_RBD, noise_R, tau_R, beta_R, lr))
        self._busy += time.perf_counter() - begun

    @property
    def nbytes(self) -> int:
        """Memory that it holds between steps, with best weights for each run."""
        return self.pack.nbytes + self.pack.params_RP.nbytes + self.batches.nbytes

    def hindrance(self) -> str | None:
        """Why these runs cannot be one computation; None if they can."""
        if not self.pack.elementwise:
            return f"{type(self.pack.optimizer).__name__} is not elementwise"
        try:
            self.pack.try_terms(self.batches.blank())
        except Exception as error:
            return f"their model cannot be lifted ({type(error).__name__}: {first_line(error)})"
        return None

    def schedule(self, step: int) -> tuple[Tensor, Tensor, float | Tensor]:
        """τ ``(R,)``, β ``(R,)`` and lr of a step, from tables made and sent to the device once per window."""
        if self._schedule is None or self.window.n == 0:
            first = step - self.window.n
            steps = range(first, first + len(self.window.values))
            table = [[[f(t) for f in row] for row in self._functions()] for t in steps]
            table_n3R = torch.tensor(table, dtype=self.pack.dtype).to(self.pack.device)
            lrs = [rates[0] if len(set(rates)) == 1 else table_3R[2] for (*_, rates), table_3R in zip(table, table_n3R)]
            self._schedule = table_n3R, lrs
        table_n3R, lrs = self._schedule
        return table_n3R[self.window.n, 0], table_n3R[self.window.n, 1], lrs[self.window.n]

    def _functions(self) -> list[list[Callable[[int], float]]]:
        return [[run.tau for run in self.runs], [run.beta for run in self.runs], [run.lr for run in self.runs]]

    def read_window(self) -> tuple[Tensor, float]:
        """The metrics ``(n, 4, R)`` since the last log point and the images per second of each run; clears them."""
        begun = time.perf_counter()
        values = self.window.read()  # waits for the device
        seconds, self._busy = self._busy + time.perf_counter() - begun, 0.0
        self.window.clear()
        return values, len(values) * self.batches.batch_size / max(seconds, 1e-9)

    def score(
        self,
        rows: Sequence[int],
        weights: Sequence[Weights],
        images: Images,
        step: int,
        *,
        iwae: bool = False,
        check: Callable[[], None],
    ) -> list[Scores]:
        """Score some of the runs with the given weights of each, as many at once as memory bears."""
        size = max(1, ROWS_AT_ONCE // self.evaluator.max_rows)
        found: list[Scores] = []
        for at in range(0, len(rows), size):
            runs = [self.runs[r] for r in rows[at : at + size]]
            seeds = [derive_seed(run.seed, "evaluation") for run in runs]
            taus = [run.tau(max(step - 1, 0)) for run in runs]
            models = self.pack.models(weights[at : at + size])
            found += self.evaluator(models, seeds, images, taus, iwae=iwae, check=check)
        return found

    # ---------------------------------------------------------------- checkpoints

    def state(self, r: int, step: int) -> dict[str, Any]:
        """What run ``r``'s checkpoint holds of the computation before a global step."""
        return {**self.pack.state(r), "streams": self.batches.state(r, step), "window": self.window.state(r)}

    def load(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from the runs' checkpoints, which must stand at the same step."""
        self.pack.load(states)
        for run, state in zip(self.runs, states, strict=True):
            run.streams.load(state["streams"])
        self.window.load([state["window"] for state in states])


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
