"""Typed schemas of every config group, and the checks that end a mistaken run before it starts.

Each YAML file in ``conf/`` names its schema in its defaults list (``/schema.tau.exponential@_here_``), so a typo
or a wrong type fails in composition; :func:`check` then holds each value against the range beside its field.
"""

# ruff: noqa: RUF009 - setting() returns a field

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gsvae.errors import UserError, near_miss

__all__ = ["CONF", "SCHEMAS", "Config", "check", "options", "register", "without_hydra"]

CONF = Path(__file__).resolve().parents[1] / "conf"


def setting(
    default: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | None = None,
    length: int | None = None,
) -> Any:
    """A dataclass field with the values it allows; of a list, the values of its items."""
    allowed = {"least": least, "above": above, "most": most, "below": below, "choices": choices, "length": length}
    metadata = {k: v for k, v in allowed.items() if v is not None}
    if isinstance(default, tuple):  # of a list
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


# ------------------------------------------------------------------ data


@dataclass
class Data:
    _target_: str = MISSING
    root: str = "data"  # folder in torchvision's layout; downloaded to if the files are not there
    n_val: int = setting(5000, least=0)  # images held out of the training split for validation
    seed: int = setting(0, least=0)  # of the validation split and of static binarisation
    binarize: str = setting("none", choices=("none", "dynamic", "static", "threshold"))
    epochs: int = setting(20, least=1)  # the usual length of training on this data: training.epochs' default


@dataclass
class Digits(Data):
    n_val: int = setting(200, least=0)
    n_test: int = setting(297, least=1)
    binarize: str = setting("threshold", choices=("none", "dynamic", "static", "threshold"))
    epochs: int = setting(200, least=1)


# ------------------------------------------------------------------ model


@dataclass
class Model:
    _target_: str = MISSING
    n_latent: int = setting(30, least=1)  # L, categorical variables
    n_cat: int = setting(10, least=2)  # K, categories of each
    prior: str = setting("uniform", choices=("uniform", "learned"))
    init_bias: bool = True  # start the decoder's output bias at the data's mean log-odds


@dataclass
class MLP(Model):
    hidden: list[int] = setting((512, 256), least=1)  # encoder widths; the decoder mirrors them


@dataclass
class Conv(Model):
    channels: list[int] = setting((32, 64), least=1)  # of the stride-2 layers
    hidden: int = setting(256, least=1)


# ------------------------------------------------------------------ temperature


@dataclass
class ConstantTau:
    _target_: str = "gsvae.tau.Constant"
    init: float = setting(1.0, above=0)


@dataclass
class ExponentialTau:
    _target_: str = "gsvae.tau.Exponential"
    init: float = setting(1.0, above=0)
    min: float = setting(0.5, above=0)
    rate: float = setting(3e-5, least=0)  # per step
    every: int = setting(1000, least=1)  # steps between updates


@dataclass
class LinearTau:
    _target_: str = "gsvae.tau.Linear"
    init: float = setting(1.0, above=0)
    min: float = setting(0.5, above=0)
    steps: int | None = setting(None, least=1)  # null: the whole run


@dataclass
class CosineTau(LinearTau):
    _target_: str = "gsvae.tau.Cosine"


# ------------------------------------------------------------------ sampling


@dataclass
class Sampling:
    _target_: str = MISSING


@dataclass
class MultiSample(Sampling):
    n_samples: int = setting(4, least=2)  # M, decoder calls


@dataclass
class GumbelRao(Sampling):
    n_samples: int = setting(10, least=1)  # M, draws of the noise given the code


@dataclass
class GST(Sampling):
    gap: float = setting(1.0, least=0)


@dataclass
class Decoupled(Sampling):
    tau_forward: float = setting(0.8, above=0)


@dataclass
class Rebar(Sampling):
    eta: float = setting(1.0, above=0)  # weight of the control variate, or where it starts
    adaptive: bool = True  # learn eta, and a factor of tau


@dataclass
class Relax(Sampling):
    n_latent: int = setting(MISSING, least=1)
    n_cat: int = setting(MISSING, least=2)
    hidden: int = setting(200, least=1)  # width of the control variate's network
    eta: float = setting(1.0, above=0)  # where it starts


@dataclass
class Exact(Sampling):
    max_codes: int = setting(4096, least=2)  # K^L at most


# ------------------------------------------------------------------ optimisation


@dataclass
class ConstantLR:
    _target_: str = "gsvae.training.schedules.Constant"


@dataclass
class ExponentialLR:
    _target_: str = "gsvae.training.schedules.Exponential"
    factor: float = setting(0.9, above=0, most=1)
    every: int = setting(1000, least=1)  # steps


