"""``hydra/launcher=packed``: every job ends as it would have alone, whatever happens to the others of its pack."""

import os
import signal
import time

import pytest
import torch
from command_line import run_py
from sweeping import FAULTY, QUICK, faulty_module, finish, history, numbers, runs, start, states, status, summary

from gsvae import experiment

GRID = ["tau.init=0.5,1.0", "optim.lr=1e-3,1e-2", "seed=0"]
PACKED = "hydra/launcher=packed"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faulty_module(tmp_path)
    return tmp_path


def sweep(*arguments):
    return run_py("-m", *QUICK, *arguments)


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def test_packed_jobs_end_as_one_after_another_in_folders_of_their_own(here):
    together = sweep(*GRID, PACKED, "sweep.name=together")
    assert together.code == 0, together.err
    assert "4 runs in 1 pack\n  pack 1: 4 runs" in together.out
    assert sweep(*GRID, "sweep.name=apart").code == 0
    ours, theirs = here / "multirun" / "together", here / "multirun" / "apart"
    assert numbers(ours) == numbers(theirs)
    for name, run in runs(ours).items():
        alone = runs(theirs)[name]
        assert sorted(p.relative_to(run) for p in run.rglob("*")) == sorted(
            p.relative_to(alone) for p in alone.rglob("*")
        )
        assert status(run)["settings"] == status(alone)["settings"]
        config = (run / ".hydra" / "config.yaml").read_text()
        assert config.replace("together", "apart") == (alone / ".hydra" / "config.yaml").read_text()
        log = (run / "run.log").read_text()
        assert log.count("Run folder:") == 1
        assert f"Run {run.name}" in log
    again = sweep(*GRID, PACKED, "sweep.name=together")
    assert "0 to do, 4 finished already" in again.out


def test_what_cannot_be_stacked_makes_packs_of_its_own_and_says_why(here):
    done = sweep("model.n_cat=3,4", "seed=0,1,2", "hydra.launcher.max_runs=2", PACKED, "sweep.name=s")
    assert done.code == 0, done.err
    assert "6 runs in 4 packs" in done.out
    assert "apart from the first with model.n_cat=4 (3); at most 2 at a time (hydra.launcher.max_runs)" in done.out
    assert set(states(here / "multirun" / "s").values()) == {"finished"}


def test_runs_that_fail_or_diverge_leave_the_others_to_the_last_bit(here):
    """The calls that fail are those of one run: each has a sampler of its own."""
    arguments = [*FAULTY, "optim=sgd", "optim.lr=0.01,1e30", "seed=0,1", "sweep.name=s"]
    done = sweep(*arguments, PACKED)
    assert done.code == 0, done.err
    folder = here / "multirun" / "s"
    assert set(states(folder).values()) == {"finished", "diverged"}
    assert sweep(*FAULTY, "optim=sgd", "optim.lr=0.01", "seed=0,1", "sweep.name=calm").code == 0
    calm = runs(here / "multirun" / "calm")
    for name, run in runs(folder).items():
        if status(run)["state"] == "finished":
            alone = calm[name.replace("optim.lr-0.01_", "")]
            assert (summary(run), history(run)) == (summary(alone), history(alone))
        else:
            assert "diverged: loss not finite at step" in (run / "run.log").read_text()


ONE_FAILS = ["sampling=custom", "sampling._target_=faulty.OneFails", "allow_targets=[faulty]", "tau.init=0.5,1.0,2.0"]


def test_a_failure_is_one_run_s_and_is_tried_again_when_asked(here):
    done = sweep(*ONE_FAILS, PACKED, "sweep.name=s")
    folder = here / "multirun" / "s"
    assert done.code == 1
    assert states(folder) == {"tau.init-0.5": "finished", "tau.init-1.0": "finished", "tau.init-2.0": "failed"}
    logs = {name: (run / "run.log").read_text() for name, run in runs(folder).items()}
    assert "RuntimeError: broken on purpose" in logs["tau.init-2.0"]
    assert "Traceback" in logs["tau.init-2.0"]
    assert not any("broken" in log for name, log in logs.items() if name != "tau.init-2.0")
    (here / "mended").touch()
    assert sweep(*ONE_FAILS, PACKED, "sweep.name=s", "sweep.retry_failed=true").code == 0
    assert set(states(folder).values()) == {"finished"}
    assert sweep(*ONE_FAILS, "sweep.name=t").code == 0
    assert numbers(folder) == numbers(here / "multirun" / "t")


def test_the_first_failure_stops_a_pack_where_that_is_asked_for(here):
    done = sweep(*ONE_FAILS, PACKED, "sweep.name=s", "sweep.fail_fast=true", "training.epochs=2000")
    assert done.code == 1
    found = states(here / "multirun" / "s")
    assert found == {"tau.init-0.5": "interrupted", "tau.init-1.0": "interrupted", "tau.init-2.0": "failed"}


