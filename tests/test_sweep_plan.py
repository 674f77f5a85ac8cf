"""What a sweep is made of: its points, its jobs' names and folders, all known and checked before the first run."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from command_line import run_py

from gsvae.errors import UserError
from gsvae.sweep.folder import SweepFolder
from gsvae.sweep.grid import points
from gsvae.sweep.plan import folder_name, keys_that_vary
from gsvae.sweep.workers import count_workers, shares

# ---------------------------------------------------------------- points


@pytest.mark.parametrize(
    ("arguments", "zipped", "expected"),
    [
        (["a=1", "b=x"], [], ["a=1 b=x"]),
        (["a=1,2", "b=x,y"], [], ["a=1 b=x", "a=1 b=y", "a=2 b=x", "a=2 b=y"]),
        (["a=range(1,4)"], [], ["a=1", "a=2", "a=3"]),
        (["a=choice(0.5,1e-3)"], [], ["a=0.5", "a=0.001"]),
        (["a=[1,2],[3]"], [], ["a=[1,2]", "a=[3]"]),
        (["a='x,y'"], [], ["a='x,y'"]),
        (["a=1,2", "a=3"], [], ["a=3"]),
        (["+a=1,2"], [], ["+a=1", "+a=2"]),
        (["a=1,2", "b=x,y"], ["a", "b"], ["a=1 b=x", "a=2 b=y"]),
        (["c=0,1", "a=1,2", "d=5", "b=x,y"], ["b", "a"], [
            "c=0 a=1 b=x d=5", "c=0 a=2 b=y d=5", "c=1 a=1 b=x d=5", "c=1 a=2 b=y d=5"
        ]),
    ],
)  # fmt: skip
def test_points(arguments, zipped, expected):
    assert [" ".join(point) for point in points(arguments, zipped)] == expected


@pytest.mark.parametrize(
    ("arguments", "zipped", "words"),
    [
        (["a=interval(0,1)"], [], r"a=interval\(0,1\): .*hydra/sweeper=optuna"),
        (["a=1,2,3", "b=1,2"], ["a", "b"], r"sweep.zip=\[a,b\]: .*a has 3, b has 2"),
        (["a=1,2"], ["a", "b"], r"sweep.zip=\[a,b\]: b has no values"),
        (["a=range(0)", "b=1"], [], r"a=range\(0\): has no value"),
        (["a=1,2"], ["a"], r"sweep.zip=\[a\]: expected two or more"),
    ],
)
def test_points_that_cannot_be_counted(arguments, zipped, words):
    with pytest.raises(UserError, match=words):
        points(arguments, zipped)


# ---------------------------------------------------------------- names


def test_names_show_what_varies():
    assert keys_that_vary([["a=1", "b=2", "c=3"], ["a=1", "b=3", "c=3"]]) == {"b"}


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ([("tau.init", "0.5"), ("seed", "0")], "tau.init-0.5_seed-0_1f0c9a2e"),
        ([("model.hidden", "[64,32]")], "model.hidden--64-32_1f0c9a2e"),
        ([("data.root", "'/a b/c,d=e'")], "data.root--a-b-c-d-e_1f0c9a2e"),
        ([("x", "../../etc")], "x-..-..-etc_1f0c9a2e"),
        ([("x", "ö" * 3)], "x_1f0c9a2e"),
        ([], "1f0c9a2e"),
    ],
)
def test_folder_names_are_safe(shown, name):
    assert folder_name(shown, "1f0c9a2e") == name


def test_folder_names_are_never_too_long():
    name = folder_name([("x", "9" * 500)], "1f0c9a2e")
    assert len(name) < 150
    assert name.endswith("_1f0c9a2e")


def make_one(parent: Path, found: "multiprocessing.Queue[str]", barrier: "multiprocessing.Barrier") -> None:  # type: ignore[valid-type]
    barrier.wait()
    for _ in range(5):
        found.put(SweepFolder.make(parent, None).name)


def test_sweeps_begun_in_the_same_second_never_share_a_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    found, barrier = context.Queue(), context.Barrier(3)
    makers = [context.Process(target=make_one, args=(tmp_path, found, barrier)) for _ in range(3)]
    for maker in makers:
        maker.start()
    names = [found.get(timeout=60) for _ in range(15)]
    for maker in makers:
        maker.join()
    assert len(set(names)) == 15
    assert len({name[:19] for name in names}) < 15  # some did begin in the same second


@pytest.mark.parametrize("name", ["a/b", "..", "a b", "-a", ""])
def test_a_sweeps_name_is_a_folders(name, tmp_path):
    with pytest.raises(UserError, match=r"^sweep\.name="):
        SweepFolder.make(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_a_run_keeps_its_folder_when_the_grid_is_extended(tmp_path):
    sweep = SweepFolder.make(tmp_path, "s")
    assert sweep.record("one", {"1f0c9a2e": {"folder": "tau-1_1f0c9a2e"}}) == {"1f0c9a2e": "tau-1_1f0c9a2e"}
    names = sweep.record("two", {"1f0c9a2e": {"folder": "tau-1_lr-2_1f0c9a2e"}, "00000000": {"folder": "00000000"}})
    assert names == {"1f0c9a2e": "tau-1_1f0c9a2e", "00000000": "00000000"}


# ---------------------------------------------------------------- shares of the machine


class Asked:
    def __init__(self, threads=None, device="auto"):
        self.threads, self.device = threads, device


JOBLIB = {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": 2}
BASIC = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
SLURM = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", "cpus_per_task": 3}


@pytest.mark.parametrize(
    ("launcher", "gpus", "expected"),
    [
        (JOBLIB, 0, ["training.threads=4", "", "training.threads=4", "training.threads=4"]),
        (JOBLIB, 1, ["training.threads=4", "", "training.threads=4", "training.threads=4"]),
        (JOBLIB, 2, ["training.threads=4 device=cuda:0", "device=cuda:1", "training.threads=4 device=cuda:0",
                     "training.threads=4"]),
        (BASIC, 2, ["", "", "", ""]),
        (SLURM, 2, ["training.threads=3", "", "training.threads=3", "training.threads=3"]),
    ],
)  # fmt: skip
def test_each_job_gets_its_share_unless_it_has_its_own(launcher, gpus, expected, monkeypatch):
    monkeypatch.setattr("gsvae.sweep.workers.cores", lambda: 8)
    monkeypatch.setattr("gsvae.sweep.workers.count_gpus", lambda: gpus)
    jobs = [Asked(), Asked(threads=1), Asked(), Asked(device="cpu")]
    assert [" ".join(share) for share in shares(jobs, launcher)] == expected


def test_workers(monkeypatch):
    assert (count_workers(BASIC), count_workers(JOBLIB), count_workers(SLURM)) == (1, 2, None)
    import joblib

    assert count_workers(JOBLIB | {"n_jobs": -1}) == joblib.cpu_count()


# ---------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "tau.init=1,-1"], ["tau.init=-1", "must be above 0"]),
        (["-m", "tau.init=1,x"], ["tau.init=x", "expected a number"]),
        (["-m", "tau.inti=1,2"], ["tau.inti=1", "did you mean tau.init?"]),
        (["-m", "sampling=soft,hrad"], ["sampling=hrad", "did you mean hard?"]),
        (["-m", "sweep.nmae=x"], ["sweep.nmae=x", "did you mean sweep.name?"]),
        (["-m", "sweep.name=a/b", "seed=0,1"], ["sweep.name=a/b", "letters"]),
        (["-m", "sweep.zip=[seed,tau.init]", "seed=0,1", "tau.init=1"], ["seed has 2, tau.init has 1"]),
        (["-m", "optim.lr=interval(0,1)"], ["optim.lr=interval(0,1)", "hydra/sweeper=optuna"]),
        (["-m", "hydra/launcher=joblob", "seed=0,1"], ["hydra/launcher=joblob", "did you mean joblib?"]),
        (["sweep.name=x"], ["sweep.name=x", "only in a sweep"]),
        (["device=cuda:x"], ["device=cuda:x", "allowed are"]),
    ],
)
def test_a_mistake_in_any_job_ends_the_sweep_before_it_begins(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_py(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert [word for word in words if word not in done.err] == []
    assert not list(tmp_path.iterdir())


def test_what_dead_writers_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    left, fresh = tmp_path / ".comparison.html.77.tmp", tmp_path / ".summary.csv.78.tmp"
    for path in (left, fresh):
        path.touch()
    os.utime(left, (time.time() - 60,) * 2)
    SweepFolder(tmp_path).clear_torn()
    assert [path.name for path in tmp_path.glob(".*.tmp")] == [fresh.name]
