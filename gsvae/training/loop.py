"""The one training loop: R ≥ 1 runs in lanes, step by step, with evaluation, checkpoints and interrupts."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gsvae.data import Images, Splits
from gsvae.estimation.probe import Probe
from gsvae.evaluation import COLLAPSE, SATURATION, Scores, diagnose
from gsvae.model import CategoricalVAE
from gsvae.tracking.console import TrainingProgress, in_numbers
from gsvae.training.checkpoint import write_best, write_last
from gsvae.training.divergence import likely_cause
from gsvae.training.interrupt import Interrupt, Interrupted
from gsvae.training.lane import Lane, Weights
from gsvae.training.report import drawings
from gsvae.training.run import Run
from gsvae.training.streams import derive_seed
from gsvae.training.window import METRICS, first_bad

__all__ = ["Plan", "Trainer"]

log = logging.getLogger(__name__)

STRETCH = 8  # steps that a lane makes before the next lane's turn: its parameters stay in the processor's cache
SAVING = 0.05  # share of the time that checkpoints of many runs may take


@dataclass(frozen=True)
class Plan:
    """How long and how often: ``steps`` in all, ``evaluate_every`` and ``images_every`` epochs (0: at the end)."""

    steps: int
    log_every: int
    evaluate_every: int
    images_every: int
    checkpoint_seconds: float
    val_on_test: bool = False
    on_train: bool = False


class Trainer:
    """Trains runs and keeps their records.

    Args:
        lanes: the runs, all at the same step; a lane's runs are one computation, lanes take turns.
        splits: the images, on the training device.
        report: told of every run that has finished; its tracker is open still.
        watch: called between steps; what it raises ends training.
        probe: measures the runs' estimators.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        splits: Splits,
        plan: Plan,
        report: Callable[[Run], None] = lambda run: None,
        watch: Callable[[], None] | None = None,
        probe: Probe | None = None,
    ) -> None:
        self.lanes, self.splits, self.plan, self.report, self.probe = lanes, splits, plan, report, probe
        self.runs = [run for lane in lanes for run in lane.runs]
        self.per_epoch = lanes[0].batches.per_epoch
        self.step = 0
        self.val_images = splits.val or (splits.test if plan.val_on_test else None)
        self.interrupt = Interrupt(watch)
        self.progress: TrainingProgress | None = None
        self._save_at = time.monotonic() + plan.checkpoint_seconds

    def fit(self) -> None:
        """Train to the last step and score the results; a run that ends early, however, ends for itself.

        Raises:
            Interrupted: by SIGINT or SIGTERM, after a checkpoint.
            Exception: of a computation that several runs share.
        """
        self.progress = TrainingProgress(self.plan.steps, self.per_epoch)
        try:
            with self.interrupt:
                self._train()
                self._save()
                self._test()
        except Interrupted:
            self._save()
            raise
        finally:
            self.progress.close()

    # ---------------------------------------------------------------- steps

    @property
    def epoch(self) -> int:
        """Epochs begun; the one under way counts."""
        return -(-self.step // self.per_epoch)

    def _active(self) -> Iterator[Lane]:
        return (lane for lane in self.lanes if lane.active)

    def _train(self) -> None:
        while any(self._active()):
            if self.step % self.per_epoch == 0 or self.step == self.plan.steps:
                self._end_epoch()
            if self.step >= self.plan.steps or not any(self._active()):
                return
            whole = (self.step // self.per_epoch + 1) * self.per_epoch
            self._advance(min(whole, self.plan.steps))

    def _advance(self, until: int) -> None:
        """Train up to step ``until``, or to the end of the last run."""
        while self.step < until and any(self._active()):
            target = min(until, self.step + self._stretch())
            for lane in self._active():
                self._together(lane, lane.advance, self.step, target)
            self._moved_to(target)
            if self.step == self.plan.steps or any(lane.window.full for lane in self._active()):
                self._log_windows()
            if self.progress:
                self.progress.moved(self.step)
            if time.monotonic() >= self._save_at:
                self._save()
            self.interrupt.check()

    def _stretch(self) -> int:
        """Steps until somebody looks up: one where there is one lane, for interrupts; never past a log point."""
        return min(STRETCH, next(self._active()).window.left) if len(self.lanes) > 1 else 1

    def _moved_to(self, step: int) -> None:
        self.step = step
        for run in self.runs:
            if run.active:
                run.step = step

    def _together(self, lane: Lane, work: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """What a lane does as a whole: alone in it, a run answers for it; a fault that several share is raised."""
        if len(lane.runs) == 1:
            lane.runs[0].attempt(work, *args, **kwargs)
        else:
            work(*args, **kwargs)

    def _log_windows(self) -> None:
        """Log the means over the window and close the runs that diverged in it."""
        for lane in self._active():
            values, images_per_second = lane.read_window()
            for r, run in enumerate(lane.runs):
                if run.active:
                    run.attempt(self._log_window, run, values[:, :, r], images_per_second)
        shown = [run.last_metrics for run in self.runs if run.active]
        if self.progress and shown:
            self.progress.update(self.step, in_numbers(shown))

    def _log_window(self, run: Run, values_n4: Tensor, images_per_second: float) -> None:
        last = self.step - 1
        means = dict(zip(METRICS, values_n4.mean(0).tolist()))
        means |= {"train/tau": run.tau(last), "train/lr": run.lr(last), "train/images_per_second": images_per_second}
        run.tracker.log({"step": self.step, "epoch": self._fraction(), **means})
        run.last_metrics |= means
        if len(self.runs) > 1:
            run.lines.say(self.step, self.plan.steps, self.per_epoch, in_numbers([means]))
        self._check_finite(run, values_n4)

    def _fraction(self) -> float:
        return round(self.step / self.per_epoch, 4)

    def _check_finite(self, run: Run, values_n4: Tensor) -> None:
        bad = first_bad(values_n4)
        if bad is None:
            return
        at = self.step - len(values_n4) + bad
        bf16 = self.lanes[0].pack.bf16
        cause = likely_cause(values_n4, bad, run.tau(at), run.lr(at), run.clip, bf16)
        run.step = at + 1
        run.end("diverged", f"loss not finite at step {at + 1}: {cause}")

    # ---------------------------------------------------------------- evaluation

    def _end_epoch(self) -> None:
        epoch, last = self.epoch, self.step == self.plan.steps
        score = self.val_images is not None and (epoch % self.plan.evaluate_every == 0 or last)
        draw = self.plan.images_every > 0 and epoch % self.plan.images_every == 0 and not last
        probe = self.probe is not None and (epoch % self.probe.every == 0 or last)
        for lane in self._active():
            rows = [r for r, run in enumerate(lane.runs) if run.active and epoch > run.evaluated]
            # Both are found before anything is logged: an interrupt between leaves no rows that come again.
            measured = self._measure(lane, rows) if probe else {}
            rows = [r for r in rows if lane.runs[r].active]
            if rows and (score or draw):
                self._together(lane, self._validate, lane, rows, score=score, draw=draw)
            for r, numbers in measured.items():
                if lane.runs[r].active:
                    lane.runs[r].attempt(self._log_gradients, lane.runs[r], numbers)
            for run in (lane.runs[r] for r in rows if lane.runs[r].active):
                run.evaluated = epoch
                if score and not last and run.give_up:
                    run.attempt(self._prune, run, run.give_up)

    def _prune(self, run: Run, give_up: Callable[[int, dict[str, float]], bool]) -> None:
        if give_up(self.epoch, run.last_metrics):
            run.end("pruned", f"worse than others at step {self.step}")

    def _measure(self, lane: Lane, rows: Sequence[int]) -> dict[int, dict[str, float]]:
        """By row, what the probe finds of each run's estimator as it is now; a run that fails at it is not there."""
        found: dict[int, dict[str, float]] = {}
        if self.progress:
            self.progress.note("measuring gradients")
        for r in rows:
            lane.runs[r].attempt(self._measure_run, lane, r, found)
        if self.progress:
            self.progress.note("training")
        return found

    def _measure_run(self, lane: Lane, r: int, found: dict[int, dict[str, float]]) -> None:
        assert self.probe is not None
        run = lane.runs[r]
        objective = lane.pack.module_with(lane.pack.weights(r))
        seeds = derive_seed(run.seed, "gradients"), derive_seed(run.seed, "gradients/reference")
        found[r] = self.probe(objective, run.tau(max(self.step - 1, 0)), seeds, self.interrupt.check)

    def _log_gradients(self, run: Run, found: dict[str, float]) -> None:
        run.tracker.log({"step": self.step, "epoch": self._fraction(), **found})
        run.last_metrics |= found

    def _validate(self, lane: Lane, rows: Sequence[int], *, score: bool, draw: bool) -> None:
        weights = [lane.pack.weights(r) for r in rows]
        images = self.val_images or self.splits.train.take(torch.arange(min(1000, len(self.splits.train))))
        found = lane.score(rows, weights, images, self.step, check=self.interrupt.check)
        for r, held, scores in zip(rows, weights, found, strict=True):
            run = lane.runs[r]
            if score:
                run.attempt(self._log_scores, run, scores, held)
            if draw:
                run.attempt(self._draw, run, lane.pack.module_with(held).model, images, scores)

    def _log_scores(self, run: Run, scores: Scores, weights: Weights) -> None:
        row = scores.metrics("val") | scores.code_metrics()
        run.tracker.log({"step": self.step, "epoch": self._fraction(), **row})
        run.last_metrics |= row
        if self.splits.val is not None:
            run.consider(self.epoch, self.step, scores, weights)
        # Every run begins with codes that know nothing.
        looked_for = (COLLAPSE, SATURATION) if 2 * self.step >= self.plan.steps else (SATURATION,)
        for finding in diagnose(scores):
            if finding.kind in looked_for and finding.kind not in run.warned:
                run.warned.append(finding.kind)
                log.warning("epoch %d: %s", self.epoch, finding)

    def _draw(self, run: Run, model: CategoricalVAE, images: Images, scores: Scores) -> None:
        run.tracker.images(drawings(model, images, scores.codes, derive_seed(run.seed, "pictures")))

    def _test(self) -> None:
        """Score the best and the last weights of every run on the test images, and on the training images if asked."""
        assert self.progress is not None
        self.progress.note("testing")
        for lane in self._active():
            self._together(lane, self._test_lane, lane, [r for r, run in enumerate(lane.runs) if run.active])

    def _test_lane(self, lane: Lane, rows: Sequence[int]) -> None:
        last = [lane.pack.weights(r) for r in rows]
        chosen = [lane.runs[r].best.weights or held for r, held in zip(rows, last, strict=True)]
        found = {"test": self._scores(lane, rows, chosen, last, self.splits.test, iwae=True)}
        if self.plan.on_train:
            found["train"] = self._scores(lane, rows, chosen, last, self.splits.train, iwae=False)
        for i, (r, weights) in enumerate(zip(rows, chosen, strict=True)):
            run, scores = lane.runs[r], {}
            for split, both in found.items():
                scores[split], scores[f"{split}_last"] = both[i]
            run.attempt(self._finish, lane, run, weights, scores)
        for run in (lane.runs[r] for r in rows if lane.runs[r].active):
            run.attempt(self._report, run)

    def _scores(
        self,
        lane: Lane,
        rows: Sequence[int],
        chosen: Sequence[Weights],
        last: Sequence[Weights],
        images: Images,
        *,
        iwae: bool,
    ) -> list[tuple[Scores, Scores]]:
        """Scores of the chosen and of the last weights; those that are the same are scored once."""

        def score(rows: Sequence[int], weights: Sequence[Weights]) -> list[Scores]:
            return lane.score(rows, weights, images, self.step, iwae=iwae, check=self.interrupt.check)

        of_last = score(rows, last)
        differ = [i for i, r in enumerate(rows) if lane.runs[r].best.weights and lane.runs[r].best.step != self.step]
        of_best = dict(zip(differ, score([rows[i] for i in differ], [chosen[i] for i in differ]), strict=True))
        return [(of_best.get(i, scores), scores) for i, scores in enumerate(of_last)]

    def _finish(self, lane: Lane, run: Run, weights: Weights, scores: dict[str, Scores]) -> None:
        """Log the final scores, draw, and write best.pt where nothing was chosen."""
        if not run.best.weights:
            write_best(run.checkpoints, self._best_state(run, weights, self.step))
        metrics = scores["test"].metrics("test") | scores["test_last"].metrics("test_last")
        metrics |= scores["test"].code_metrics()
        # train/kl and the like are means over training steps: of these scores only the −ELBO has no such namesake.
        metrics |= {f"{split}/neg_elbo": scores[split].neg_elbo for split in ("train", "train_last") if split in scores}
        run.tracker.log({"step": self.step, "epoch": self._fraction(), **metrics})
        self._draw(run, lane.pack.module_with(weights).model, self.splits.test, scores["test"])
        run.outcome = {"state": "finished", "scores": scores, "metrics": self._final_metrics(run, metrics)}

    def _report(self, run: Run) -> None:
        self.report(run)
        run.active = False

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
        begun = time.monotonic()
        for lane in self._active():
            values = lane.window.read()
            for r, run in enumerate(lane.runs):
                if run.active and first_bad(values[:, :, r]) is None:
                    run.attempt(self._save_run, lane, r, run)
        now = time.monotonic()
        pause = self.plan.checkpoint_seconds
        if len(self.runs) > 1 and pause:
            pause = max(pause, (now - begun) / SAVING)
        self._save_at = now + pause

    def _save_run(self, lane: Lane, r: int, run: Run) -> None:
        if not run.best.saved:
            write_best(run.checkpoints, self._best_state(run, run.best.weights, run.best.step))
            run.best.saved = True
        run.tracker.folder.sync()
        write_last(run.checkpoints, run.header | lane.state(r, self.step) | run.progress())

    def _best_state(self, run: Run, weights: Weights, step: int) -> dict[str, Any]:
        metrics = run.best.metrics
        return run.header | {
            "step": step,
            "epoch": run.best.epoch or self.epoch,
            "weights": weights,
            "metrics": metrics,
        }

    def resume(self, states: Sequence[dict[str, Any]], best_weights: Sequence[Weights]) -> None:
        """Go on from the runs' checkpoints, which must stand at the same step, with the weights of their best.pt."""
        self.step = states[0]["step"]
        of_run = iter(states)
        for lane in self.lanes:
            lane.load([next(of_run) for _ in lane.runs])
        for run, state, weights in zip(self.runs, states, best_weights, strict=True):
            run.restore(state, weights)
