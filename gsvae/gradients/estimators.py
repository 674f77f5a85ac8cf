"""Which estimators are measured: the options of ``conf/sampling``, and the run's own with its trained weights."""

import functools
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from gsvae.build import build
from gsvae.config import CONF, check, options, register, without_hydra
from gsvae.errors import UserError, near_miss
from gsvae.explain import explain
from gsvae.sampling import Sampler
from gsvae.training.streams import seeded

__all__ = ["OWN", "Candidate", "candidates"]

OWN = "own"  # the name by which the run's own estimator can be asked for


@dataclass(frozen=True)
class Candidate:
    """An estimator to be measured.

    Attributes:
        name: its option, with settings that are not the defaults: ``rloo(n_samples=8)``.
        sampler: the run's own as it was trained, another as it is built: on the CPU in float32.
        own: whether it is the run's.
    """

    name: str
    sampler: Sampler
    own: bool = False

    @property
    def weights(self) -> str:
        """``trained`` or ``untrained`` where it has parameters, else empty."""
        learns = any(True for _ in self.sampler.parameters())
        return ("trained" if self.own else "untrained") if learns else ""


def candidates(cfg: DictConfig, trained: Sampler, wanted: Sequence[str] | None) -> list[Candidate]:
    """Build the estimators.

    Args:
        cfg: the run's config, for its model's shape, its seed and its own estimator.
        trained: the run's own estimator, with its weights.
        wanted: options, with settings in parentheses or without, or ``own``; None for all options and the run's own.

    Raises:
        UserError: a name or a setting that there is not.
    """
    known = [option for option in options("sampling") if option != "custom"]
    for name in wanted or ():
        option = name.partition("(")[0]
        if option not in (*known, OWN) or not re.fullmatch(r"\w+(\(.*\))?", name):
            raise UserError(f"--estimators {name}: allowed are {', '.join([*known, OWN])}{near_miss(option, known)}")
    nodes = {name: composed(name) for name in (wanted or known) if name != OWN}
    own = settings_of(cfg, cfg.sampling)
    found = [
        Candidate(name, trained, own=True) if settings_of(cfg, node) == own else Candidate(name, make(cfg, node))
        for name, node in nodes.items()
    ]
    if OWN in (wanted or [OWN]) and not any(candidate.own for candidate in found):
        found.append(Candidate(name_of(cfg, known), trained, own=True))
    return found


@functools.cache
def composed(name: str) -> DictConfig:
    """The settings of an option, with those in parentheses, checked."""
    option, _, rest = name.partition("(")
    settings = [f"sampling.{setting.strip()}" for setting in rest.removesuffix(")").split(",") if setting.strip()]
    overrides = [f"sampling={option}", *settings]
    register()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of launchers' schemas, which have no part in this
            cfg = compose("config", overrides)
        check(without_hydra(cfg))
    except UserError as error:
        raise UserError(f"--estimators {name}: {error}") from error
    except Exception as error:
        raise UserError(f"--estimators {name}: {explain(error, overrides)}") from error
    node: DictConfig = cfg.sampling
    return node


def within(cfg: DictConfig, node: DictConfig) -> DictConfig:
    """The run's config with another estimator, whose settings may refer to the run's model."""
    other = cfg.copy()
    OmegaConf.set_struct(other, False)
    other.sampling = OmegaConf.to_container(node, resolve=False)
    return other


def settings_of(cfg: DictConfig, node: DictConfig) -> dict[str, Any]:
    """An estimator's settings in the run."""
    settings = OmegaConf.to_container(within(cfg, node).sampling, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def name_of(cfg: DictConfig, known: Sequence[str]) -> str:
    """What the run's own estimator is called: its option and how it differs from it, or its class."""
    own = settings_of(cfg, cfg.sampling)
    for option in known:
        default = settings_of(cfg, composed(option))
        if default["_target_"] == own["_target_"]:
            apart = [f"{key}={value}" for key, value in own.items() if default.get(key) != value]
            return f"{option}({', '.join(apart)})"
    return str(own["_target_"]).rpartition(".")[2]


def make(cfg: DictConfig, node: DictConfig) -> Sampler:
    """An estimator as a run of the same seed would begin with it."""
    there = within(cfg, node).sampling
    sampler = seeded(cfg.seed, "init", lambda: build(there, allow=cfg.allow_targets, key="sampling"))
    assert isinstance(sampler, Sampler)
    return sampler.eval()
