"""Sweeps: named, gone on with, extended, contained when they fail, stopped and gone on with again."""

import json
import os
import re
import signal
import time

import pytest
from command_line import run_py
from sweeping import FAULTY, QUICK, faulty_module, finish, numbers, runs, start, states, status, summary


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faulty_module(tmp_path)
    return tmp_path


def sweep(*arguments):
    return run_py("-m", *QUICK, *arguments)


# ---------------------------------------------------------------- what there is afterwards


def test_a_folder_per_run_named_by_what_differs(here):
    done = sweep("tau.init=0.5,1.0", "seed=0,1", "sweep.name=temps")
    assert done.code == 0, done.err
    folder = here / "multirun" / "temps"
    assert sorted(runs(folder)) == [f"tau.init-{tau}_seed-{seed}" for tau in ("0.5", "1.0") for seed in (0, 1)]
    assert set(states(folder).values()) == {"finished"}
    for name, run in runs(folder).items():
        settings = status(run)["settings"]
        assert name == f"tau.init-{settings['tau.init']}_seed-{settings['seed']}"
        assert run.name.endswith(f"_{status(run)['run_id']}")
        assert "training.epochs=4" in (run / ".hydra" / "overrides.yaml").read_text()
    assert len({json.dumps(summary(run)) for run in runs(folder).values()}) == 4
    record = json.loads((folder / "sweep.json").read_text())
    assert {job["folder"] for job in record["jobs"].values()} == {run.name for run in runs(folder).values()}
    lines = (folder / "sweep.log").read_text()
    assert len(re.findall(r"\[\d/4\] tau\.init=\S+ seed=\d: finished, val/neg_elbo \d", lines)) == 4
    assert not list(folder.glob("*/claim.*"))


def test_a_sweep_without_a_name_gets_a_folder_of_its_own(here):
    for _ in range(2):
        assert sweep("training.epochs=1", "seed=0").code == 0
    first, second = (here / "multirun").iterdir()
    assert len(states(first)) == len(states(second)) == 1


def test_a_run_is_what_it_is_alone(here):
    """The numbers of a job are those of the same settings given to a single run."""
    assert sweep("seed=0,3", "sampling=soft,hard", "sweep.name=s").code == 0
    alone = run_py(*QUICK, "seed=3", "sampling=hard", "hydra.run.dir=alone")
    assert alone.code == 0
    assert summary(runs(here / "multirun" / "s")["seed-3_sampling-hard"]) == summary(here / "alone")


def test_zipped_settings_change_together(here):
    done = sweep("training.epochs=1", "sweep.zip=[tau.init,optim.lr]", "tau.init=0.5,1.0", "optim.lr=1e-3,3e-4",
                 "seed=0,1", "sweep.name=z")  # fmt: skip
    assert done.code == 0
    found = [status(run)["settings"] for run in runs(here / "multirun" / "z").values()]
    assert sorted((s["tau.init"], s["optim.lr"], s["seed"]) for s in found) == [
        (0.5, 1e-3, 0), (0.5, 1e-3, 1), (1.0, 3e-4, 0), (1.0, 3e-4, 1)
    ]  # fmt: skip


# ---------------------------------------------------------------- again


def test_again_skips_what_is_finished_and_adds_what_is_new(here):
    assert sweep("training.epochs=1", "seed=0,1", "sweep.name=s").code == 0
    folder = here / "multirun" / "s"
    before = {run.name: (run / "history.jsonl").stat().st_mtime_ns for run in runs(folder).values()}
    done = sweep("training.epochs=1", "seed=0,1,2", "sweep.name=s")
    assert done.code == 0
    assert "Sweep s: 3 runs, 1 to do, 2 finished already" in done.out
    assert len(states(folder)) == 3
    for name, stamp in before.items():
        assert (folder / name / "history.jsonl").stat().st_mtime_ns == stamp
    again = sweep("training.epochs=1", "seed=0,1,2", "sweep.name=s")
    assert "3 runs, 0 to do, 3 finished already" in again.out
    assert again.code == 0


def test_combinations_that_are_the_same_run_are_one(here):
    done = sweep("training.epochs=1", "tau.init=1,1.0", "tracking.notes=a,b", "sweep.name=s")
    assert "3 of 4 combinations repeat others" in done.out
    assert len(states(here / "multirun" / "s")) == 1


# ---------------------------------------------------------------- failure


