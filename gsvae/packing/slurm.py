"""Packs as the jobs of a Slurm array, by way of Hydra's submitit launcher, which takes a list of words per job."""

from collections.abc import Iterable, Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, setup_globals
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from omegaconf import OmegaConf

from gsvae.packing.launch import Numbered, fitting, in_new_process, plan

__all__ = ["PackArray", "launch"]

NEXT = "--"  # stands between the overrides of a pack's jobs


class PackArray(SlurmLauncher):
    """Submitit's launcher, each of whose jobs is a pack."""

    def __call__(
        self, sweep_overrides: list[str], job_dir_key: str, job_num: int, job_id: str, singleton_state: dict[Any, Any]
    ) -> list[JobReturn]:
        """Train the pack, on the node."""
        Singleton.set_state(singleton_state)
        setup_globals()
        pack = list(numbered(sweep_overrides))
        parts = fitting(self.hydra_context, self.config, pack)
        returns = in_new_process(self.hydra_context, self.config, parts, None, singleton_state)
        return [returns[number] for number, _ in pack]


def launch(launcher: Any, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
    """What Hydra asks of a launcher; its settings are in ``conf/hydra/launcher/packed_slurm.yaml``."""
    setup_globals()
    jobs = list(enumerate(job_overrides, initial_job_idx))
    _, packs = plan(launcher.hydra_context, launcher.config, jobs, 1, measured=False)
    given: Any = OmegaConf.to_container(launcher.config.hydra.launcher, resolve=True)
    array = PackArray(**{key: value for key, value in given.items() if key not in ("_target_", "max_runs")})
    array.setup(hydra_context=launcher.hydra_context, task_function=launcher.task_function, config=launcher.config)
    members = [[jobs[i] for i in pack.jobs] for pack in packs]
    found = array.launch([list(as_words(pack)) for pack in members], initial_job_idx)
    returns = {
        number: returned
        for pack, of_pack in zip(members, found, strict=True)
        for (number, _), returned in zip(pack, of_pack, strict=True)
    }
    return [returns[number] for number, _ in jobs]


def as_words(pack: Iterable[Numbered]) -> Iterable[str]:
    """The pack as one job's overrides: each job's number and overrides, and a mark behind them."""
    for number, overrides in pack:
        yield from (str(number), *overrides, NEXT)


def numbered(words: Iterable[str]) -> Iterable[Numbered]:
    """The jobs of a pack again."""
    job: list[str] = []
    for word in words:
        if word == NEXT:
            yield int(job[0]), job[1:]
            job = []
        else:
            job.append(word)
