"""Hydra's batch of jobs as packs: planned, said, trained, one pack after another on each device."""

import os
from collections.abc import Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from gsvae.cli import see_working_folder, task
from gsvae.errors import UserError
from gsvae.packing.hydra_job import HydraJob, routed
from gsvae.packing.partition import Cut, cut, partition, shared_settings
from gsvae.sweep.folder import SweepFolder
from gsvae.sweep.job import run_jobs
from gsvae.sweep.token import TRIAL, VARIABLE
from gsvae.sweep.words import Words
from gsvae.sweep.workers import pack_devices

__all__ = ["fitting", "in_new_process", "launch", "plan"]

Numbered = tuple[int, Sequence[str]]  # a job's number and overrides


def launch(launcher: Any, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
    """What Hydra asks of a launcher; its settings are in ``conf/hydra/launcher/packed.yaml``."""
    setup_globals()
    context, config = launcher.hydra_context, launcher.config
    numbered = list(enumerate(job_overrides, initial_job_idx))
    devices = pack_devices(config.hydra.launcher)
    jobs, packs = plan(context, config, numbered, len(devices), measured=True)
    if devices == [None]:
        see_working_folder()
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        returns = train_packs([[jobs[i] for i in pack.jobs] for pack in packs])
    else:
        n = len(devices)
        shares = [[[numbered[i] for i in pack.jobs] for pack in packs[place::n]] for place in range(n)]
        returns = in_processes(context, config, shares, devices)
    return [returns[number] for number, _ in numbered]


def plan(
    context: HydraContext, config: DictConfig, numbered: Sequence[Numbered], n_devices: int, *, measured: bool
) -> tuple[list[HydraJob], list[Cut]]:
    """Cut the jobs into packs and say which they are, and why no job joined another's.

    Args:
        n_devices: packs to make at least, where there are runs enough.
        measured: whether memory is looked at here, where the runs will be trained.
    """
    jobs = [HydraJob(context, config, overrides, number) for number, overrides in numbered]
    most = config.hydra.launcher.max_runs
    packs: list[Cut] = []
    for whole in partition([shared(job) for job in jobs]):
        parts = cut(whole, most, f"at most {most} at a time (hydra.launcher.max_runs)", n_devices)
        packs += within_memory(parts, jobs) if measured else parts
    folder = SweepFolder(jobs[0].folder.parent)
    folder.path.mkdir(parents=True, exist_ok=True)
    Words(folder.path / "sweep.log").say(in_words(packs))
    return jobs, packs


def within_memory(parts: Sequence[Cut], jobs: Sequence[HydraJob]) -> list[Cut]:
    """Packs of one kind, cut further where memory does not bear them."""
    if all(len(part.jobs) == 1 for part in parts):
        return list(parts)
    from gsvae.packing.memory import measure

    try:
        memory = measure(jobs[parts[0].jobs[0]].cfg)
    except UserError:  # files that are not there: for the runs to say
        return list(parts)
    return [piece for part in parts for piece in cut(part, memory.most, f"at most {memory.most} ({memory})")]


def fitting(context: HydraContext, config: DictConfig, pack: Sequence[Numbered]) -> list[list[Numbered]]:
    """A pack that was planned elsewhere, cut to the memory here."""
    jobs = [HydraJob(context, config, overrides, number) for number, overrides in pack]
    whole = Cut(list(range(len(jobs))), {})
    return [[pack[i] for i in part.jobs] for part in within_memory([whole], jobs)]


def shared(job: HydraJob) -> dict[str, Any]:
    """What all jobs of a pack must have: settings, and environment variables but ours."""
    plain: Any = OmegaConf.to_container(job.cfg, resolve=True)
    told = {f"hydra.job.env_set.{k}": v for k, v in job.config.hydra.job.env_set.items() if k not in (VARIABLE, TRIAL)}
    return shared_settings(plain) | told


def in_words(packs: Sequence[Cut]) -> str:
    """A line per pack."""
    total = sum(len(pack.jobs) for pack in packs)
    lines = [f"{total} runs in {len(packs)} pack{'s' if len(packs) > 1 else ''}"]
    for number, pack in enumerate(packs, 1):
        why = "; ".join([*filter(None, [pack.why]), *pack.limits])
        runs = f"{len(pack.jobs)} run{'s' if len(pack.jobs) > 1 else ''}"
        lines.append(f"  pack {number}: {runs}" + (f" ({why})" if why else ""))
    return "\n".join(lines)


def in_processes(
    context: HydraContext, config: DictConfig, shares: Sequence[Sequence[Sequence[Numbered]]], devices: Sequence[Any]
) -> dict[int, JobReturn]:
    """A process for each device, with its share of the packs."""
    from joblib import Parallel, delayed

    state = Singleton.get_state()
    work = [(share, device) for share, device in zip(shares, devices, strict=True) if share]
    found = Parallel(n_jobs=len(work), backend="loky")(
        delayed(in_new_process)(context, config, share, device, state) for share, device in work
    )
    return {number: returned for each in found for number, returned in each.items()}


def in_new_process(
    context: HydraContext,
    config: DictConfig,
    packs: Sequence[Sequence[Numbered]],
    device: str | None,
    state: dict[Any, Any],
) -> dict[int, JobReturn]:
    """Train packs in a process that has just begun, on one device."""
    Singleton.set_state(state)
    setup_globals()
    see_working_folder()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    placed = [[(n, [*overrides, *placement(overrides, device)]) for n, overrides in pack] for pack in packs]
    return train_packs([[HydraJob(context, config, overrides, n) for n, overrides in pack] for pack in placed])


def placement(overrides: Sequence[str], device: str | None) -> list[str]:
    """The device of the pack, unless the user chose one."""
    chosen = any(override.startswith("device=") for override in overrides)
    return [] if device is None or chosen else [f"device={device}"]


def train_packs(packs: Sequence[Sequence[HydraJob]]) -> dict[int, JobReturn]:
    """Train packs one after another in this process; how each job ended, by its number."""
    returns: dict[int, JobReturn] = {}
    for jobs in packs:
        returns |= train_pack(jobs)
    return returns


def train_pack(jobs: Sequence[HydraJob]) -> dict[int, JobReturn]:
    """Train the runs of one pack."""
    with routed(jobs):
        members = [job.begin(task) for job in jobs]
        before = dict(os.environ)
        os.environ.update({k: v for k, v in members[0].told.items() if k != TRIAL})
        try:
            if fit := [member for member in members if member.error is None]:
                run_jobs(fit)
        finally:
            os.environ.clear()
            os.environ.update(before)
        return {job.config.hydra.job.num: job.end(member) for job, member in zip(jobs, members, strict=True)}
