"""Pruning: what a trial's process tells of its run at each validation, and hears."""

import json
from pathlib import Path
from typing import Any

import optuna

from gsvae.search.settings import PRUNERS
from gsvae.search.storage import open_storage

__all__ = ["PruningHandle"]


class PruningHandle:
    """A trial as its own process sees it, from the text of :meth:`gsvae.search.Study.handle`.

    Attributes:
        objective: the metric that :meth:`report` wants.
    """

    def __init__(self, text: str) -> None:
        self._told: dict[str, Any] = json.loads(text)
        self.objective: str = self._told["objective"]
        self._trial: optuna.Trial | None = None

    def report(self, epoch: int, value: float) -> bool:
        """Tell the objective after an epoch; True means that the run is to end.

        An epoch told before, by an attempt that was stopped behind its checkpoint, is not told again.
        """
        if self._trial is None:
            self._trial = self._open()
        known = self._trial.storage.get_trial(self._trial._trial_id).intermediate_values
        if epoch not in known:
            self._trial.report(value, epoch)
        return self._trial.should_prune()

    def _open(self) -> optuna.Trial:
        told = self._told
        pruner = PRUNERS[told["pruner"]]
        study = optuna.load_study(
            study_name=told["study"],
            storage=open_storage(told["storage"], Path(told["folder"])),
            pruner=pruner(**told["pruner_args"]) if pruner else optuna.pruners.NopPruner(),
        )
        trial_id = next(t._trial_id for t in study.get_trials(deepcopy=False) if t.number == told["number"])
        return optuna.Trial(study, trial_id)
