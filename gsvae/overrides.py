"""``resume=PATH`` on the command line: the settings the run was started with, under those given now."""

from pathlib import Path

from omegaconf import OmegaConf

from gsvae.errors import UserError

__all__ = ["expand", "run_folder_of"]


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


def expand(overrides: list[str]) -> list[str]:
    """Turn ``resume=PATH`` into the settings the run was started with, under those given now, in its own folder."""
    given = [o.split("=", 1)[1] for o in overrides if o.startswith("resume=")]
    if not given or given[-1] in ("null", ""):
        return overrides
    folder = run_folder_of(given[-1].strip("'\""))
    recorded = list(OmegaConf.load(folder / ".hydra" / "overrides.yaml"))
    now = {key_of(o) for o in overrides}
    kept = [str(o) for o in recorded if key_of(str(o)) not in now and key_of(str(o)) != "resume"]
    quoted = str(folder).replace("'", "\\'")
    return [*kept, *overrides, f"hydra.run.dir='{quoted}'"]


def key_of(override: str) -> str:
    """The key an override sets, without its prefixes."""
    return override.split("=", 1)[0].lstrip("+~")
