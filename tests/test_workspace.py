"""The W&B workspace of a sweep, saved to the stand-in service."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_compare import make_run
from wandb_server_fixture import SERVER, Service, environment

NEEDED = [
    "group", "val/neg_elbo", "test/neg_elbo", "tau.value.init", "sampling.value._target_", "images/reconstructions",
    "Parallel Coordinates", "Scatter", "Run History Line Plot", "Media Browser", "Run Comparer",
]  # fmt: skip


def sweep(folder: Path) -> Path:
    for tau in (0.5, 1.0):
        for name in ("soft", "hard"):
            settings = {"tau.init": tau, "sampling._target_": name}
            make_run(folder, f"{name}{tau}", score=tau, settings=settings, choices={"sampling": name})
    (folder / "sweep.json").write_text(json.dumps({"name": "temps", "jobs": {}}))
    return folder


def run_cli(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gsvae.workspace", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow
def test_the_workspace_shows_the_sweeps_group(tmp_path):
    if not SERVER.exists():
        pytest.skip("the stand-in service is not at ../shared/tools/wandb_server.py")
    service = Service(tmp_path / "service")
    try:
        done = run_cli(environment(service.url, tmp_path), str(sweep(tmp_path / "temps")), "--project", "gsvae")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(service.url)
        (view,) = service.folder.glob("*/gsvae/views/*.json")
    finally:
        service.kill()
    stored = json.dumps(json.loads(view.read_text()))
    assert "temps" in stored
    for needed in NEEDED:
        assert needed in stored, needed


def test_without_a_login_it_says_so(tmp_path):
    done = run_cli(environment(None, tmp_path), str(sweep(tmp_path / "temps")))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "wandb login" in done.stderr


def test_a_folder_without_runs(tmp_path):
    done = run_cli(environment(None, tmp_path), str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}: there is no run in it; expected a sweep's folder, or a run's\n"