def test_a_failure_is_on_record_at_once_and_the_sweep_goes_on(here):
    done = sweep(*FAULTY, "+sampling.does=nothing,raise,diverge", "tracking.log_every=5", "seed=0,1", "sweep.name=s")
    folder = here / "multirun" / "s"
    assert done.code == 1
    assert states(folder) == {
        f"sampling.does-{does}_seed-{seed}": state
        for does, state in {"nothing": "finished", "raise": "failed", "diverge": "diverged"}.items()
        for seed in (0, 1)
    }
    for name, run in runs(folder).items():
        log = (run / "run.log").read_text()
        assert ('raise RuntimeError("broken on purpose")' in log) == ("raise" in name)
        if "raise" in name:
            assert status(run)["error"] == "RuntimeError: broken on purpose"
    table = done.out[done.out.index("2 failed") :]
    for seed in (0, 1):
        assert re.search(rf"sampling\.does=raise seed={seed}.*RuntimeError: broken on purpose", table)
    assert "2 diverged" in table
    assert "sweep.retry_failed=true" in table


def test_failed_runs_are_tried_again_only_when_asked(here):
    arguments = [*FAULTY, "+sampling.does=raise", "seed=0,1", "sweep.name=s"]
    assert sweep(*arguments).code == 1
    again = sweep(*arguments)
    assert "0 to do, 2 failed earlier (sweep.retry_failed=true tries again)" in again.out
    assert again.code == 1
    (here / "mended").touch()
    assert sweep(*arguments, "sweep.retry_failed=true").code == 0
    assert set(states(here / "multirun" / "s").values()) == {"finished"}


def test_what_a_user_can_mend_is_said_in_one_line(here):
    done = sweep("data=mnist", "data.root=nowhere", "seed=0,1", "sweep.name=s", "data.n_val=60000,100")
    assert done.code == 1
    folder = here / "multirun" / "s"
    assert set(states(folder).values()) == {"failed"}
    for run in runs(folder).values():
        assert "Error" not in status(run)["error"]


def test_fail_fast(here):
    arguments = [*FAULTY, "+sampling.does=nothing,raise,diverge", "sweep.name=s"]
    done = sweep(*arguments, "sweep.fail_fast=true")
    assert done.code == 1
    assert states(here / "multirun" / "s") == {"sampling.does-nothing": "finished", "sampling.does-raise": "failed"}
    assert "sweep.fail_fast=true" in done.out
    assert "Go on with: python run.py -m" in done.out


def test_diverged_is_not_a_crash(here):
    done = sweep(*FAULTY, "+sampling.does=diverge", "sweep.name=s")
    assert done.code == 0
    assert states(here / "multirun" / "s") == {"": "diverged"}


def test_a_damaged_checkpoint_costs_a_new_start_not_the_run(here):
    assert sweep("training.epochs=2", "seed=0", "sweep.name=s").code == 0
    (run,) = runs(here / "multirun" / "s").values()
    right = summary(run)
    (run / "status.json").write_text(json.dumps({**status(run), "state": "running"}))
    for checkpoint in (run / "checkpoints").glob("*.pt"):
        checkpoint.write_bytes(b"torn")
    done = sweep("training.epochs=2", "seed=0", "sweep.name=s")
    assert done.code == 0
    assert "damaged" in done.out
    assert summary(run) == right


# ---------------------------------------------------------------- several workers


