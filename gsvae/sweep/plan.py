"""A sweep's jobs, each composed and checked before the first is run, and what they are called."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from gsvae.config import check, without_hydra
from gsvae.errors import UserError
from gsvae.explain import explain, is_mistake
from gsvae.identity import run_id
from gsvae.overrides import key_of
from gsvae.tracking.wandb_service import check_login

__all__ = ["Job", "plan"]

LONGEST = 120  # characters of a folder's name before the id
MANY = 40  # runs that take seconds to compose


@dataclass
class Job:
    """One run of a sweep.

    Attributes:
        id: the run's id.
        overrides: what was asked for, for this run.
        label: the settings that differ from run to run, ``tau.init=0.5 seed=0``.
        folder: the run folder's name.
        named, grouped: whether the user gave W&B names for the run and its group.
        threads, device: as the settings have them.
        more: further overrides that change nothing of the run.
    """

    id: str
    overrides: list[str]
    label: str
    folder: str
    named: bool
    grouped: bool
    threads: int | None
    device: str
    more: list[str] = field(default_factory=list)


def plan(
    points: Sequence[Sequence[str]], config_loader: Any, master: DictConfig, varying: set[str] | None = None
) -> list[Job]:
    """Compose, check and name a job for every point; points that come to the same run are one job.

    Args:
        points: overrides.
        config_loader: Hydra's.
        master: Hydra's config of the whole sweep.
        varying: the keys to name runs by; None: those that differ between the points.

    Raises:
        UserError: of a point that cannot be run; the message names key, value and what is allowed.
    """
    varying = keys_that_vary(points) if varying is None else varying
    if len(points) > MANY:
        print(f"checking {len(points)} runs", flush=True)
    jobs: dict[str, Job] = {}
    for point in points:
        cfg = compose(point, config_loader, master)
        identity = run_id(cfg)
        shown = [(key_of(o), o.partition("=")[2]) for o in point if key_of(o) in varying]
        label = " ".join(f"{key}={short(value)}" for key, value in shown)
        job = Job(
            id=identity,
            overrides=list(point),
            label=label or identity,
            folder=folder_name(shown, identity),
            named=cfg.tracking.name is not None,
            grouped=cfg.tracking.group is not None,
            threads=cfg.training.threads,
            device=cfg.device,
        )
        jobs.setdefault(identity, job)
    return list(jobs.values())


def compose(point: Sequence[str], config_loader: Any, master: DictConfig) -> DictConfig:
    """The checked config of one point."""
    try:
        composed = config_loader.load_sweep_config(master, list(point))
    except Exception as error:
        if not is_mistake(error):
            raise
        raise UserError(explain(error, point)) from error
    cfg = without_hydra(composed)
    check(cfg)
    check_login(cfg.tracking.mode)
    if cfg.resume:
        raise UserError(f"resume={cfg.resume}: goes on with one run; a sweep goes on by its sweep.name")
    return cfg


def short(value: str) -> str:
    """A number of more digits than anyone reads, with six."""
    try:
        return f"{float(value):.6g}" if len(value) > 8 else value
    except ValueError:
        return value


def keys_that_vary(points: Sequence[Sequence[str]]) -> set[str]:
    """The keys that do not have the same value at all points."""
    values: dict[str, set[str]] = {}
    for point in points:
        for override in point:
            values.setdefault(key_of(override), set()).add(override.partition("=")[2])
    return {key for key, found in values.items() if len(found) > 1}


def folder_name(shown: Sequence[tuple[str, str]], identity: str) -> str:
    """``tau.init-0.5_seed-0_1f0c9a2e``: safe on any file system; the id tells names apart that look the same."""
    parts = [re.sub(r"[^A-Za-z0-9.+-]+", "-", f"{key}-{short(value)}").strip("-") for key, value in shown]
    return "_".join([*filter(None, ["_".join(parts)[:LONGEST].strip("_")]), identity])
