"""``resume=PATH`` on the command line: the settings the run was started with, under those given now."""

import json
from pathlib import Path

from omegaconf import OmegaConf

from gsvae.errors import UserError

__all__ = ["expand", "key_of", "run_folder_of"]


def run_folder_of(path: str) -> Path:
    """The run folder that ``resume=`` names by itself or by a checkpoint in it.

    Raises:
        UserError: there is none.
    """
    given = Path(path)
    folder = given.parent.parent if given.suffix == ".pt" else given
    if not (folder / "checkpoints").is_dir() or not (folder / ".hydra" / "overrides.yaml").is_file():
        raise UserError(f"resume={path}: expected a run folder with checkpoints/, or a checkpoint in one")
    return folder


def expand(arguments: list[str]) -> list[str]:
    """Turn ``resume=PATH`` into the settings the run was started with, under those given now, in its own folder.

    Raises:
        UserError: there is no such run, or this is a sweep.
    """
    given = [a.split("=", 1)[1].strip("'\"") for a in arguments if a.startswith("resume=")]
    if not given or given[-1] in ("null", ""):
        return arguments
    if {"-m", "--multirun"} & set(arguments):
        raise UserError(f"resume={given[-1]}: goes on with one run; leave out -m")
    folder = run_folder_of(given[-1])
    now = {key_of(a) for a in arguments} | {"resume"}
    kept = [o for o in recorded(folder) if key_of(o) not in now]
    quoted = str(folder).replace("'", "\\'")
    return [*kept, *arguments, f"hydra.run.dir='{quoted}'"]


def recorded(folder: Path) -> list[str]:
    """The settings a run was last started with; Hydra's own record also has those that were then refused."""
    try:
        return list(json.loads((folder / "status.json").read_text())["overrides"])
    except (OSError, ValueError, KeyError):
        return [str(o) for o in OmegaConf.load(folder / ".hydra" / "overrides.yaml")]


def key_of(override: str) -> str:
    """The key an override sets, without its prefixes."""
    return override.split("=", 1)[0].lstrip("+~")
