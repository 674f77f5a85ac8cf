"""The command line around Hydra: resume, one-line messages for a user's mistakes, exit codes."""

import logging
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gsvae.claim import BusyError, Claim, ClaimLost
from gsvae.config import CONF, Config, check, register, without_hydra
from gsvae.errors import UserError
from gsvae.explain import explain, is_mistake
from gsvae.identity import run_id, run_name
from gsvae.overrides import expand

__all__ = ["Checks", "main", "task"]

log = logging.getLogger(__name__)

USAGE, DIVERGED, SIGNALLED = 2, 1, 128  # exit codes; a signal adds its number


class Checks(Callback):
    """Checks the config before Hydra makes the run folder."""

    before: ClassVar[dict[str, bytes]] = {}  # of the run folder, what Hydra is about to write over

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            check(without_hydra(config))
            refuse_sweep_settings(config.hydra.overrides.task)
        except UserError as error:
            fail(str(error))  # Hydra turns exceptions of callbacks into warnings, but lets exits through
        Checks.before = hydra_record(Path(config.hydra.run.dir))


def task(cfg: DictConfig) -> float | None:
    """What Hydra calls for each job: run it, return ``val/neg_elbo`` (NaN if it did not come so far)."""
    see_working_folder()
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if hydra.mode == RunMode.RUN:
        return run_alone(cfg, folder, chosen(hydra), list(hydra.overrides.task))
    from gsvae.sweep.job import run_job

    check(cfg)
    return run_job(cfg, folder, chosen(hydra), list(hydra.overrides.task))


def run_alone(cfg: DictConfig, folder: Path, choices: dict[str, str], overrides: list[str]) -> float | None:
    """A run of its own: its end is the process's."""
    from gsvae.experiment import Member, run_experiment
    from gsvae.tracking.wandb_service import agents_sweep
    from gsvae.training.interrupt import Interrupted

    try:
        check(cfg)
        with Claim(folder) as claim:
            outcome = run_experiment(Member(cfg, folder, choices, overrides, claim.check))
    except (UserError, BusyError) as error:
        put_back(folder, Checks.before)
        fail(f"{folder}: {error}" if isinstance(error, BusyError) else str(error))
    except Interrupted as stop:
        log.warning("%s. Go on with: python run.py resume=%s", stop, folder)
        # An agent takes any other code for a failure, and gives up after a few: runs ended early would end it.
        sys.exit(0 if agents_sweep() else SIGNALLED + stop.signum)
    except KeyboardInterrupt:  # a second Ctrl-C, or one before training began
        log.warning("stopped at once by SIGINT. Go on with: python run.py resume=%s", folder)
        sys.exit(SIGNALLED + signal.SIGINT)
    except ClaimLost as lost:
        fail(str(lost))
    if outcome["state"] == "diverged":
        log.error("diverged: %s", outcome["error"])
        sys.exit(DIVERGED)
    return outcome["metrics"].get("val/neg_elbo")


def refuse_sweep_settings(overrides: list[str]) -> None:
    """Raise a UserError for settings that do nothing without a sweep."""
    for override in overrides:
        if override.startswith("sweep."):
            raise UserError(f"{override}: only in a sweep: python run.py -m ...")


def main(hydra_main: Callable[[], None]) -> None:
    """Run Hydra's main on this process's arguments."""
    if {"-h", "--help"} & set(sys.argv[1:]):  # Hydra lists every group first, for a second, and shows none of it
        print(OmegaConf.load(CONF / "hydra" / "help" / "gsvae.yaml").template, end="")
        return
    see_working_folder()
    register()
    wants_traceback = "HYDRA_FULL_ERROR" in os.environ
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then leaves exceptions to us
    try:
        check_flags(sys.argv[1:])
        sys.argv[1:] = expand(sys.argv[1:])
        hydra_main()
    except UserError as error:
        fail(str(error))
    except Exception as error:
        if wants_traceback or not is_mistake(error, task):
            raise
        fail(explain(error, sys.argv[1:]))


def check_flags(arguments: list[str]) -> None:
    """Refuse flags that Hydra would refuse with its whole usage, or with a traceback."""
    parser = get_args_parser()
    parser.error = lambda message: fail(f"{message}; flags such as -m come before the settings")  # type: ignore[method-assign]
    flags = parser.parse_args(arguments)
    if flags.resolve and not flags.cfg:
        fail("--resolve: only together with --cfg job")


def see_working_folder() -> None:
    """Let ``_target_`` name the user's own modules, in workers as well."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def own_settings(root: DictConfig) -> DictConfig:
    """The config without Hydra's part."""
    return OmegaConf.create({key: root[key] for key in Config.__dataclass_fields__ if key in root})


def chosen(hydra: Any) -> dict[str, str]:
    """Which option of each group was chosen, for a run's name."""
    return {str(group): str(option) for group, option in hydra.runtime.choices.items()}


def fail(message: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(USAGE)


# ---------------------------------------------------------------- a refused run leaves no trace


def hydra_record(folder: Path) -> dict[str, bytes]:
    """The files of a run folder that tell whether it was begun, and with which settings."""
    files = [path for path in (*folder.glob(".hydra/*"), folder / "status.json") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def put_back(folder: Path, before: dict[str, bytes]) -> None:
    """Undo what Hydra did to the folder of a run that was refused before it began."""
    if hydra_record(folder).get("status.json") != before.get("status.json"):
        return  # it did begin
    for name, content in before.items():
        (folder / name).write_bytes(content)
    if before:
        return
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()  # run.log
    shutil.rmtree(folder / ".hydra", ignore_errors=True)
    (folder / "run.log").unlink(missing_ok=True)
    try:
        folder.rmdir()
        folder.parent.rmdir()  # the day's, where this was its only run
    except OSError:
        pass  # there was something in it


# ---------------------------------------------------------------- also in the processes that launchers start

OmegaConf.register_new_resolver("run_id", lambda *, _root_: run_id(own_settings(_root_)), replace=True)
OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_, chosen(_root_.hydra)), replace=True)
# Hydra's launchers bring schemas called as our YAML files are. They are meant to be matched.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
