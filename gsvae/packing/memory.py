"""How many runs memory bears, measured by training one for a step."""

import tempfile
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from gsvae.parts import build_objective, count_steps, make_lane, make_run, shared_parts
from gsvae.training.lane import Lane

__all__ = ["Memory", "measure"]

SHARE = 0.8  # of the free memory that the runs may take


class Memory:
    """What a run takes and what there is, bytes."""

    def __init__(self, per_run: int, free: int) -> None:
        self.per_run, self.free = per_run, free

    @property
    def most(self) -> int:
        """Runs that fit."""
        return max(1, int(SHARE * self.free / max(self.per_run, 1)))

    def __str__(self) -> str:
        return f"memory: {self.per_run / 2**20:.0f} MiB a run, {self.free / 2**30:.1f} GiB free"


def measure(cfg: DictConfig) -> Memory:
    """Measure a run of these settings on its device.

    Raises:
        UserError: settings or files that cannot work.
    """
    device, data, splits = shared_parts(cfg)
    quiet = OmegaConf.merge(cfg, {"tracking": {"mode": "disabled"}})
    assert isinstance(quiet, DictConfig)

    def lane(n: int) -> Lane:
        objectives = [build_objective(quiet, data, splits, device) for _ in range(n)]
        with tempfile.TemporaryDirectory() as folder:
            total = count_steps(quiet, splits)
            runs = [make_run(quiet, Path(folder) / str(i), {}, device, total, None) for i in range(n)]
        made = make_lane(quiet, objectives, runs, splits)
        made.advance(0, 1)
        return made

    if device.type == "cuda":
        peaks = []
        for n in (1, 2):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            lane(n)
            peaks.append(torch.cuda.max_memory_allocated(device))
        torch.cuda.empty_cache()
        return Memory(peaks[1] - peaks[0], torch.cuda.mem_get_info(device)[0])
    return Memory(lane(1).nbytes, free_memory())


def free_memory() -> int:
    """Memory that this process can still get, bytes: the machine's, or its control group's if that is less."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text(), (group / "memory.current").read_text()
        free = min(free, int(limit) - int(used))
    except (OSError, ValueError):  # no such group, or "max"
        pass
    return max(free, 0)
