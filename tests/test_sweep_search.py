"""A search as a sweep: its trials are runs; stopped and killed searches go on to the total asked for."""

import json
import os
import re
import shlex
import signal
import time

import optuna
import pytest
from command_line import run_py
from optuna.storages.journal import JournalFileBackend, JournalStorage
from sweeping import FAULTY, QUICK, faulty_module, finish, runs, start, states, status, summary

from gsvae.search.settings import NUMBERS

SEARCH = ["-m", "hydra/sweeper=optuna", *QUICK, "sweep.name=s"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faulty_module(tmp_path)
    return tmp_path


def trials(folder):
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name="s", storage=storage).trials


def test_a_search_goes_on_to_the_total_and_its_best_is_a_command(here):
    space = ["optim.lr=tag(log,interval(1e-4,1e-2))", "sampling=soft,hard"]
    folder = here / "multirun" / "s"
    assert run_py(*SEARCH, *space, "hydra.sweeper.n_trials=2").code == 0
    assert len(states(folder)) == 2
    done = run_py(*SEARCH, *space, "hydra.sweeper.n_trials=5")
    assert done.code == 0, done.err
    names = {name for name in summary(next(iter(runs(folder).values()))) if "/" in name or name == "seconds"}
    assert names - {"best/epoch", "best/step", "codes/kl_per_latent", "codes/usage"} <= set(NUMBERS)
    assert "Search s: 5 trials, 2 of them begun earlier" in done.out
    assert "(5 finished;" in done.out
    assert set(states(folder).values()) == {"finished"}
    found = trials(folder)
    assert [trial.number for trial in found] == list(range(5))
    by_score = {summary(run)["val/neg_elbo"]: status(run) for run in runs(folder).values()}
    assert sorted(by_score) == sorted(trial.value for trial in found)
    number, score, command = re.search(r"trial (\d): val/neg_elbo (\S+): (python run.py .*)", done.out).groups()
    assert float(score) == round(min(by_score), 2)
    assert found[int(number)].value == min(by_score)
    again = run_py(*shlex.split(command)[2:], "hydra.run.dir=again")
    assert again.code == 0, again.err
    assert summary(here / "again")["val/neg_elbo"] == min(by_score)


def test_trials_that_fall_behind_are_pruned(here):
    done = run_py(
        *SEARCH, "training.epochs=12", "optim.lr=1e-2,1e-7", "seed=range(0,3)", "hydra.sweeper.n_trials=6",
        "hydra.sweeper.sampler=grid", "hydra.sweeper.pruner=median",
        "hydra.sweeper.pruner_args={n_startup_trials:1,n_warmup_steps:3}",
    )  # fmt: skip
    assert done.code == 0, done.err
    ended = {(s["settings"]["optim.lr"], s["state"]) for s in map(status, runs(here / "multirun" / "s").values())}
    assert (1e-7, "pruned") in ended
    assert (1e-2, "finished") in ended
    pruned = [status(run) for run in runs(here / "multirun" / "s").values() if status(run)["state"] == "pruned"]
    assert all(0 < s["step"] < 12 * 13 for s in pruned)
    assert {trial.state.name for trial in trials(here / "multirun" / "s")} == {"COMPLETE", "PRUNED"}
    assert "pruned" in done.out


def test_a_grid_has_no_more_trials_than_points_and_earlier_failures_are_named(here):
    grid = [*SEARCH, *FAULTY, "+sampling.does=nothing,raise", "training.epochs=2", "hydra.sweeper.sampler=grid"]
    done = run_py(*grid)
    assert "Search s: 2 trials, 0 of them begun earlier" in done.out
    assert "[2/2]" in done.out
    again = run_py(*grid)
    for ended in (done, again):
        assert ended.code == 1
        assert "(1 finished, 1 failed;" in ended.out or "(1 failed, 1 finished;" in ended.out
        assert "sampling.does=raise: failed: RuntimeError: broken on purpose" in ended.out


def test_several_objectives(here):
    done = run_py(
        *SEARCH, "training.epochs=1", "model.n_latent=range(2,9,3)", "hydra.sweeper.sampler=nsga2", "seed=0",
        "hydra.sweeper.n_trials=3", "hydra.sweeper.objectives=[val/neg_elbo,val/kl]",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert all(len(trial.values) == 2 for trial in trials(here / "multirun" / "s"))
    assert re.search(r"trial \d: val/neg_elbo \S+, val/kl \S+: python run.py", done.out)


def test_a_failed_trial_is_one_and_the_search_goes_on(here):
    done = run_py(*SEARCH, *FAULTY, "+sampling.does=nothing,raise", "hydra.sweeper.sampler=grid")
    assert done.code == 1
    assert sorted(states(here / "multirun" / "s").values()) == ["failed", "finished"]
    assert sorted(trial.state.name for trial in trials(here / "multirun" / "s")) == ["COMPLETE", "FAIL"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tau.init=interval(-1,2)"], ["tau.init=-1: must be above 0"]),
        (["tau.inti=interval(1,2)"], ["tau.inti=1.0", "did you mean tau.init?"]),
        (["tau.init=interval(1,2)", "hydra.sweeper.sampler=tpee"], ["sampler=tpee", "did you mean tpe?"]),
        (["tau.init=interval(1,2)", "hydra.sweeper.sampler=grid"], ["sampler=grid", "range"]),
        (["tau.init=1"], ["nothing to search"]),
        (["tau.init=interval(1,2)", "hydra.sweeper.n_trails=3"], ["n_trails", "did you mean hydra.sweeper.n_trials?"]),
    ],
)
def test_a_mistake_costs_one_line(arguments, words, here):
    done = run_py(*SEARCH, *arguments)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert [word for word in words if word not in done.err] == []


@pytest.mark.slow
def test_a_search_killed_and_started_again_loses_no_trial(here):
    command = [*SEARCH, "training.epochs=40", "evaluation.every=10", "training.checkpoint_seconds=0.2",
               "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_trials=6",
               "optim.lr=tag(log,interval(1e-4,1e-2))"]  # fmt: skip
    folder = here / "multirun" / "s"
    for kill in range(3):
        process = start(here, *command)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (folder.exists() and "running" in states(folder).values()):
            time.sleep(0.05)
        time.sleep(0.5 * kill)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    code, out = finish(start(here, *command))
    assert code == 0, out
    found = trials(folder)
    assert [trial.state.name for trial in found if trial.params] == ["COMPLETE"] * 6
    assert set(states(folder).values()) == {"finished"}
    assert len(states(folder)) == 6
    scores = {json.loads((run / "summary.json").read_text())["val/neg_elbo"] for run in runs(folder).values()}
    assert {trial.value for trial in found if trial.params} == scores
