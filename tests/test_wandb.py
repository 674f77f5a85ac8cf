"""Tracking with the real W&B client: offline on its own, online against the stand-in service."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb_server_fixture import KEY, PATIENCE, ROOT, SERVER, Driven, Service, environment, sync, wait_until

NOWHERE = "http://127.0.0.1:9"
DEBUG = ("experiment=debug", "training.threads=1")
ENDLESS = ("training.epochs=100000", "evaluation.every=50", "tracking.images_every=0")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if not SERVER.exists():
        pytest.skip("the stand-in service is not at ../shared/tools/wandb_server.py")
    service = Service(tmp_path_factory.mktemp("service"))
    yield service
    service.kill()


@pytest.fixture
def mortal(tmp_path: Path, service: Service) -> Iterator[Service]:
    """A service of the test's own, to kill or to disturb."""
    own = Service(tmp_path / "service")
    yield own
    own.kill()


StartRun = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start_run() -> Iterator[StartRun]:
    """Starts ``run.py`` in a process group of its own, its output in FOLDER.out; none outlives the test."""
    started = []

    def start(folder: Path, env: dict[str, str], *overrides: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, ROOT / "run.py", *overrides]
        with open(folder.with_suffix(".out"), "ab") as out:
            started.append(subprocess.Popen(command, env=env, cwd=ROOT, stdout=out, stderr=out, process_group=0))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def wait_for_rows(folder: Path, n: int) -> None:
    wait_until(lambda: (folder / "history.jsonl").exists() and len(history(folder)) > n)


def wait_for_change(path: Path) -> None:
    before = path.stat().st_mtime_ns
    wait_until(lambda: path.exists() and path.stat().st_mtime_ns > before)  # it is away between two renames


