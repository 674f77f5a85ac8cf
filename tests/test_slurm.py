"""Sweeps on a real Slurm, one node of it on this machine; a run goes on wherever its job is stopped or queued again.

eval "$(GSVAE_SLURM_SACCT=1 tests/slurm/one_node.sh up)"
python -m pytest tests/test_slurm.py
tests/slurm/one_node.sh down
"""

import os
import subprocess
import time

import pytest
from command_line import run_py
from sweeping import FAULTY, QUICK, faulty_module, finish, numbers, runs, start, states

NODE = ["hydra.launcher.partition=low", "hydra.launcher.mem_gb=null", "hydra.launcher.cpus_per_task=2",
        "hydra.launcher.timeout_min=30"]  # fmt: skip
SLURM = ["hydra/launcher=submitit_slurm", *NODE]
PACKED = ["hydra/launcher=packed_slurm", "hydra.launcher.max_runs=1", *NODE]  # two packs, two jobs
GRID = [*QUICK, *FAULTY, "+sampling.does=slow", "training.epochs=20", "training.checkpoint_seconds=1000", "seed=0,1",
        "evaluation.every=20"]  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("gsvae" not in os.environ.get("SLURM_CONF", ""), reason="tests/slurm/one_node.sh is not up"),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    here = tmp_path_factory.mktemp("undisturbed")
    faulty_module(here)
    (here / "mended").touch()  # not slow
    before = os.getcwd()
    os.chdir(here)
    try:
        assert run_py("-m", *GRID, "sweep.name=s").code == 0
    finally:
        os.chdir(before)
    return numbers(here / "multirun" / "s")


def slurm(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_for_training(process, folder, count):
    deadline = time.monotonic() + 120
    while sum(len((run / "history.jsonl").read_text()) > 0 for run in runs(folder).values()) < count:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(("launcher", "packs"), [(SLURM, 0), ([*PACKED, "hydra.launcher.max_runs=64"], 1), (PACKED, 2)])
def test_a_sweep_runs_on_slurm(launcher, packs, tmp_path, undisturbed):
    faulty_module(tmp_path)
    (tmp_path / "mended").touch()
    code, out = finish(start(tmp_path, "-m", *GRID, *launcher, "sweep.name=s"))
    assert code == 0, out
    assert (f"2 runs in {packs} pack" in out) is (packs > 0)
    folder = tmp_path / "multirun" / "s"
    assert numbers(folder) == undisturbed
    assert len(list((folder / ".submitit").glob("*/*_0_log.out"))) == (packs or 2)


@pytest.mark.parametrize("launcher", [SLURM, PACKED], ids=["single", "packed"])
@pytest.mark.parametrize("how", ["preempted", "cancelled", "requeued"])
def test_a_run_whose_job_is_ended_by_slurm_goes_on_from_its_checkpoint(how, launcher, tmp_path, undisturbed):
    faulty_module(tmp_path)
    folder = tmp_path / "multirun" / "s"
    process = start(tmp_path, "-m", *GRID, *launcher, "sweep.name=s")
    wait_for_training(process, folder, 2)
    if how == "preempted":
        slurm("sbatch", "-p", "high", "-c", "4", "--output=/dev/null", "--wrap", "sleep 2")
        disturbed = 2
    else:
        array = slurm("squeue", "-h", "-p", "low", "-t", "R", "-o", "%i").split()
        slurm(*({"cancelled": ["scancel"], "requeued": ["scontrol", "requeue"]}[how]), array[0])
        disturbed = 1
    code, out = finish(process, 300)
    assert code == 0, out
    assert states(folder) == {"seed-0": "finished", "seed-1": "finished"}
    logs = [(run / "run.log").read_text() for run in runs(folder).values()]
    assert sum("resuming" in log for log in logs) == disturbed
    assert numbers(folder) == undisturbed
