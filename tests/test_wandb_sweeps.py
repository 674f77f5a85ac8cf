"""W&B sweeps by the real command line and agent against the stand-in service: every run joins, stops when asked."""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import yaml
from wandb_server_fixture import ROOT, SERVER, Service, environment, wait_until

from gsvae.studies import SWEEPS

WANDB = Path(sys.executable).with_name("wandb")
QUICK = [
    "experiment=debug", "tracking.mode=auto", "tracking.artifact=false", "training.threads=1",
    "evaluation.iwae_samples=2",
]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if not SERVER.exists():
        pytest.skip("the stand-in service is not at ../shared/tools/wandb_server.py")
    service = Service(tmp_path_factory.mktemp("service"))
    yield service
    service.kill()


@pytest.fixture
def here(tmp_path: Path, service: Service) -> tuple[Path, dict[str, str]]:
    """A folder where ``python run.py`` works, and the environment of a user who is logged in."""
    env = environment(service.url, tmp_path)
    quick = {"MPLCONFIGDIR": matplotlib.get_cachedir()}  # else each test's home gets a font cache of its own
    return tmp_path, {**env, **quick, "PATH": f"{WANDB.parent}:{env['PATH']}"}  # as in an activated environment


def create(folder: Path, env: Mapping[str, str], study: str, more: list[str], parameters: dict[str, Any]) -> str:
    """``wandb sweep`` on one of our files, with quick runs of its parameters; the sweep's path."""
    content = yaml.safe_load((SWEEPS / f"{study}.yaml").read_text())
    content["program"] = str(ROOT / "run.py")
    content["command"] += more
    content["parameters"] = parameters
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    command = [WANDB, "sweep", "sweep.yaml"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = re.findall(r"wandb agent (\S+)", done.stdout + done.stderr)
    return path


def agent(folder: Path, env: Mapping[str, str], sweep: str, *options: str) -> subprocess.Popen[str]:
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    return subprocess.Popen(
        [WANDB, "agent", *options, sweep],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def statuses(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in folder.glob("outputs/*/*/status.json")]


def test_every_point_of_a_grid_is_a_run_of_the_sweep(here, service):
    """Also of a choice of groups, whose settings W&B would lose to the sweep's parameter of the same name."""
    folder, env = here
    parameters = {
        "data": {"value": "digits"},
        "tau.init": {"values": [0.5, 1.5]},
        "sampling": {"values": ["soft", "hard"]},
    }
    sweep = create(folder, env, "temperature", QUICK, parameters)
    process = agent(folder, env, sweep)
    out, _ = process.communicate(timeout=150)
    assert process.returncode == 0, out
    assert "ignored update" not in out  # what W&B's client says of settings that contradict the sweep's
    found = statuses(folder)
    assert sorted((s["settings"]["tau.init"], s["choices"]["sampling"]) for s in found) == [
        (0.5, "hard"), (0.5, "soft"), (1.5, "hard"), (1.5, "soft")
    ]  # fmt: skip
    for status in found:
        record = service.record(status["wandb_id"])
        assert record["sweep"] == record["group"] == sweep.rpartition("/")[2]
        assert (record["project"], record["state"]) == ("gsvae", "finished")
        config = record["config"]
        assert config["tau"]["init"] == config["tau.init"] == status["settings"]["tau.init"]
        assert config["sampling"] == config["choices"]["sampling"] == status["choices"]["sampling"]
        assert config["sampling._target_"] == status["settings"]["sampling._target_"]
        assert config["data.n_val"] == status["settings"]["data.n_val"]
        assert config["run_id"] == status["run_id"]
        assert any("val/neg_elbo" in row for row in service.rows(status["wandb_id"]))
        (summary,) = folder.glob(f"outputs/*/*_{status['run_id']}/summary.json")
        assert record["summary"]["val/neg_elbo"] == json.loads(summary.read_text())["val/neg_elbo"]


def test_a_search_by_the_service(here, service):
    folder, env = here
    parameters = yaml.safe_load((SWEEPS / "bayes.yaml").read_text())["parameters"]
    del parameters["data"], parameters["training.epochs"]
    sweep = create(folder, env, "bayes", QUICK, parameters)
    process = agent(folder, env, sweep, "--count", "2")
    out, _ = process.communicate(timeout=150)
    assert process.returncode == 0, out
    found = statuses(folder)
    assert len(found) == 2
    for status in found:
        assert service.record(status["wandb_id"])["sweep"] == sweep.rpartition("/")[2]
        assert 1e-4 <= status["settings"]["optim.lr"] <= 3e-3
        assert status["settings"]["model.n_latent"] in range(10, 61)
    assert found[0]["settings"]["optim.lr"] != found[1]["settings"]["optim.lr"]


def test_a_run_that_the_service_stops_is_interrupted_with_a_checkpoint(here, service):
    """As early termination and the Stop button do."""
    folder, env = here
    more = [*QUICK, "training.epochs=100000", "evaluation.every=50", "tracking.images_every=0"]
    sweep = create(folder, env, "temperature", more, {"seed": {"values": [0]}})
    process = agent(folder, env, sweep)
    try:
        (status,) = wait_until(lambda: statuses(folder))
        run = status["wandb_id"]
        wait_until(lambda: list(service.folder.glob(f"*/*/runs/{run}/run.json")))
        time.sleep(1)
        body = json.dumps({"run": run}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{service.url}/_stub/stop", body), timeout=5).close()
        wait_until(lambda: statuses(folder)[0]["state"] != "running", 90)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert statuses(folder)[0]["state"] == "interrupted"
    assert list(folder.glob("outputs/*/*/checkpoints/last.pt"))