@dataclass
class CosineLR:
    _target_: str = "gsvae.training.schedules.Cosine"
    final: float = setting(0.0, least=0, most=1)  # fraction of lr at the end
    steps: int | None = setting(None, least=1)  # null: the whole run


@dataclass
class Optim:
    _target_: str = MISSING
    lr: float = setting(1e-3, above=0)
    weight_decay: float = setting(0.0, least=0)
    clip: float | None = setting(None, above=0)  # largest norm of the gradient
    schedule: Any = MISSING


@dataclass
class Adam(Optim):
    betas: list[float] = setting((0.9, 0.999), least=0, below=1, length=2)
    eps: float = setting(1e-8, above=0)


@dataclass
class SGD(Optim):
    lr: float = setting(1e-2, above=0)
    momentum: float = setting(0.9, least=0, below=1)


# ------------------------------------------------------------------ the rest


@dataclass
class Training:
    epochs: int = setting(20, least=1)
    steps: int | None = setting(None, least=1)  # stop after so many steps instead of after epochs
    batch_size: int = setting(100, least=1)
    beta: float = setting(1.0, least=0)  # weight of the KL
    beta_warmup: int = setting(0, least=0)  # steps over which beta rises from 0
    precision: str = setting("fp32", choices=("fp32", "tf32", "bf16", "fp64"))
    compile: bool = False
    threads: int | None = setting(None, least=1)  # of torch on the CPU; null: torch decides
    checkpoint_seconds: float = setting(30.0, least=0)  # between checkpoints; 0: at every step


@dataclass
class Evaluation:
    every: int = setting(1, least=1)  # epochs
    n_samples: int = setting(1, least=1)  # one-hot samples per image in the discrete -ELBO
    iwae_samples: int = setting(100, least=1)  # in the importance-weighted bound
    max_rows: int = setting(4000, least=1)  # images x samples decoded at once: bounds the memory
    val_on_test: bool = False  # with data.n_val=0: report val/* on the test images
    on_train: bool = False  # at the end, score the training images as well
    gradient_every: int = setting(0, least=0)  # epochs; bias and variance of the estimator; 0: never
    gradient_draws: int = setting(100, least=10)  # estimates to measure it by
    gradient_images: int = setting(100, least=1)  # of the validation images, or of the training images


@dataclass
class Tracking:
    mode: str = setting("auto", choices=("auto", "online", "offline", "disabled"))
    project: str = "gsvae"
    entity: str | None = None
    name: str | None = None  # null: made from the settings
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    log_every: int = setting(100, least=1)  # steps; metrics are means over them
    images_every: int = setting(10, least=0)  # epochs; 0: only at the end
    artifact: bool = True  # send best.pt to Weights & Biases


@dataclass
class Sweep:
    name: str | None = None  # of the sweep and its folder; given again, the sweep goes on
    study: str | None = None  # what varies, from sweeps/NAME.yaml
    zip: list[str] = field(default_factory=list)  # keys whose values go together, instead of all with all
    only: Any = None  # of all runs those with these values: {tau.init: [0.5, 1]}
    retry_failed: bool = False
    fail_fast: bool = False  # the first failure stops the sweep


@dataclass
class Config:
    data: Any = MISSING
    model: Any = MISSING
    tau: Any = MISSING
    sampling: Any = MISSING
    optim: Any = MISSING
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    tracking: Tracking = field(default_factory=Tracking)
    sweep: Sweep = field(default_factory=Sweep)
    seed: int = setting(0, least=0)
    device: str = setting("auto", choices=("auto", "cpu", "cuda", "cuda:N", "mps"))
    resume: str | None = None  # a run folder, or a checkpoint in one
    allow_targets: list[str] = field(default_factory=list)  # modules trusted in _target_


SCHEMAS: dict[str, dict[str, type]] = {
    "data": {"images": Data, "digits": Digits},
    "model": {"model": Model, "mlp": MLP, "conv": Conv},
    "tau": {
        "constant": ConstantTau,
        "exponential": ExponentialTau,
        "linear": LinearTau,
        "cosine": CosineTau,
    },
    "sampling": {
        "single": Sampling,
        "multi": MultiSample,
        "gumbel_rao": GumbelRao,
        "gst": GST,
        "decoupled": Decoupled,
        "rebar": Rebar,
        "relax": Relax,
        "exact": Exact,
    },
    "optim": {"optim": Optim, "adam": Adam, "sgd": SGD},
    "schedule": {"constant": ConstantLR, "exponential": ExponentialLR, "cosine": CosineLR},
    "training": {"training": Training},
    "evaluation": {"evaluation": Evaluation},
    "tracking": {"tracking": Tracking},
}


