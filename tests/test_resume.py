"""A run stopped and resumed ends with exactly the numbers of one never stopped; nothing written is ever lost."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from packing import TIMINGS, Spec, history, in_two, trainer, weights

from gsvae.errors import UserError
from gsvae.sampling import REBAR, RLOO, Hard
from gsvae.tau import Linear
from gsvae.training.checkpoint import read_checkpoint, read_last, write_last

PROJECT = Path(__file__).parents[1]
SPECS = [Spec(0, Linear(1.0, 0.5, 30), 1e-2), Spec(1, Linear(1.0, 0.5, 30), 2e-2)]


def make(folder, specs, sampler=Hard, **more):
    return trainer(specs, sampler, torch.optim.Adam, folder, steps=33, dtype=torch.float32, dynamic=True, **more)


def count_checks(subject):
    """Count the trainer's looks for a signal."""
    looks = itertools.count()
    subject.interrupt.check = lambda: next(looks)
    return looks


@pytest.mark.parametrize("sampler", [Hard, RLOO, REBAR])
@pytest.mark.parametrize(("size", "lifted"), [(1, True), (2, True), (2, False)])
def test_interrupted_anywhere_and_resumed_equals_uninterrupted(size, lifted, sampler, tmp_path):
    specs = SPECS[:size]
    whole = make(tmp_path / "whole", specs, sampler, lifted=lifted)
    n_all = count_checks(whole)
    whole.fit()
    total = next(n_all)
    # In steps, at epochs' ends, in evaluations and in the last test.
    for n_checks in sorted({0, 3, 9, 10, 11, total // 2, total - 4, total - 1} & set(range(total))):
        folder = tmp_path / f"cut{n_checks}"
        rest = in_two(partial(make, folder, specs, sampler, lifted=lifted), n_checks)
        for r, spec in enumerate(specs):
            for name, value in weights(whole, r).items():
                assert torch.equal(weights(rest, r)[name], value), (n_checks, name)
            run = str(spec.seed)
            assert history(folder / run) == history(tmp_path / "whole" / run), n_checks
            ours, theirs = (t.runs[r].outcome["metrics"] for t in (rest, whole))
            assert {k: v for k, v in ours.items() if k not in TIMINGS} == {
                k: v for k, v in theirs.items() if k not in TIMINGS
            }


def test_history_rows_behind_the_checkpoint_and_a_torn_line_are_dropped(tmp_path):
    folder = make(tmp_path, SPECS[:1]).runs[0].tracker.folder
    for step in range(4):
        folder.log({"step": step})
    folder.close()
    with open(folder.history_path, "a") as file:
        file.write('{"step": 4, "tr')
    folder.start(keep_rows=3)
    folder.log({"step": 3})
    assert [row["step"] for row in folder.history()] == [0, 1, 2, 3]
    folder.close()


# ---------------------------------------------------------------- files


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "empty":
        data = bytearray()
    else:  # one bit in the middle of a tensor
        position = data.find(b"\x11" * 64) + 20
        assert position > 20
        data[position] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["truncated", "empty", "one bit"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before_with_a_warning(how, tmp_path, caplog):
    filler = torch.full((500,), 0x11, dtype=torch.uint8)
    write_last(tmp_path, {"step": 1, "x": filler})
    write_last(tmp_path, {"step": 2, "x": filler})
    assert read_last(tmp_path)["step"] == 2
    assert not caplog.records
    damage(tmp_path / "last.pt", how)
    assert read_last(tmp_path)["step"] == 1
    assert "damaged" in caplog.text
    assert "previous.pt" in caplog.text
    damage(tmp_path / "previous.pt", how)
    with pytest.raises(UserError, match="damaged"):
        read_last(tmp_path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_last(tmp_path, {"step": 1})
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_last(tmp_path, {"step": 2})
    monkeypatch.undo()
    assert read_last(tmp_path)["step"] == 1
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_checkpoint_holding_code_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, ("touch /tmp/gsvae-was-here",))

    torch.save({"format": 2, "x": Evil()}, tmp_path / "last.pt")
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path / "last.pt")
    assert not Path("/tmp/gsvae-was-here").exists()


# ---------------------------------------------------------------- the command line

RUN = [
    sys.executable, "run.py", "experiment=debug", "training.epochs=400", "training.threads=1", "data.binarize=dynamic",
    "tracking.images_every=0", "evaluation.every=20", "evaluation.iwae_samples=2",
]  # fmt: skip


def start(folder, *more):
    return subprocess.Popen(
        [*RUN, f"hydra.run.dir={folder}", *more],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def wait_for_checkpoint(process, folder):
    deadline = time.monotonic() + 60
    while not (folder / "checkpoints" / "previous.pt").exists():
        assert process.poll() is None, process.stdout.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def resume(folder, *more):
    command = [sys.executable, "run.py", f"resume={folder}", *more]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)


def summary(folder):
    values = json.loads((folder / "summary.json").read_text())
    return {k: v for k, v in values.items() if k not in (*TIMINGS, "seconds", "peak_memory_mb")}


def state_of(folder):
    return json.loads((folder / "status.json").read_text())["state"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(folder)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output.decode()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_killed_and_resumed_ends_with_the_numbers_of_one_never_killed(signum, undisturbed, tmp_path):
    process = start(tmp_path, "training.checkpoint_seconds=0.3")
    wait_for_checkpoint(process, tmp_path)
    time.sleep(0.4)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=60)
    if signum == signal.SIGKILL:
        assert state_of(tmp_path) == "running"
    else:
        assert process.returncode == 128 + signum, output.decode()
        assert state_of(tmp_path) == "interrupted"
        assert f"resume={tmp_path}" in output.decode()
    started = json.loads((tmp_path / "status.json").read_text())["started"]
    done = resume(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stdout
    assert state_of(tmp_path) == "finished"
    assert json.loads((tmp_path / "status.json").read_text())["started"] == started
    assert summary(tmp_path) == summary(undisturbed)
    assert history(tmp_path) == history(undisturbed)


@pytest.mark.slow
def test_a_finished_run_may_go_on_longer_but_not_with_other_settings(undisturbed):
    refused = resume(undisturbed, "optim.lr=0.5", "data.binarize=none")
    assert refused.returncode == 2
    line = refused.stderr.strip()
    assert "\n" not in line
    assert "optim.lr=0.5 (checkpoint: 0.001)" in line
    assert "data.binarize=none (checkpoint: dynamic)" in line
    assert state_of(undisturbed) == "finished"
    longer = resume(undisturbed, "training.epochs=405")
    assert longer.returncode == 0, longer.stderr
    assert summary(undisturbed)["epoch"] == 405
