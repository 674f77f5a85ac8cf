"""The one training loop: a pack of R ≥ 1 runs, step by step, with evaluation, checkpoints and interrupts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gsvae.data import Images, Splits
from gsvae.evaluation import Evaluator, Scores
from gsvae.model import CategoricalVAE
from gsvae.tracking.console import TrainingProgress
from gsvae.training.batches import Batches
from gsvae.training.checkpoint import write_best, write_last
from gsvae.training.divergence import likely_cause
from gsvae.training.interrupt import Interrupt, Interrupted
from gsvae.training.pack import Pack
from gsvae.training.report import drawings
from gsvae.training.run import Run
from gsvae.training.streams import derive_seed
from gsvae.training.window import METRICS, Window, first_bad

__all__ = ["Plan", "Trainer"]


@dataclass(frozen=True)
class Plan:
    """How long and how often: ``steps`` in all, ``evaluate_every`` and ``images_every`` epochs (0: at the end)."""

    steps: int
    log_every: int
    evaluate_every: int
    images_every: int
    checkpoint_seconds: float
    val_on_test: bool = False


class Trainer:
    """Trains a pack and keeps its runs' records.

    Args:
        pack: the runs' parameters.
        runs: what each run owns, in the pack's order.
        splits: the images, on the training device.
        batches: where batches and noise come from.
        evaluators: one per run.
        watch: called at every step; what it raises ends training.
    """

    def __init__(
        self,
        pack: Pack,
        runs: Sequence[Run],
        splits: Splits,
        batches: Batches,
        evaluators: Sequence[Evaluator],
        plan: Plan,
        watch: Callable[[], None] | None = None,
    ) -> None:
        self.pack, self.runs, self.splits, self.batches = pack, runs, splits, batches
        self.evaluators, self.plan = evaluators, plan
        self.window = Window(plan.log_every, pack.size, pack.device, pack.dtype)
        self.step = 0
        self.val_images = splits.val or (splits.test if plan.val_on_test else None)
        self.interrupt = Interrupt(watch)
        self.progress: TrainingProgress | None = None
        self._scalars: tuple[Tensor, list[list[float]]] | None = None
        self._busy = 0.0  # seconds spent in this window's steps
        self._saved_at = time.monotonic()

    def fit(self) -> None:
        """Train to the last step and score the results; runs that diverge or are pruned end early, each for itself.

        Raises:
            Interrupted: by SIGINT or SIGTERM, after a checkpoint.
        """
        self.progress = TrainingProgress(self.plan.steps, self.batches.per_epoch)
        try:
            with self.interrupt:
                self._train()
                self._save()
                for r, run in enumerate(self.runs):
                    if run.active:
                        self._finish(r, run)
        except Interrupted:
            self._save()
            raise
        finally:
            self.progress.close()

    # ---------------------------------------------------------------- steps

    @property
    def epoch(self) -> int:
        """Epochs begun; the one under way counts."""
        return -(-self.step // self.batches.per_epoch)

    def _train(self) -> None:
        while any(run.active for run in self.runs):
            if self.step % self.batches.per_epoch == 0 or self.step == self.plan.steps:
                self._end_epoch()
            if self.step >= self.plan.steps or not any(run.active for run in self.runs):
                return
            whole = (self.step // self.batches.per_epoch + 1) * self.batches.per_epoch
            self._advance(min(whole, self.plan.steps))

    def _advance(self, until: int) -> None:
        """Train up to step ``until``, or to a divergence of the last run."""
        begun = time.perf_counter()
        while self.step < until:
            tau_R, beta_R, lr = self.schedule()
            x_RBD, noise_R = self.batches.draw(self.step)
            self.window.add(self.pack.step(x_RBD, noise_R, tau_R, beta_R, lr))
            self.step += 1
            if self.window.full or self.step == self.plan.steps:
                now = time.perf_counter()
                self._busy += now - begun
                begun = now
                self._log_window()
                if not any(run.active for run in self.runs):
                    return
            if self.progress:
                self.progress.moved(self.step)
            if time.monotonic() - self._saved_at >= self.plan.checkpoint_seconds:
                self._save()
            self.interrupt.check()
        self._busy += time.perf_counter() - begun

    def schedule(self) -> tuple[Tensor, Tensor, list[float]]:
        """τ ``(R,)``, β ``(R,)`` and lr of the step, from tables made and sent to the device once per window."""
        if self._scalars is None or self.window.n == 0:
            steps = range(self.step - self.window.n, self.step - self.window.n + self.plan.log_every)
            table = [[[run.tau(t) for run in self.runs], [run.beta(t) for run in self.runs]] for t in steps]
            device_table = torch.tensor(table, dtype=self.pack.dtype).to(self.pack.device)
            self._scalars = device_table, [[run.lr(t) for run in self.runs] for t in steps]
        device_table, lrs = self._scalars
        tau_R, beta_R = device_table[self.window.n]
        return tau_R, beta_R, lrs[self.window.n]

    def _log_window(self) -> None:
        """Log the means over the window and close the runs that diverged in it."""
        values = self.window.read()
        seconds, self._busy = self._busy, 0.0
        last = self.step - 1
        for r, run in enumerate(self.runs):
            if not run.active:
                continue
            means = dict(zip(METRICS, values[:, :, r].mean(0).tolist()))
            means |= {"train/tau": run.tau(last), "train/lr": run.lr(last)}
            means["train/images_per_second"] = len(values) * self.batches.batch_size / max(seconds, 1e-9)
            run.tracker.log({"step": self.step, "epoch": self._fraction(), **means})
            run.last_metrics |= means
            self._check_finite(r, run, values[:, :, r])
        if self.progress and (shown := next((run for run in self.runs if run.active), None)):
            self.progress.update(self.step, shown.last_metrics)
        self.window.clear()

    def _fraction(self) -> float:
        return round(self.step / self.batches.per_epoch, 4)

    def _check_finite(self, r: int, run: Run, values_n4: Tensor) -> None:
        bad = first_bad(values_n4)
        if bad is None:
            return
        at = self.step - len(values_n4) + bad
        cause = likely_cause(values_n4, bad, run.tau(at), run.lr(at), run.clip, self.pack.bf16)
        run.active = False
        run.outcome = {"state": "diverged", "error": f"loss not finite at step {at + 1}: {cause}"}
        run.tracker.close(**run.outcome, step=at + 1)

    # ---------------------------------------------------------------- evaluation

    def _end_epoch(self) -> None:
        epoch, last = self.epoch, self.step == self.plan.steps
        for r, run in enumerate(self.runs):
            if not run.active or epoch <= run.evaluated:
                continue
            due = self.val_images is not None and (epoch % self.plan.evaluate_every == 0 or last)
            draw = self.plan.images_every > 0 and epoch % self.plan.images_every == 0 and not last
            if due or draw:
                self._validate(r, run, epoch, score=due, draw=draw)
            run.evaluated = epoch
            if due and not last and run.give_up and run.give_up(epoch, run.last_metrics):
                self._prune(run)

    def _prune(self, run: Run) -> None:
        run.active = False
        run.outcome = {"state": "pruned", "error": f"worse than others at step {self.step}"}
        run.tracker.close(**run.outcome, step=self.step)

    def _validate(self, r: int, run: Run, epoch: int, *, score: bool, draw: bool) -> None:
        weights = self.pack.weights(r)
        model = self._model(weights)
        images = self.val_images or self.splits.train.take(torch.arange(min(1000, len(self.splits.train))))
        scores = self._score(r, run, model, images)
        if score:
            row = scores.metrics("val") | scores.code_metrics()
            run.tracker.log({"step": self.step, "epoch": self._fraction(), **row})
            run.last_metrics |= row
            if self.splits.val is not None:
                run.consider(epoch, self.step, scores, weights)
        if draw:
            self._draw(run, model, images, scores)

    def _score(self, r: int, run: Run, model: CategoricalVAE, images: Images, *, iwae: bool = False) -> Scores:
        tau = run.tau(max(self.step - 1, 0))
        return self.evaluators[r](model, images, tau, iwae=iwae, check=self.interrupt.check)

    def _model(self, weights: dict[str, Tensor]) -> CategoricalVAE:
        return self.pack.module_with(weights).model

    def _draw(self, run: Run, model: CategoricalVAE, images: Images, scores: Scores) -> None:
        run.tracker.images(drawings(model, images, scores.codes, derive_seed(run.seed, "pictures")))

    def _finish(self, r: int, run: Run) -> None:
        """Score the best and the last weights on the test images, write summary, pictures and best.pt."""
        assert self.progress is not None
        self.progress.note("testing")
        last = self.pack.weights(r)
        scores = {"test_last": self._score(r, run, self._model(last), self.splits.test, iwae=True)}
        best = run.best if run.best.weights else None
        if best and best.step != self.step:
            scores["test"] = self._score(r, run, self._model(best.weights), self.splits.test, iwae=True)
        else:
            scores["test"] = scores["test_last"]
        if best is None:
            write_best(run.checkpoints, self._best_state(run, last, self.step))
        metrics = scores["test"].metrics("test") | scores["test_last"].metrics("test_last")
        metrics |= scores["test"].code_metrics()
        run.tracker.log({"step": self.step, "epoch": self._fraction(), **metrics})
        self._draw(run, self._model(best.weights if best else last), self.splits.test, scores["test"])
        run.outcome = {"state": "finished", "scores": scores, "metrics": self._final_metrics(run, metrics)}

    def _final_metrics(self, run: Run, test: dict[str, float]) -> dict[str, Any]:
        val_last = {k.replace("val/", "val_last/"): v for k, v in run.last_metrics.items() if k.startswith("val/")}
        final: dict[str, Any] = {
            "step": self.step,
            "epoch": self.epoch,
            **run.last_metrics,
            **val_last,
            **test,
        }
        if run.best.weights:
            final |= run.best.metrics | {"best/epoch": run.best.epoch, "best/step": run.best.step}
        return final

    # ---------------------------------------------------------------- checkpoints

    def _save(self) -> None:
        """Write the checkpoints of all active runs; a run found to be diverging keeps its last good one."""
        values = self.window.read()
        for r, run in enumerate(self.runs):
            if not run.active or first_bad(values[:, :, r]) is not None:
                continue
            if not run.best.saved:
                write_best(run.checkpoints, self._best_state(run, run.best.weights, run.best.step))
                run.best.saved = True
            run.tracker.folder.sync()
            state = run.header | self.pack.state(r) | run.progress()
            write_last(run.checkpoints, state | {"step": self.step, "window": self.window.state(r)})
        self._saved_at = time.monotonic()

    def _best_state(self, run: Run, weights: dict[str, Tensor], step: int) -> dict[str, Any]:
        metrics = run.best.metrics
        return run.header | {
            "step": step,
            "epoch": run.best.epoch or self.epoch,
            "weights": weights,
            "metrics": metrics,
        }

    def resume(self, states: Sequence[dict[str, Any]], best_weights: Sequence[dict[str, Tensor]]) -> None:
        """Go on from the runs' checkpoints, which must stand at the same step, with the weights of their best.pt."""
        self.step = states[0]["step"]
        self.pack.load(states)
        mid_epoch = self.step % self.batches.per_epoch != 0
        for run, state, weights in zip(self.runs, states, best_weights):
            run.restore(state, weights, mid_epoch=mid_epoch)
        self.window.load([state["window"] for state in states])
