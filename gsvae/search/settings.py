"""The settings of a search, checked before it begins."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import optuna

from gsvae.errors import UserError, near_miss

__all__ = ["PRUNERS", "SAMPLERS", "SearchSettings", "read_settings"]

SAMPLERS = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "grid": optuna.samplers.GridSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
}
PRUNERS = {"none": None, "median": optuna.pruners.MedianPruner, "hyperband": optuna.pruners.HyperbandPruner}
DIRECTIONS = ("minimize", "maximize")
KINDS: dict[type, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (int, "an integer"),
    float: (int | float, "a number"),
}
NUMBERS = (
    *(f"{part}/{name}" for part in ("val", "test", "val_last", "test_last")
      for name in ("neg_elbo", "reconstruction", "kl", "relaxed_loss")),
    "test/iwae", "test_last/iwae", "codes/perplexity", "codes/active", "codes/dead",
    *(f"train/{name}" for name in ("loss", "reconstruction", "kl", "tau", "lr", "grad_norm", "images_per_second")),
    "seconds", "peak_memory_mb",
)  # fmt: skip
NULLABLE = ("seed",)  # of all others null is the default


@dataclass(frozen=True)
class SearchSettings:
    """What ``conf/hydra/sweeper/optuna.yaml`` holds.

    Attributes:
        n_trials: of the study in all, over every time it is gone on with.
        sampler, sampler_args: which of Optuna's samplers, and what it takes.
        seed: of the sampler; null for another one each time.
        objectives: names of numbers in ``summary.json``.
        directions: of each objective; null: all are minimised.
        pruner, pruner_args: which of Optuna's pruners ends runs early; it counts epochs.
        storage: null for a journal file in the sweep's folder, or a database's URL, unresolved.
    """

    n_trials: int = 20
    sampler: str = "tpe"
    sampler_args: dict[str, Any] = field(default_factory=dict)
    seed: int | None = 0
    objectives: list[str] = field(default_factory=lambda: ["val/neg_elbo"])
    directions: list[str] | None = None
    pruner: str = "none"
    pruner_args: dict[str, Any] = field(default_factory=dict)
    storage: str | None = None

    @property
    def minimized(self) -> list[bool]:
        return [direction == "minimize" for direction in self.directions or ["minimize"] * len(self.objectives)]


def read_settings(given: Mapping[str, Any]) -> SearchSettings:
    """Check the settings.

    Raises:
        UserError: one line that names the key, the value and what is allowed.
    """
    known = [f.name for f in fields(SearchSettings)]
    for key, value in given.items():
        if key not in known:
            raise wrong(key, value, f"is not a setting; there are {', '.join(known)}{near_miss(key, known)}")
    settings = SearchSettings(**{key: value for key, value in given.items() if value is not None or key in NULLABLE})
    check_number("n_trials", settings.n_trials, 1)
    if settings.seed is not None:
        check_number("seed", settings.seed, 0)
    for key, value, allowed in (("sampler", settings.sampler, SAMPLERS), ("pruner", settings.pruner, PRUNERS)):
        if value not in allowed:
            raise wrong(key, value, f"allowed are {', '.join(allowed)}{near_miss(str(value), allowed)}")
    check_arguments("sampler_args", settings.sampler_args, SAMPLERS[settings.sampler])
    check_arguments("pruner_args", settings.pruner_args, PRUNERS[settings.pruner])
    check_objectives(settings)
    check_storage(settings.storage)
    if settings.sampler == "cmaes":
        check_cmaes()
    return settings


def check_number(key: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise wrong(key, value, f"must be an integer, at least {least}")


def check_arguments(key: str, given: Mapping[str, Any], kind: Any) -> None:
    """Only what the class takes, apart from what is set elsewhere."""
    if not isinstance(given, Mapping):
        raise wrong(key, given, "must be a mapping, such as {n_startup_trials:5}")
    takes = (
        [name for name in inspect.signature(kind).parameters if name not in ("seed", "search_space")] if kind else []
    )
    for name, value in given.items():
        if name not in takes:
            words = f"{kind.__name__} takes {', '.join(takes)}{near_miss(name, takes)}" if kind else "needs a pruner"
            raise wrong(f"{key}.{name}", value, words)
        default = inspect.signature(kind).parameters[name].default
        if type(default) in KINDS and not isinstance(value, KINDS[type(default)][0]):
            raise wrong(f"{key}.{name}", value, f"must be {KINDS[type(default)][1]}, such as {default}")
    try:
        if given:
            kind(**given)
    except Exception as error:  # each class has its own checks
        raise wrong(key, dict(given), str(error)) from error


def check_objectives(settings: SearchSettings) -> None:
    objectives, directions = settings.objectives, settings.directions
    if not isinstance(objectives, list) or not objectives or not all(isinstance(name, str) for name in objectives):
        raise wrong("objectives", objectives, "must be a list of numbers of summary.json, such as [val/neg_elbo]")
    for name in objectives:
        if name not in NUMBERS:
            words = f"no number of summary.json is called so{near_miss(name, NUMBERS)}"
            raise wrong("objectives", objectives, words)
    if directions is not None:
        if len(directions) != len(objectives):
            raise wrong("directions", directions, f"must be {len(objectives)}, one for each of objectives")
        for direction in directions:
            if direction not in DIRECTIONS:
                raise wrong("directions", directions, f"allowed are {', '.join(DIRECTIONS)}")
    if settings.pruner != "none":
        if len(objectives) > 1:
            raise wrong("pruner", settings.pruner, "Optuna prunes for a single objective; there are several")
        if not objectives[0].startswith(("val/", "codes/", "train/")):
            raise wrong("pruner", settings.pruner, f"needs an objective known during training, not {objectives[0]}")
    if settings.sampler in ("cmaes",) and len(objectives) > 1:
        raise wrong("sampler", settings.sampler, "is for a single objective; tpe, random and nsga2 take several")


def check_storage(storage: str | None) -> None:
    if storage is None:
        return
    if not re.match(r"[\w+]+://|\$\{", storage):
        raise wrong("storage", storage, "must be null, or a database's URL such as sqlite:////path/to/study.db")
    if re.search(r"://[^/@:$]*:[^@$]+@", storage):
        hidden = re.sub(r":[^@:/]+@", ":***@", storage)
        raise wrong("storage", hidden, "holds a password; give it as ${oc.env:NAME} and set NAME in the environment")


def check_cmaes() -> None:
    try:
        import cmaes  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError:
        raise wrong("sampler", "cmaes", "needs a package: pip install -e '.[search]'") from None


def wrong(key: str, value: Any, words: str) -> UserError:
    shown = str(value).replace("'", "").replace(" ", "")
    return UserError(f"hydra.sweeper.{key}={shown}: {words}")