def test_no_workers_is_a_mistake(here):
    done = sweep("seed=0,1", "sweep.name=s", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0")
    assert done.code == 2
    assert done.err == "error: hydra.launcher.n_jobs=0: must be 1 or more, or -1 for as many as there are cores\n"
    assert not (here / "multirun").exists()


def test_a_launcher_that_cannot_work_costs_one_line(here, monkeypatch):
    """Slurm's, where there is no Slurm; the traceback is in the sweep's log."""
    monkeypatch.setenv("PATH", str(here))
    done = sweep("seed=0,1", "sweep.name=s", "hydra/launcher=submitit_slurm")
    assert done.code == 2
    assert done.err.startswith("error: hydra/launcher=submitit_slurm: ")
    assert done.err.count("\n") == 1
    assert "Traceback" in (here / "multirun" / "s" / "sweep.log").read_text()


def wait_for(condition, process, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_detached_processes_run_a_sweep(here):
    """As many at a time as there are cores; each a job of submitit's, with its logs."""
    code, out = finish(start(here, "-m", *QUICK, "training.threads=null", "seed=0,1,2", "sweep.name=s",
                             "hydra/launcher=submitit_local"))  # fmt: skip
    assert code == 0, out
    folder = here / "multirun" / "s"
    assert set(states(folder).values()) == {"finished"}
    assert len({status(run)["pid"] for run in runs(folder).values()}) == 3
    assert {status(run)["environment"]["threads"] for run in runs(folder).values()} == {1}
    assert len(list((folder / ".submitit").glob("*/*_log.out"))) == 3


@pytest.mark.slow
def test_a_worker_that_dies_takes_no_other_run_with_it(here):
    """Its peer in mid-run is killed with it, and goes on; what has not begun begins."""
    process = start(here, "-m", *QUICK, *FAULTY, "training.checkpoint_seconds=0.1", "+sampling.does=kill,slow,nothing",
                    "sweep.name=s", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")  # fmt: skip
    code, out = finish(process)
    assert code == 1, out
    assert states(here / "multirun" / "s") == {
        "sampling.does-kill": "failed",
        "sampling.does-slow": "finished",
        "sampling.does-nothing": "finished",
    }
    assert "the process that trained it died 2 times" in out


SLOW = [*FAULTY, "+sampling.does=slow", "seed=0,1,2,3", "training.checkpoint_seconds=100"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The numbers of the sweep below when nothing stops it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    faulty_module(folder)
    (folder / "mended").touch()  # not slow
    code, out = finish(start(folder, "-m", *QUICK, *SLOW, "sweep.name=s"))
    assert code == 0, out
    return numbers(folder / "multirun" / "s")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "signum", "send"),
    [
        ("joblib", signal.SIGINT, os.kill),
        ("joblib", signal.SIGTERM, os.kill),
        ("basic", signal.SIGINT, os.kill),
        ("joblib", signal.SIGINT, os.killpg),
        ("submitit_local", signal.SIGINT, os.killpg),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_stopped_by_a_signal_and_gone_on_with(launcher, signum, send, here, undisturbed):
    """The driver gets the signal, or all its group as from a terminal's Ctrl-C; the rest does not begin."""
    command = ["-m", *QUICK, *SLOW, "sweep.name=s", f"hydra/launcher={launcher}"]
    folder = here / "multirun" / "s"
    process = start(here, *command)
    wait_for(lambda: "running" in states(folder).values(), process)
    send(process.pid, signum)
    code, out = finish(process)
    assert code == 128 + signum, out
    assert set(states(folder).values()) <= {"interrupted", "finished"}
    assert "interrupted" in states(folder).values()
    assert len(states(folder)) < 4
    assert "Go on with: python run.py -m" in out
    (here / "mended").touch()
    code, out = finish(start(here, *command))
    assert code == 0, out
    assert len(states(folder)) == 4
    assert numbers(folder) == undisturbed
    assert not list((folder / ".sweep").glob("stop.*"))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_ctrl_c_while_workers_still_import(launcher, here):
    """A terminal's Ctrl-C goes to the workers as well; none takes it for an error of its run."""
    module = here / "faulty.py"
    module.write_text(SLOW_TO_IMPORT + module.read_text())
    process = start(here, "-m", *QUICK, *SLOW, "sweep.name=s", f"hydra/launcher={launcher}")
    wait_for((here / "importing").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    code, out = finish(process)
    assert code == 128 + signal.SIGINT, out
    assert "Traceback" not in out
    assert "Go on with: python run.py -m" in out
    assert set(states(here / "multirun" / "s").values()) <= {"interrupted"}


SLOW_TO_IMPORT = """
import pathlib, time
if any(pathlib.Path("multirun/s").glob("*/claim.*")):
    pathlib.Path("importing").touch()
    time.sleep(2)
"""


def test_a_sweep_goes_on_when_nobody_reads_what_it_says(here):
    process = start(here, "-m", *QUICK, "training.epochs=1", "seed=0,1", "sweep.name=s", "hydra/launcher=joblib")
    assert "Sweep s: 2 runs" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(180) == 0
    assert set(states(here / "multirun" / "s").values()) == {"finished"}
    assert "[2/2]" in (here / "multirun" / "s" / "sweep.log").read_text()


# ---------------------------------------------------------------- other sweepers


def test_hydras_own_sweeper_works_too(here):
    """It names folders by number and raises the first failure at the end; each run's own record is as ever."""
    done = sweep("hydra/sweeper=basic", *FAULTY, "+sampling.does=nothing,raise", "hydra.sweep.dir=own")
    assert done.code == 1
    found = {folder.name.partition("_")[0]: status(folder) for folder in (here / "own").glob("*_*")}
    assert {number: s["state"] for number, s in found.items()} == {"0": "finished", "1": "failed"}
    assert (here / "own" / "comparison.html").is_file()


def test_user_code_that_exits_is_a_failure_like_any_other(here):
    (here / "faulty.py").write_text(
        (here / "faulty.py").read_text().replace('RuntimeError("broken', 'SystemExit("broken')
    )
    done = sweep(*FAULTY, "+sampling.does=raise,nothing", "sweep.name=s")
    assert done.code == 1
    assert states(here / "multirun" / "s") == {"sampling.does-raise": "failed", "sampling.does-nothing": "finished"}
