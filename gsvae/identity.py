"""What makes a run that run: the settings that change its numbers, their hash, and what it ran on."""

import hashlib
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gsvae import __version__

__all__ = ["data_protocol", "environment", "flat", "numeric_settings", "run_id", "run_name"]

# Settings that change where a run happens, how it is watched or when it is saved, but not its numbers: those of the
# gradient/* metrics are beside all others, from noise of their own.
NOT_NUMBERS = (
    "tracking",
    "sweep",
    "resume",
    "device",
    "allow_targets",
    "data.root",
    "data.epochs",
    "evaluation.gradient_every",
    "evaluation.gradient_draws",
    "evaluation.gradient_images",
    "training.threads",
    "training.checkpoint_seconds",
)

# Settings younger than runs that are still gone on with, each with the value at which a run is as it was without it.
LATER = {"evaluation.on_train": False}


def flat(settings: DictConfig | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key; lists stay whole."""
    plain = OmegaConf.to_container(settings, resolve=True) if isinstance(settings, DictConfig) else settings
    assert isinstance(plain, dict)
    found: dict[str, Any] = {}
    for name, value in plain.items():
        key = prefix + str(name)
        if isinstance(value, dict):
            found |= flat(value, f"{key}.")
        else:
            found[key] = value
    return found


def numeric_settings(cfg: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """The settings that change a run's numbers, by dotted key."""

    def apart(key: str, value: Any) -> bool:
        old = key in LATER and value == LATER[key]
        return old or any(key == name or key.startswith(name + ".") for name in NOT_NUMBERS)

    return {key: value for key, value in flat(cfg).items() if not apart(key, value)}


def run_id(cfg: DictConfig | dict[str, Any]) -> str:
    """Eight hexadecimal digits that two runs share exactly when their numeric settings are the same."""
    settings = json.dumps(numeric_settings(cfg), sort_keys=True, default=str)
    return hashlib.sha256(settings.encode()).hexdigest()[:8]


def data_protocol(cfg: DictConfig) -> str:
    """How the images are binarised, which belongs beside every number: ``grey`` if they are not."""
    name = str(cfg.data.get("binarize", "none"))
    return "grey" if name == "none" else name


def run_name(cfg: DictConfig, choices: dict[str, Any]) -> str:
    """A readable name with the data protocol in it: ``mnist-dynamic_base-30x10_hard_tau1_seed0``."""
    parts = [
        f"{choices.get('data', 'data')}-{data_protocol(cfg)}",
        f"{choices.get('model', 'model')}-{cfg.model.get('n_latent', 'L')}x{cfg.model.get('n_cat', 'K')}",
        str(choices.get("sampling", "sampling")),
        f"tau{cfg.tau.get('init', ''):g}" if "init" in cfg.tau else str(choices.get("tau", "tau")),
        f"seed{cfg.seed}",
    ]
    return "_".join(parts)


def environment() -> dict[str, Any]:
    """Versions, machine and git revision, for whoever makes the numbers again."""
    import numpy
    import torch

    return {
        "gsvae": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "git": git_revision(Path(__file__).parent),
    }


def git_revision(folder: Path) -> str | None:
    """The commit checked out in ``folder``, with ``-dirty`` if files differ from it; None outside a checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