def metrics(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what the client adds, images, and the speed, which a repeated step does not repeat."""
    return [
        {k: v for k, v in row.items() if not k.startswith(("_", "images/")) and k != "train/images_per_second"}
        for row in rows
    ]


def assert_complete(service: Service, run: str, folder: Path, *, repeated: bool = False) -> None:
    """The service has every row of the folder, in order, once (unless a sync after an outage sent some again)."""
    received = service.rows(run)
    if repeated:
        received = list({row["_step"]: row for row in received}.values())
    assert [row["_step"] for row in received] == list(range(len(received)))
    assert metrics(received) == metrics(history(folder))


def assert_driven_complete(service: Service, run: Driven, *, repeated: bool = False) -> None:
    """What the lines rows, images and summary brought about is all there."""
    assert_complete(service, run.id, run.folder, repeated=repeated)
    record = service.record(run.id)
    assert record["state"] == "finished"
    assert (record["summary"]["val/neg_elbo"], record["summary"]["test/neg_elbo"]) == (50.0, 60.0)
    assert service.images(run.id) == ["samples"]


def warnings(run: Driven) -> list[str]:
    """Everything that is not information, the client's own lines and tracebacks included."""
    return [line for line in run.log() if not line.startswith("INFO ")]


def finish(run: Driven) -> float:
    """Images, summary and end; returns the seconds that the end took."""
    begun = time.monotonic()
    for line in ("images", "summary", "artifact", "close"):
        run(line)
    assert run.end() == 0
    return time.monotonic() - begun


# ---------------------------------------------------------------- whole runs


def test_everything_arrives(service: Service, start_run: StartRun, tmp_path: Path) -> None:
    folder, env = tmp_path / "run", environment(service.url, tmp_path)
    told = {"project": "proj", "entity": "team", "name": "a name", "group": "a group", "job_type": "train"}
    overrides = [f"tracking.{key}={value}" for key, value in told.items()]
    process = start_run(
        folder,
        env,
        *DEBUG,
        *overrides,
        "tracking.mode=online",
        "tracking.tags=[one,two]",
        "tracking.notes=noted",
        "tau.init=0.7",
        f"hydra.run.dir={folder}",
    )
    assert process.wait(PATIENCE) == 0, folder.with_suffix(".out").read_text()
    run_id = json.loads((folder / "status.json").read_text())["wandb_id"]
    run = service.record(run_id)

    assert (run["project"], run["entity"]) == ("proj", "team")
    assert (run["name"], run["group"], run["jobType"]) == ("a name", "a group", "train")
    assert (run["tags"], run["notes"], run["state"]) == (["one", "two"], "noted", "finished")

    resolved = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
    assert run["config"]["tau"]["init"] == 0.7
    choices = json.loads((folder / "status.json").read_text())["choices"]
    assert choices["data"] == "digits"
    more = {"choices": choices, "run_id": run_id.split("-")[0], "run_folder": str(folder)}
    assert run["config"] == {**resolved, **more}

    assert_complete(service, run_id, folder)
    assert service.images(run_id) == sorted(path.stem for path in (folder / "images").iterdir())
    summary = json.loads((folder / "summary.json").read_text())
    assert {key: run["summary"][key] for key in summary} == summary

    records = run["rawConfig"]["_wandb"]["value"]["m"]  # of define_metric: 1 name, 2 pattern, 5 its axis, 7 summary
    defined = {record.get("1", record.get("2")): record for record in records}
    axis = records.index(defined["step"]) + 1
    assert defined["*"]["5"] == defined["val/neg_elbo"]["5"] == axis
    assert (defined["val/neg_elbo"]["7"], defined["codes/perplexity"]["7"]) == ([1], [2])  # min, max

    (artifact,) = service.folder.glob(f"team/proj/artifacts/model-{run_id}/v0/artifact.json")
    assert {"best", "epoch-2"} <= set(json.loads(artifact.read_text())["aliases"])
    assert (artifact.parent / "files" / "best.pt").read_bytes() == (folder / "checkpoints" / "best.pt").read_bytes()

    found = [
        p for p in [*folder.rglob("*"), folder.with_suffix(".out")] if p.is_file() and KEY.encode() in p.read_bytes()
    ]
    assert not found, "the API key is in a file"
    assert "wandb:" not in folder.with_suffix(".out").read_text()


def test_resume_after_every_kind_of_end(service: Service, start_run: StartRun, tmp_path: Path) -> None:
    """Ctrl-C to the whole process group, then SIGTERM, then SIGKILL, then the end: one W&B run, every row once."""
    folder, env = tmp_path / "run", environment(service.url, tmp_path)
    arguments = [*DEBUG, *ENDLESS, "tracking.mode=online", "training.checkpoint_seconds=0.5", f"hydra.run.dir={folder}"]
    last = folder / "checkpoints" / "last.pt"
    rows = 0
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = start_run(folder, env, *arguments)
        wait_for_rows(folder, rows + 30)
        if signum == signal.SIGKILL:
            wait_for_change(last)
        os.killpg(process.pid, signum)
        code = process.wait(PATIENCE)
        status = json.loads((folder / "status.json").read_text())
        run_id, rows = status["wandb_id"], len(history(folder))
        if signum != signal.SIGKILL:
            assert (status["state"], code) == ("interrupted", 128 + signum)
            assert last.exists()
            assert_complete(service, run_id, folder)
            assert service.record(run_id)["summary"]["train/loss"].keys() == {"min"}
        arguments = [f"resume={folder}"]

    enough = history(folder)[-1]["step"] // 13 + 5
    assert start_run(folder, env, f"resume={folder}", f"training.epochs={enough}").wait(PATIENCE) == 0
    assert json.loads((folder / "status.json").read_text())["wandb_id"] == run_id
    assert_complete(service, run_id, folder)
    assert service.record(run_id)["state"] == "finished"


def test_no_login_ends_before_training(start_run: StartRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    env = environment(None, tmp_path, WANDB_MODE="offline")  # which an explicit online overrides
    process = start_run(folder, env, *DEBUG, "tracking.mode=online", f"hydra.run.dir={folder}")
    assert process.wait(PATIENCE) == 2
    (line,) = folder.with_suffix(".out").read_text().splitlines()
    assert line.startswith("error: tracking.mode=online: not logged in")
    assert not (folder / "history.jsonl").exists()


def test_disabled_does_not_import_wandb(tmp_path: Path) -> None:
    code = "import runpy, sys; runpy.run_path('run.py', run_name='__main__'); sys.exit('wandb' in sys.modules)"
    arguments = [*DEBUG, "training.steps=1", "tracking.mode=disabled", f"hydra.run.dir={tmp_path}/run"]
    env = environment(NOWHERE, tmp_path)
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, env=env, timeout=PATIENCE, check=False)
    assert done.returncode == 0
    assert not (tmp_path / "run" / "wandb").exists()


# ---------------------------------------------------------------- where a run goes


def test_auto_without_login_is_offline(tmp_path: Path) -> None:
    run = Driven(tmp_path / "run", environment(None, tmp_path))
    run("rows 5")
    _, where = run("where").split()
    assert finish(run) < 10
    assert run.log() == [f"INFO W&B: offline. Look: wandb leet {run.folder}/wandb   Send: wandb sync {where}"]
    assert list(Path(where).glob("*.wandb"))


def test_offline_then_sync(service: Service, tmp_path: Path) -> None:
    """Also after a kill: the client's file of a killed run may lack anything, so the next one has all rows."""
    env = environment(None, tmp_path)
    run = Driven(tmp_path / "run", env)
    run("rows 12")
    run("where")
    run.process.kill()
    run.process.wait()
    run = Driven(tmp_path / "run", env, keep_rows=10, id=run.id)
    run("rows 5")
    finish(run)
    sync(run.log()[-1].split()[-1], environment(service.url, tmp_path))
    assert len(service.rows(run.id)) == 15
    assert_driven_complete(service, run)
    assert list(service.folder.glob(f"*/*/artifacts/model-{run.id}/v0/files/history.jsonl"))


@pytest.mark.parametrize(("mode", "expected"), [("offline", ["INFO W&B: offline"]), ("disabled", [])])
def test_auto_respects_wandb_mode(tmp_path: Path, mode: str, expected: list[str]) -> None:
    run = Driven(tmp_path / "run", environment(NOWHERE, tmp_path, WANDB_MODE=mode))
    run("rows 2")
    finish(run)
    assert [line.split(".")[0] for line in run.log()] == expected


# ---------------------------------------------------------------- a service that fails


def test_unreachable_service(service: Service, tmp_path: Path) -> None:
    run = Driven(tmp_path / "run", environment(NOWHERE, tmp_path))
    run("rows 5")
    assert finish(run) < 15
    (warning,) = warnings(run)
    assert warning.startswith("WARNING W&B: no answer")
    sync(warning.split("wandb sync ")[1], environment(service.url, tmp_path))
    assert_driven_complete(service, run)


def test_slow_service_does_not_delay_the_run(mortal: Service, tmp_path: Path) -> None:
    """A start that takes 2 s holds up no row; nothing is lost by it."""
    mortal.fault("graphql", 1, delay=2)
    run = Driven(tmp_path / "run", environment(mortal.url, tmp_path))
    (seconds,) = run("rows 50").split()  # and no address yet: the start is not over
    assert float(seconds) < 0.5
    finish(run)
    assert not warnings(run)
    assert_driven_complete(mortal, run)


def test_start_times_out(mortal: Service, tmp_path: Path) -> None:
    """A service that answers, but too late: the run goes on offline, and a sync joins it to its id."""
    mortal.fault("graphql", 4, delay=8)
    run = Driven(tmp_path / "run", environment(mortal.url, tmp_path), init_timeout=1)
    run("rows 5")
    assert finish(run) < 20
    (warning,) = warnings(run)
    options, path = warning.split("wandb sync ")[1].rsplit(" ", 1)
    mortal.kill()
    mortal.start()
    sync(path, environment(mortal.url, tmp_path), *options.split())
    assert_driven_complete(mortal, run)


def test_service_killed_in_mid_run(mortal: Service, tmp_path: Path) -> None:
    env = environment(mortal.url, tmp_path)
    run = Driven(tmp_path / "run", env, finish_timeout=2)
    run("rows 5")
    run("where")
    mortal.kill()
    assert float(run("rows 50").split()[0]) < 1
    assert finish(run) < 9
    (warning,) = warnings(run)
    path = warning.split("wandb sync --include-online ")[1]
    mortal.start()
    sync(path, env, "--include-online")
    assert_driven_complete(mortal, run, repeated=True)


def test_finish_times_out(mortal: Service, tmp_path: Path) -> None:
    """Dying under ``finish``, the service costs the same one warning."""
    run = Driven(tmp_path / "run", environment(mortal.url, tmp_path), finish_timeout=1)
    run("rows 5")
    run("where")
    mortal.fault("file_stream", 10**6)
    run("close")
    assert run.end() == 0
    (warning,) = warnings(run)
    assert "Timed out" in warning
    assert "wandb sync --include-online" in warning


def test_errors_of_the_service_lose_nothing(mortal: Service, tmp_path: Path) -> None:
    run = Driven(tmp_path / "run", environment(mortal.url, tmp_path))
    run("rows 5")
    run("where")
    mortal.fault("file_stream", 3)
    run("rows 5")
    finish(run)
    assert "file_stream" in (mortal.folder / "requests.jsonl").read_text()
    assert not warnings(run)
    assert_driven_complete(mortal, run)


def test_client_killed_in_mid_run(service: Service, tmp_path: Path) -> None:
    run = Driven(tmp_path / "run", environment(service.url, tmp_path))
    run("rows 5")
    run("where")
    os.kill(run.core(), signal.SIGKILL)
    run("rows 50")
    assert finish(run) < 10
    (warning,) = warnings(run)
    assert warning.startswith("WARNING W&B: its client died")
    assert len(history(run.folder)) == 55


def test_client_killed_while_finishing(mortal: Service, tmp_path: Path) -> None:
    run = Driven(tmp_path / "run", environment(mortal.url, tmp_path))
    run("rows 5")
    run("where")
    mortal.fault("file_stream", 10**6)
    threading.Timer(1, os.kill, (run.core(), signal.SIGKILL)).start()
    run("close")
    assert run.end() == 0
    (warning,) = warnings(run)
    assert warning.startswith("WARNING W&B: its client died")
