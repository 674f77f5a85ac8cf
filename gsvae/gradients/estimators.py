"""Which estimators are measured: the options of ``conf/sampling``, and the run's own with its trained weights."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from gsvae.build import build
from gsvae.config import CONF, check, near_miss, options, register, without_hydra
from gsvae.errors import UserError
from gsvae.explain import explain
from gsvae.sampling import Sampler
from gsvae.training.streams import seeded

__all__ = ["OWN", "Candidate", "candidates", "names_in"]

OWN = "own"  # the name by which the run's own estimator can be asked for
PREFIX = "sampler."  # of its weights in a checkpoint


@dataclass(frozen=True)
class Candidate:
    """An estimator to be measured.

    Attributes:
        name: its option, with settings that are not the defaults: ``rloo(n_samples=8)``.
        sampler: built for the run's model, on the CPU in float32.
        weights: ``trained`` or ``untrained`` where it has parameters, else empty.
        own: whether it is the run's.
    """

    name: str
    sampler: Sampler
    weights: str
    own: bool


def names_in(text: str) -> list[str]:
    """Split ``soft,rloo(n_samples=8)`` at the commas outside of parentheses."""
    return [name for part in re.split(r",(?![^()]*\))", text) if (name := part.strip())]


def candidates(cfg: DictConfig, weights: Mapping[str, Tensor], wanted: Sequence[str] | None) -> list[Candidate]:
    """Build the estimators.

    Args:
        cfg: the run's config, for its model's shape, its seed and its own estimator.
        weights: the checkpoint's, with those of the run's own estimator.
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
    found = [make(cfg, name, node, weights, own=settings_of(cfg, node) == own) for name, node in nodes.items()]
    if OWN in (wanted or [OWN]) and not any(candidate.own for candidate in found):
        found.append(make(cfg, name_of(cfg, known), cfg.sampling, weights, own=True))
    return found


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


def make(cfg: DictConfig, name: str, node: DictConfig, weights: Mapping[str, Tensor], *, own: bool) -> Candidate:
    """Build an estimator; the run's own gets the weights it has in the checkpoint."""
    there = within(cfg, node).sampling
    sampler = seeded(cfg.seed, "init", lambda: build(there, allow=cfg.allow_targets, key="sampling"))
    if not isinstance(sampler, Sampler):
        raise UserError(f"sampling._target_={there._target_}: must make a gsvae.sampling.Sampler")
    held = {key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)}
    trained = own and bool(held)
    if trained:
        sampler.load_state_dict(held)
    learns = any(True for _ in sampler.parameters())
    return Candidate(name, sampler.eval(), ("trained" if trained else "untrained") if learns else "", own)
