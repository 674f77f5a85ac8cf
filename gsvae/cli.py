"""The command line around Hydra: resume, one-line messages for a user's mistakes, exit codes."""

import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gsvae.config import Config, check, near_miss, register
from gsvae.errors import UserError
from gsvae.identity import run_id
from gsvae.overrides import expand

__all__ = ["Checks", "main", "task"]

log = logging.getLogger(__name__)

GROUPS = ("data", "model", "tau", "sampling", "optim", "training", "evaluation", "tracking", "experiment")
USAGE, DIVERGED, SIGNALLED = 2, 1, 128  # exit codes; a signal adds its number


class Checks(Callback):
    """Checks the config before Hydra makes the run folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        plain = config.copy()
        OmegaConf.set_struct(plain, False)
        plain.pop("hydra", None)
        try:
            check(plain)
        except UserError as error:  # Hydra turns exceptions of callbacks into warnings, but lets exits through
            fail(str(error))


def task(cfg: DictConfig) -> float | None:
    """What Hydra calls for each job: run it, return ``val/neg_elbo`` (None without validation)."""
    from gsvae.experiment import run_experiment
    from gsvae.training.interrupt import Interrupted

    hydra = HydraConfig.get()
    alone = hydra.mode == RunMode.RUN
    try:
        check(cfg)
        choices = OmegaConf.to_container(hydra.runtime.choices)
        assert isinstance(choices, dict)
        outcome = run_experiment(cfg, Path(hydra.runtime.output_dir), {str(k): v for k, v in choices.items()})
    except UserError as error:
        if alone:
            fail(str(error))
        raise
    except Interrupted as stop:
        log.warning("%s. Go on with: python run.py resume=%s", stop, hydra.runtime.output_dir)
        sys.exit(SIGNALLED + stop.signum)
    if outcome["state"] == "diverged":
        log.error("diverged: %s", outcome["error"])
        if alone:
            sys.exit(DIVERGED)
        return float("nan")
    return outcome["metrics"].get("val/neg_elbo")


def main(hydra_main: Callable[[], None]) -> None:
    """Run Hydra's main on this process's arguments."""
    if os.getcwd() not in sys.path:  # a user's own modules, for _target_
        sys.path.append(os.getcwd())
    register()
    OmegaConf.register_new_resolver("run_id", lambda *, _root_: resolved_id(_root_), replace=True)
    wants_traceback = "HYDRA_FULL_ERROR" in os.environ
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then leaves exceptions to us
    try:
        sys.argv[1:] = expand(sys.argv[1:])
        hydra_main()
    except UserError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        frames = traceback.walk_tb(error.__traceback__)
        if wants_traceback or any(frame.f_code is task.__code__ for frame, _ in frames):  # a fault of ours
            raise
        fail(explain(error, sys.argv[1:]))


def resolved_id(root: DictConfig) -> str:
    """The run's id, for the name of its folder."""
    plain = {key: root[key] for key in Config.__dataclass_fields__ if key in root}
    return run_id(OmegaConf.create(plain))


def fail(message: str) -> None:
    """One line on stderr, exit code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(USAGE)


# ---------------------------------------------------------------- Hydra's messages in one line


def explain(error: Exception, argv: list[str]) -> str:
    """Say in one line which setting a composition error is about, and what is allowed."""
    cause = error.__cause__ or error
    text = f"{error}\n{cause}"
    if match := re.search(r"Could not find '([\w/]+)/([^/']+)'", text):
        return explain_option(match[1], match[2], text)
    if match := re.search(r"Key '(\w+)' (?:is not in struct|not in '(\w+)')", text):
        key = full_key(text) or match[1]
        return explain_key(key, match[1], argv)
    if match := re.search(r"Value '(.*)' of type '\w+' (?:could not be converted to|is not) .*?(\w+)$", text, re.M):
        kind = {"Float": "a number", "Integer": "an integer", "Boolean": "true or false"}.get(match[2], match[2])
        return f"{full_key(text)}={match[1]}: expected {kind}"
    first = str(error).splitlines()[0]
    if bad := next((a for a in argv if a in first or a.split("=", 1)[-1] in first), None):
        return f"{bad}: {first}"
    return str(cause).splitlines()[0] if first.startswith("Error") else first


def full_key(text: str) -> str:
    """The key that OmegaConf names in its message."""
    match = re.search(r"full_key: (\S+)", text)
    return match[1] if match else ""


def explain_option(group: str, option: str, text: str) -> str:
    options = re.findall(r"^\t(\S+)$", text.split("Config search path")[0], re.M)
    return f"{group}={option}: allowed are {', '.join(options)}{near_miss(option, options)}"


def explain_key(key: str, name: str, argv: list[str]) -> str:
    """An unknown key: the settings that stand beside it, and the one that was probably meant."""
    value = next((a.split("=", 1)[1] for a in argv if a.lstrip("+~").startswith(key + "=")), None)
    shown = f"{key}={value}" if value is not None else key
    known = siblings(key, argv)
    if not known:
        known = [*Config.__dataclass_fields__, "experiment"]
    hint = near_miss(name, known)
    return f"{shown}: is not a setting; there are {', '.join(known)}{hint}"


def siblings(key: str, argv: list[str]) -> list[str]:
    """The settings in the group of an unknown key, with the options chosen on this command line."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    parent = key.rpartition(".")[0]
    choices = [a for a in argv if a.split("=", 1)[0] in (*GROUPS, "optim/schedule")]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(Path(sys.argv[0]).resolve().parent / "conf"), version_base="1.3"):
            node = OmegaConf.select(compose("config", choices), parent) if parent else None
    except HydraException:
        return []
    return [str(k) for k in node if k != "_target_"] if isinstance(node, DictConfig) else []
