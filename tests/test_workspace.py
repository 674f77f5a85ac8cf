"""The W&B workspace of a sweep, saved to the stand-in service, with the runs it is about."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from sweeping import QUICK, finish, start
from test_compare import make_run
from wandb_server_fixture import SERVER, Service, environment

from gsvae.compare import compare
from gsvae.errors import UserError
from gsvae.workspace import Place, build, place_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb_workspaces")

NEEDED = [
    "images/reconstructions", "Parallel Coordinates", "Scatter", "Run History Line Plot", "Media Browser",
    "Run Comparer",
]  # fmt: skip


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    if not SERVER.exists():
        pytest.skip("the stand-in service is not at ../shared/tools/wandb_server.py")
    service = Service(tmp_path / "service")
    yield service
    service.kill()


def sweep(folder: Path, **tracking: Any) -> Path:
    """A sweep's folder without its trainings."""
    for tau in (0.5, 1.0):
        for model in ("tiny", "small"):
            settings = {"tau.init": tau, "model.hidden": [len(model)]}
            run = make_run(folder, f"{model}{tau}", score=tau, settings=settings, choices={"model": model})
            (run / ".hydra").mkdir()
            given = {"project": "gsvae", "entity": None, "group": "temps", **tracking}
            (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"tracking": given}))
    (folder / "sweep.json").write_text(json.dumps({"name": "temps", "jobs": {}}))
    return folder


def run_cli(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gsvae.workspace", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)


def accessors(spec: Any, mark: str) -> set[str]:
    """The texts of a specification that begin with ``mark``, without it."""
    if isinstance(spec, Mapping):
        return set().union(*(accessors(value, mark) for value in spec.values()))
    if isinstance(spec, list):
        return set().union(*(accessors(value, mark) for value in spec))
    return {spec.removeprefix(mark)} if isinstance(spec, str) and spec.startswith(mark) else set()


@pytest.mark.slow
def test_the_workspace_shows_what_the_runs_have(service, tmp_path):
    """A real sweep into a group and project of the user's; each panel's setting and number is one that W&B has."""
    env = environment(service.url, tmp_path)
    tracking = ["tracking.mode=online", "tracking.project=other", "tracking.group=my group", "tracking.artifact=false"]
    code, out = finish(
        start(tmp_path, "-m", *QUICK, *tracking, "model=tiny,small", "tau.init=0.5,1.5", "sweep.name=temps", env=env)
    )
    assert code == 0, out
    done = run_cli(env, str(tmp_path / "multirun" / "temps"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{service.url}/stub/other?nw=")
    (path,) = service.folder.glob("stub/other/views/*.json")
    view = json.loads(path.read_text())
    runs = [json.loads(path.read_text()) for path in service.folder.glob("stub/other/runs/*/run.json")]
    assert len(runs) == 4

    (runset,) = view["spec"]["section"]["runSets"]
    (filtered,) = runset["filters"]["filters"]
    assert (filtered["key"], filtered["op"]) == ({"section": "run", "name": "group"}, "=")
    assert {filtered["value"]} == {run["group"] for run in runs} == {"my group"}

    by = {key["name"] for key in runset["grouping"]}
    settings = accessors(view["spec"], "config:")
    assert by == settings == {"tau.value.init", "choices.value.model"}
    for setting in settings:
        first, _, rest = setting.partition(".value.")
        assert len({run["config"][first][rest] for run in runs}) == 2
    numbers = accessors(view["spec"], "summary:")
    assert numbers == {"val/neg_elbo", "test/neg_elbo"}
    assert all(isinstance(run["summary"][number], float) for run in runs for number in numbers)
    stored = json.dumps(view)
    for needed in NEEDED:
        assert needed in stored, needed
    assert all("images/reconstructions" in run["summary"] for run in runs)

    done = run_cli(env, str(sweep(tmp_path / "temps")), "--project", "other")
    assert done.returncode == 2
    assert done.stderr.startswith("error: stub/other has no run of group temps; ")


def test_only_numbers_are_axes_of_scatter_plots(tmp_path):
    comparison = compare([sweep(tmp_path / "temps")])
    assert sorted(comparison.keys) == ["model", "tau.init"]
    workspace = build(comparison, place_of(comparison))
    axes = {panel.x.name for panel in workspace.sections[0].panels if type(panel).__name__ == "ScatterPlot"}
    assert axes == {"tau.init"}


@pytest.mark.parametrize("group", ["tau=0.5", "it's", "a<b"])
def test_a_group_that_no_filter_can_name(tmp_path, group):
    """wandb-workspaces would store another name and show nothing."""
    comparison = compare([sweep(tmp_path / "temps", group=group)])
    with pytest.raises(UserError, match="cannot filter by"):
        build(comparison, place_of(comparison))


def test_a_missing_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    comparison = compare([sweep(tmp_path / "temps")])
    with pytest.raises(UserError, match=r"needs wandb-workspaces: pip install -e '\.\[workspaces\]'"):
        build(comparison, place_of(comparison))


def test_where_the_runs_are(tmp_path):
    assert place_of(compare([sweep(tmp_path / "a", entity="team")])) == Place("team", "gsvae", "temps")
    with pytest.raises(UserError, match="not one group"):
        place_of(compare([sweep(tmp_path / "b", group=None)]))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (None, "wandb login"),
        ("http://127.0.0.1:9", "no answer from http://127.0.0.1:9"),
        ("service", "Could not find project gsvae"),
    ],
)
def test_what_ends_it_in_one_line(tmp_path, request, url, said):
    """No login; no service; a service without the project."""
    if url == "service":
        url = request.getfixturevalue("service").url
    done = run_cli(environment(url, tmp_path), str(sweep(tmp_path / "temps")))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_key_that_cannot_be_one(tmp_path):
    done = run_cli(environment("http://127.0.0.1:9", tmp_path, WANDB_API_KEY="short"), str(sweep(tmp_path / "temps")))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: tracking.mode=online: WANDB_API_KEY invalid")
    assert "short" not in line


def test_a_folder_without_runs(tmp_path):
    done = run_cli(environment(None, tmp_path), str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}: there is no run in it; expected a sweep's folder, or a run's\n"
