"""A study that several processes ask and tell, and that goes on where it was stopped."""

import fcntl
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from gsvae.errors import UserError
from gsvae.search.settings import SAMPLERS, SearchSettings
from gsvae.search.space import Space
from gsvae.search.storage import open_storage

__all__ = ["Best", "Study", "Suggestion"]

ENDINGS = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "diverged": TrialState.FAIL,
    "lost": TrialState.FAIL,
}


@dataclass(frozen=True)
class Suggestion:
    """A trial to be run: its number, and its part of the settings as overrides."""

    number: int
    overrides: list[str]


@dataclass(frozen=True)
class Best:
    """A trial that no other beats."""

    number: int
    values: list[float]
    overrides: list[str]


class Study:
    """Asks Optuna for trials and tells it how they ended.

    Args:
        settings: what kind of search.
        space: what it varies.
        folder: the sweep's.
        name: the study's; the same name in the same storage goes on with it.

    Raises:
        UserError: the stored study searches another space, or the sampler cannot search this one.
    """

    def __init__(self, settings: SearchSettings, space: Space, folder: Path, name: str) -> None:
        self.settings, self.space, self.folder, self.name = settings, space, folder, name
        if settings.sampler == "grid" and not space.is_countable:
            raise UserError("hydra.sweeper.sampler=grid: an interval has no end of values; give range(start,stop,step)")
        directions = [StudyDirection.MINIMIZE if least else StudyDirection.MAXIMIZE for least in settings.minimized]
        with self._alone():
            self.optuna = optuna.create_study(
                storage=open_storage(settings.storage, folder),
                study_name=name,
                directions=directions,
                load_if_exists=True,
            )
            self._agree("space", {key: distribution_to_json(d) for key, d in space.distributions.items()})
            self._agree("objectives", {o: d.name for o, d in zip(settings.objectives, directions, strict=True)})

    def _agree(self, what: str, ours: dict[str, str]) -> None:
        theirs = self.optuna.user_attrs.get(what)
        if theirs is None:
            self.optuna.set_user_attr(what, ours)
        elif theirs != ours:
            keys = sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key))
            raise UserError(
                f"sweep.name={self.name}: its study has another {what} ({', '.join(keys)}); take another sweep.name"
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        (self.folder / ".sweep").mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".sweep" / "study.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # ---------------------------------------------------------------- ask

    def ask(self, most: int) -> list[Suggestion]:
        """New trials, at most so many, fewer or none when the study has all it was asked for."""
        with self._alone():
            for trial in self._trials(TrialState.RUNNING):
                if not self._is_whole(trial):  # its process was killed while asking; nobody else is asking now
                    self._end(trial, None, "lost")
            return [self._ask() for _ in range(min(most, self.left))]

    def _ask(self) -> Suggestion:
        # A sampler of its own for each trial: what is suggested depends on the trials before, not on who has asked.
        self.optuna.sampler = self._sampler(len(self._trials()))
        trial = self.optuna.ask(self.space.distributions)
        return Suggestion(trial.number, self.space.overrides(trial.params))

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        arguments: dict[str, Any] = dict(self.settings.sampler_args)
        if self.settings.seed is not None:
            arguments["seed"] = self.settings.seed * 1_000_003 + number
        if self.settings.sampler == "tpe":  # trials under way count, so that those of a batch differ
            arguments.setdefault("constant_liar", True)
        if self.settings.sampler == "grid":
            arguments |= {"search_space": self.space.grid(), "seed": self.settings.seed}
        return SAMPLERS[self.settings.sampler](**arguments)

    @property
    def total(self) -> int:
        """Trials there are to be in all; a grid has no more than its points."""
        if self.settings.sampler != "grid":
            return self.settings.n_trials
        return min(self.settings.n_trials, math.prod(len(found) for found in self.space.grid().values()))

    @property
    def begun(self) -> int:
        """Trials that were asked for, and not lost."""
        return sum(trial.user_attrs.get("state") != "lost" for trial in self._trials())

    @property
    def left(self) -> int:
        """Trials that were not asked for yet."""
        return max(0, self.total - self.begun)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False, states=states or None)

    def running(self) -> list[Suggestion]:
        """Trials without an end: another process is at them, or was."""
        found = [trial for trial in self._trials(TrialState.RUNNING) if self._is_whole(trial)]
        return [Suggestion(trial.number, self.space.overrides(trial.params)) for trial in found]

    def _is_whole(self, trial: FrozenTrial) -> bool:
        return trial.params.keys() == self.space.distributions.keys()

    # ---------------------------------------------------------------- tell

    def tell(self, number: int, values: Sequence[float] | None, state: str) -> None:
        """How a trial ended: finished with values, pruned, failed or diverged; told twice counts once."""
        with self._alone():
            trial = next(trial for trial in self._trials() if trial.number == number)
            if not trial.state.is_finished():
                self._end(trial, values, state)

    def _end(self, trial: FrozenTrial, values: Sequence[float] | None, state: str) -> None:
        self.optuna._storage.set_trial_user_attr(trial._trial_id, "state", state)
        if self.settings.sampler == "grid":  # would stop a loop of Optuna's after its last point; there is none
            self.optuna.sampler = optuna.samplers.RandomSampler()
        finished = ENDINGS[state] == TrialState.COMPLETE
        self.optuna.tell(trial.number, values if finished else None, state=None if finished else ENDINGS[state])

    # ---------------------------------------------------------------- what came of it

    def best(self) -> list[Best]:
        """The best trial, or all that no other beats in every objective; none before one has finished."""
        if not self._trials(TrialState.COMPLETE):
            return []
        found = [self.optuna.best_trial] if len(self.settings.objectives) == 1 else self.optuna.best_trials
        return [Best(t.number, list(t.values), self.space.overrides(t.params)) for t in found]

    def ended(self) -> dict[str, int]:
        """How many trials ended in each state."""
        counts: dict[str, int] = {}
        for trial in self._trials():
            state = trial.user_attrs.get("state", "running")
            counts[state] = counts.get(state, 0) + 1
        return counts

    def handle(self, number: int) -> str:
        """What a trial's process needs to ask whether it is to be pruned, as a text without secrets."""
        return json.dumps(
            {
                "storage": self.settings.storage,
                "folder": str(self.folder),
                "study": self.name,
                "number": number,
                "objective": self.settings.objectives[0],
                "pruner": self.settings.pruner,
                "pruner_args": self.settings.pruner_args,
            }
        )
