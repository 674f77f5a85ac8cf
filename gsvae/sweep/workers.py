"""How many runs go on at a time, and what of the machine each of them gets."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gsvae.errors import UserError
from gsvae.sweep.plan import Job

__all__ = ["count_workers", "shares"]


def count_workers(launcher: Mapping[str, Any]) -> int | None:
    """Runs at a time on this machine, from the settings of Hydra's launcher; None where others decide.

    Raises:
        UserError: the settings allow none.
    """
    kind = str(launcher["_target_"]).rpartition(".")[2]
    if kind == "BasicLauncher":
        return 1
    if kind == "JoblibLauncher":
        from joblib import effective_n_jobs

        if launcher["n_jobs"] == 0:
            raise UserError("hydra.launcher.n_jobs=0: must be 1 or more, or -1 for as many as there are cores")
        return int(effective_n_jobs(launcher["n_jobs"]))
    if kind == "LocalLauncher":
        return max(1, cores() // (launcher.get("cpus_per_task") or 1))
    if kind in ("PackedLauncher", "PackedSlurmLauncher"):
        check_packs(launcher)
    if kind == "PackedLauncher":
        return len(pack_devices(launcher))
    return None


def check_packs(launcher: Mapping[str, Any]) -> None:
    """Raise a UserError where no pack could be made."""
    most, devices = launcher["max_runs"], launcher.get("devices")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise UserError(f"hydra.launcher.max_runs={most}: must be a whole number, at least 1")
    plain = list(devices) if isinstance(devices, Sequence) and not isinstance(devices, str) else devices
    named = isinstance(plain, list) and plain and all(re.fullmatch(r"cpu|mps|cuda(:\d+)?", str(d)) for d in plain)
    if plain is not None and not named:
        raise UserError(f"hydra.launcher.devices={plain}: must be null or a list such as [cuda:0,cuda:1] or [cpu,cpu]")


def pack_devices(launcher: Mapping[str, Any]) -> list[str | None]:
    """The devices that packs are trained on at the same time; None is whatever the runs' settings say."""
    if launcher["devices"]:
        return list(launcher["devices"])
    gpus = count_gpus()
    return [f"cuda:{index}" for index in range(gpus)] if gpus > 1 else [None]


def batch_size(launcher: Mapping[str, Any]) -> int:
    """Trials that a search asks for at a time: a pack, or as many as run at once."""
    if "max_runs" in launcher:
        return int(launcher["max_runs"])
    return count_workers(launcher) or int(launcher.get("array_parallelism") or 1)


def shares(jobs: Sequence[Job], launcher: Mapping[str, Any]) -> list[list[str]]:
    """Overrides that give each job its part of the machine, where the user left that open.

    Processes which share cores slow each other down many times over unless they share out the threads; GPUs are
    dealt one after another.
    """
    workers = count_workers(launcher)
    threads = launcher.get("cpus_per_task")
    if workers is not None and workers > 1:
        threads = max(1, cores() // workers)
    gpus = count_gpus() if workers is not None and workers > 1 and "max_runs" not in launcher else 0
    given: list[list[str]] = []
    for number, job in enumerate(jobs):
        share = []
        if threads and job.threads is None:
            share.append(f"training.threads={threads}")
        if gpus > 1 and job.device in ("auto", "cuda"):
            share.append(f"device=cuda:{number % gpus}")
        given.append(share)
    return given


def cores() -> int:
    """The cores this process may use."""
    from joblib import cpu_count

    return int(cpu_count())


def count_gpus() -> int:
    """CUDA devices that torch will see; asks torch only where there is a driver, for importing it takes seconds."""
    if not any(Path(driver).exists() for driver in ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg")):
        return 0
    import torch

    return torch.cuda.device_count()
