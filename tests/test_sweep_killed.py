"""A sweep killed again and again, and a sweep driven by two at once: nothing lost, nothing twice.

``python -m pytest tests/test_sweep_killed.py`` is the repeatable check of both.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from command_line import run_py
from sweeping import QUICK, finish, numbers, runs, start, states, status

GRID = [*QUICK, "training.epochs=80", "evaluation.every=20", "data.binarize=dynamic", "tau.init=0.5,1.0,2.0",
        "seed=0,1", "training.checkpoint_seconds=0.2"]  # fmt: skip
KILLS = 10


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("undisturbed")
    before = os.getcwd()
    os.chdir(here)
    try:
        done = run_py("-m", *GRID, "sweep.name=whole")
    finally:
        os.chdir(before)
    assert done.code == 0, done.err
    return here / "multirun" / "whole"


def attempts(run: Path) -> int:
    """How often a process began to train the run, or went on with it."""
    return (run / "run.log").read_text().count(f"Run {run.name}")


@pytest.mark.slow
def test_killed_ten_times_at_random_moments_and_started_again_until_done(undisturbed, tmp_path):
    dice = random.Random(os.environ.get("GSVAE_KILL_SEED", "1"))
    command = ["-m", *GRID, "sweep.name=killed", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    folder = tmp_path / "multirun" / "killed"
    in_training = 0
    for kill in range(KILLS):
        process = start(tmp_path, *command)
        if kill % 2:  # startup takes most of the time; half of the kills shall hit training
            began = dict(states(folder)) if folder.exists() else {}
            deadline = time.monotonic() + 30
            while (dict(states(folder)) if folder.exists() else {}) == began and time.monotonic() < deadline:
                if process.poll() is not None:
                    break
                time.sleep(0.02)
            time.sleep(dice.uniform(0, 2))
        else:
            time.sleep(dice.uniform(0.5, 8))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        in_training += "running" in states(folder).values() if folder.exists() else 0
    code, out = finish(start(tmp_path, *command))
    assert code == 0, out
    assert states(folder) == dict.fromkeys(states(undisturbed), "finished")
    assert numbers(folder) == numbers(undisturbed)
    said = (folder / "sweep.log").read_text()
    for run in runs(folder):
        assert said.count(f"{run.replace('-', '=').replace('_', ' ')}: finished") <= 1
    assert not list(folder.glob("*/claim.*"))
    assert not list(folder.glob("**/*.tmp"))
    assert in_training >= 3
    assert any("resuming" in (run / "run.log").read_text() for run in runs(folder).values())


@pytest.mark.slow
def test_two_processes_on_one_sweep_share_its_runs(undisturbed, tmp_path):
    command = ["-m", *GRID, "sweep.name=raced"]
    drivers = [start(tmp_path, *command) for _ in range(2)]
    ends = [finish(driver) for driver in drivers]
    assert [code for code, _ in ends] == [0, 0], ends
    folder = tmp_path / "multirun" / "raced"
    assert states(folder) == dict.fromkeys(states(undisturbed), "finished")
    assert {name: attempts(run) for name, run in runs(folder).items()} == dict.fromkeys(states(undisturbed), 1)
    assert len({status(run)["pid"] for run in runs(folder).values()}) == 2  # each has trained some
    assert numbers(folder) == numbers(undisturbed)