def register() -> None:
    """Make the schemas known to Hydra as ``schema.GROUP.NAME``: no group, so that completion does not offer them."""
    store = ConfigStore.instance()
    store.store(name="schema.root", node=Config)
    for group, schemas in SCHEMAS.items():
        for name, schema in schemas.items():
            store.store(name=f"schema.{group}.{name}", node=schema)


def without_hydra(cfg: DictConfig) -> DictConfig:
    """A composed config without Hydra's part, its schemas kept."""
    plain = cfg.copy()
    OmegaConf.set_struct(plain, False)
    plain.pop("hydra", None)
    return plain


def options(group: str) -> list[str]:
    """The options of a config group that come with the project."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


# ------------------------------------------------------------------ checks


def check(cfg: DictConfig) -> None:
    """Hold every value against the range its schema states, and values against each other.

    Raises:
        UserError: one line that names the key, the value and what is allowed.
    """
    try:
        _check_groups(cfg)
        for key, value, allowed in _typed_values(cfg, ""):
            _check_value(key, value, allowed)
        _check_together(cfg)
    except OmegaConfBaseException as error:  # an interpolation that leads nowhere
        given: Any = OmegaConf.to_container(cfg, resolve=False)
        for name in str(error.full_key).split("."):
            given = given.get(name) if isinstance(given, dict) else None
        raise UserError(f"{error.full_key}={given}: {str(error).splitlines()[0]}") from error


def _check_groups(cfg: DictConfig) -> None:
    for key in ("data", "model", "tau", "sampling", "optim", "optim.schedule"):
        value = OmegaConf.select(cfg, key)
        if not isinstance(value, DictConfig):
            group = key.replace(".", "/")
            known = options(group)
            chosen = f"{group}={value}" if value in known else f"{group}=..."
            given = f"{key} is not set" if value is None else f"{key}={value}: is a group of settings"
            raise UserError(f"{given}; choose with {chosen}; allowed are {', '.join(known)}")


def _typed_values(node: DictConfig, prefix: str) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every value with its key and what its schema allows."""
    schema = OmegaConf.get_type(node)
    metadata = {f.name: dict(f.metadata) for f in fields(schema)} if is_dataclass(schema) else {}
    for name in map(str, node):
        key = f"{prefix}{name}"
        # +key=value gets past Hydra. What a _target_ takes beyond its schema is for build() to find out.
        if metadata and "_target_" not in metadata and name not in metadata:
            hint = near_miss(name, metadata, prefix)
            raise UserError(f"{key}={node[name]}: is not a setting; there are {', '.join(metadata)}{hint}")
        if OmegaConf.is_missing(node, name):
            raise UserError(f"{key} is not set; give it a value: {key}=...")
        value = node[name]
        if isinstance(value, DictConfig):
            yield from _typed_values(value, f"{key}.")
        else:
            plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            yield key, plain, metadata.get(name, {})


def _check_value(key: str, value: Any, allowed: dict[str, Any]) -> None:
    if isinstance(value, list):
        if len(value) != allowed.get("length", len(value)):
            raise UserError(f"{key}={value}: must be a list of {allowed['length']}")
        for index, item in enumerate(value):
            _check_value(f"{key}[{index}]", item, allowed)
        return
    if value is None:
        return
    if key == "device":
        value = re.sub(r"^cuda:\d+$", "cuda:N", value)
    if "choices" in allowed and value not in allowed["choices"]:
        hint = near_miss(str(value), allowed["choices"])
        raise UserError(f"{key}={value}: allowed are {', '.join(allowed['choices'])}{hint}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value}: must be a finite number")
    tests = {
        "least": ("at least", lambda bound: value >= bound),
        "above": ("above", lambda bound: value > bound),
        "most": ("at most", lambda bound: value <= bound),
        "below": ("below", lambda bound: value < bound),
    }
    bounds = {name: bound for name, bound in allowed.items() if name in tests}
    if not all(tests[name][1](bound) for name, bound in bounds.items()):
        words = " and ".join(f"{tests[name][0]} {bound}" for name, bound in bounds.items())
        raise UserError(f"{key}={_shown(value)}: must be {words}")


def _check_together(cfg: DictConfig) -> None:
    tau = cfg.tau
    values = [tau.get("min"), tau.get("init")]
    if all(isinstance(value, int | float) for value in values) and tau.min > tau.init:
        raise UserError(f"tau.min={_shown(tau.min)}: must be at most tau.init={_shown(tau.init)}")


def _shown(value: Any) -> str:
    """A number as a person types it: 2 for 2.0."""
    return str(value).removesuffix(".0")
