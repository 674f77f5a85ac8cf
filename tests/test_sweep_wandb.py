"""A sweep's W&B runs, read back from the client's own files: one per job, none merged, one group."""

import json
import subprocess
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sweeping import QUICK, finish, runs, start, status

WANDB = Path(sys.executable).with_name("wandb")


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    """The records of a kind that the W&B client has on disk for a run folder, of all its sessions."""
    found = []
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        done = subprocess.run([WANDB, "leet", "inspect", "--json", path], capture_output=True, text=True, check=True)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        found += [row[kind] for row in rows if row["type"] == kind]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib", "packed"])
def test_each_job_is_a_wandb_run_of_its_own(launcher, tmp_path):
    command = ["-m", *QUICK, "tracking.mode=offline", "tau.init=0.5,1.5", "seed=0,1", "sweep.name=temps",
               f"hydra/launcher={launcher}"]  # fmt: skip
    code, out = finish(start(tmp_path, *command))
    assert code == 0, out
    ids, names, spans = set(), set(), []
    for name, run in runs(tmp_path / "multirun" / "temps").items():
        (begun,) = records(run, "run")
        config = begun["config"]["update"]
        assert f"tau.init-{config['tau']['init']}_seed-{config['seed']}" == name
        assert config["tracking"]["group"] == begun["run_group"] == "temps"
        assert begun["run_id"] == status(run)["wandb_id"]
        ids.add(begun["run_id"])
        names.add(begun["display_name"])
        assert len(records(run, "exit")) == 1  # it was finished
        scores = [row["item"]["test/neg_elbo"] for row in records(run, "history") if "test/neg_elbo" in row["item"]]
        assert scores == [json.loads((run / "summary.json").read_text())["test/neg_elbo"]]  # its own number, once
        (file,) = run.glob("wandb/offline-run-*/*.wandb")
        spans.append((datetime.fromisoformat(begun["start_time"]).timestamp(), file.stat().st_mtime))
    if launcher == "basic":
        spans.sort()
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))  # before the next began
    assert len(ids) == 4
    assert names == {f"tau.init={tau} seed={seed}" for tau in ("0.5", "1.5") for seed in (0, 1)}


@pytest.mark.slow
def test_a_run_begun_again_stays_the_wandb_run_it_was(tmp_path):
    """Killed before its first checkpoint, a run has a status and a W&B id; its second beginning keeps both."""
    command = ["-m", *QUICK, "tracking.mode=offline", "seed=0", "sweep.name=s"]
    assert finish(start(tmp_path, *command))[0] == 0
    (run,) = runs(tmp_path / "multirun" / "s").values()
    before = status(run)
    (run / "status.json").write_text(json.dumps({**before, "state": "running"}))
    for checkpoint in (run / "checkpoints").glob("*.pt"):
        checkpoint.unlink()
    assert finish(start(tmp_path, *command))[0] == 0
    assert status(run)["wandb_id"] == before["wandb_id"]
    assert {session["run_id"] for session in records(run, "run")} == {before["wandb_id"]}