def test_a_pack_that_fails_as_a_whole_goes_on_in_halves(here, monkeypatch):
    """As where memory was not enough: the runs go on from their checkpoints, and those that have ended do not."""
    real, sizes = experiment.run_pack, []

    def too_large(members, watch=None):
        sizes.append(len(members))
        if len(members) > 2:
            real(members[:1])  # one of them has ended by then
            raise torch.OutOfMemoryError("no memory")
        return real(members, watch)

    monkeypatch.setattr(experiment, "run_pack", too_large)
    done = sweep("seed=0,1,2,3,4", PACKED, "sweep.name=s")
    assert done.code == 0, done.err
    assert sizes == [5, 2, 2]
    assert "a pack of 5 runs failed (no memory); going on with 4 in halves" in done.out
    assert set(states(here / "multirun" / "s").values()) == {"finished"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("hydra.launcher.max_runs=0", "must be a whole number, at least 1"),
        ("hydra.launcher.max_runs=many", "must be a whole number, at least 1"),
        ("hydra.launcher.devices=cuda:0", "must be null or a list"),
        ("hydra.launcher.devices=[gpu]", "must be null or a list"),
        ("hydra.launcher.devices=[]", "must be null or a list"),
    ],
)
def test_a_mistake_in_the_launcher_costs_one_line(setting, words, here):
    done = sweep("seed=0,1", PACKED, setting)
    assert done.code == 2
    assert done.err.startswith(f"error: {setting.partition('=')[0]}=")
    assert words in done.err
    assert done.err.count("\n") == 1
    assert not (here / "multirun").exists()


def test_two_devices_have_a_process_and_a_pack_each(here):
    done = sweep("seed=0,1,2,3", PACKED, "hydra.launcher.devices=[cpu,cpu]", "sweep.name=s")
    assert done.code == 0, done.err
    assert "4 runs in 2 packs" in done.out
    folder = here / "multirun" / "s"
    assert len({status(run)["pid"] for run in runs(folder).values()}) == 2
    assert sweep("seed=0,1,2,3", "sweep.name=t").code == 0
    assert numbers(folder) == numbers(here / "multirun" / "t")


def test_hydras_own_sweeper_packs_too_and_hears_of_failures(here):
    done = sweep("hydra/sweeper=basic", PACKED, *ONE_FAILS, "hydra.sweep.dir=own")
    assert done.code == 1
    assert "broken on purpose" in done.err
    assert sorted(status(run.parent)["state"] for run in (here / "own").glob("*/status.json")) == [
        "failed", "finished", "finished",
    ]  # fmt: skip


def test_a_search_asks_for_a_pack_at_a_time_and_pruned_trials_leave_it(here):
    done = sweep(
        "hydra/sweeper=optuna", "hydra.sweeper.n_trials=8", "hydra.sweeper.pruner=median", PACKED,
        "hydra.sweeper.pruner_args={n_startup_trials:1,n_warmup_steps:0}", "hydra.launcher.max_runs=4",
        "optim.lr=tag(log,interval(1e-6,1e-1))", "training.epochs=6", "sweep.name=s",
    )  # fmt: skip
    assert done.code == 0, done.err
    folder = here / "multirun" / "s"
    found = list(states(folder).values())
    assert len(found) == 8
    assert set(found) == {"finished", "pruned"}
    assert done.out.count("in 1 pack\n  pack 1: 4 runs") == 2
    for run in runs(folder).values():
        steps = [row["step"] for row in history(run)]
        assert (max(steps) == 78) is (status(run)["state"] == "finished")


# ---------------------------------------------------------------- killed and gone on with

SLOW = [*FAULTY, "+sampling.does=slow", "seed=0,1,2,3,4", "training.checkpoint_seconds=0.5", "training.epochs=8"]


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_pack_goes_on_with_other_cuts_and_as_single_runs(signum, here):
    folder = here / "multirun" / "s"
    for cuts in ([PACKED], [PACKED, "hydra.launcher.max_runs=3"]):
        process = start(here, "-m", *QUICK, *SLOW, *cuts, "sweep.name=s")
        before = {run: (run / "history.jsonl").stat().st_size for run in runs(folder).values()}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not any(
            (run / "checkpoints" / "last.pt").exists()
            and (run / "history.jsonl").stat().st_size > before.get(run, 0) + 1000
            for run in runs(folder).values()
        ):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        os.killpg(process.pid, signum)
        finish(process)
        assert "finished" not in states(folder).values()
    (here / "mended").touch()
    code, out = finish(start(here, "-m", *QUICK, *SLOW, "sweep.name=s"))
    assert code == 0, out
    assert set(states(folder).values()) == {"finished"}
    logs = [(run / "run.log").read_text() for run in runs(folder).values()]
    assert all("resuming" in log for log in logs)
    assert sweep(*SLOW, "sweep.name=t").code == 0
    assert numbers(folder) == numbers(here / "multirun" / "t")
