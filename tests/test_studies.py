"""One definition of each study: the W&B sweep files, read for Hydra's command line."""

import itertools
import shlex

import pytest
import yaml
from command_line import run_py
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_composition import compose_row

from gsvae.config import Tracking, check
from gsvae.errors import UserError
from gsvae.studies import SWEEPS, as_typed, read_study
from gsvae.sweep.grid import points

FILES = sorted(SWEEPS.glob("*.yaml"))
WANDB = [path for path in FILES if path.stem != "reinmax_table"]  # has rows, which W&B's sweeps cannot say
GRIDS = [path for path in WANDB if path.stem != "bayes"]


@pytest.mark.parametrize(
    ("parameter", "typed"),
    [
        ({"value": "mnist"}, "mnist"),
        ({"value": None}, "null"),
        ({"value": True}, "true"),
        ({"value": "true"}, "'true'"),
        ({"value": "it's, well"}, "'it\\'s, well'"),
        ({"value": [64, 32]}, "[64,32]"),
        ({"values": [0.1, 1, 3e-5]}, "0.1,1,3e-05"),
        ({"values": ["soft", "a b"]}, "soft,'a b'"),
        ({"min": 0.0, "max": 1.0}, "interval(0.0,1.0)"),
        ({"min": 1, "max": 5}, "int(interval(1,5))"),
        ({"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"}, "tag(log,interval(0.0001,1.0))"),
    ],
)
def test_a_parameter_as_it_is_typed(parameter, typed):
    assert as_typed("k", parameter, "s") == typed
    override = OverridesParser.create().parse_override(f"k={typed}")
    if "value" in parameter:  # and Hydra reads the same from it
        assert override.value() == parameter["value"]
    elif "values" in parameter:
        assert [getattr(value, "text", value) for value in override.sweep_iterator()] == parameter["values"]


def test_what_hydra_cannot_say_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"sweep.study=s: k has distribution normal; Hydra can say uniform"):
        as_typed("k", {"min": 0, "max": 1, "distribution": "normal"}, "s")


@pytest.mark.parametrize("name", ["temprature", "temperature.yml"])
def test_an_unknown_study(name):
    with pytest.raises(UserError, match=r"allowed are bayes, estimators, latent_shape, reinmax_table, temp") as raised:
        read_study(name)
    assert "did you mean temperature?" in str(raised.value)


def test_a_file_that_is_no_study(tmp_path):
    (tmp_path / "x.yaml").write_text("program: run.py")
    with pytest.raises(UserError, match="not a W&B sweep file"):
        read_study(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_the_hydra_grid_has_the_points_of_the_wandb_grid(path):
    parameters = yaml.safe_load(path.read_text())["parameters"]
    values = [[f"{k}={v}" for v in p.get("values", [p.get("value")])] for k, p in parameters.items()]
    expected = {tuple(point) for point in itertools.product(*values)}
    settings = [f"{key}={text}" for key, text in read_study(path.stem).settings.items()]
    assert {tuple(point) for point in points(settings, [])} == expected


@pytest.mark.parametrize("path", WANDB, ids=lambda path: path.stem)
def test_its_first_and_last_points_compose(path):
    """A range's ends stand for it."""
    parameters = yaml.safe_load(path.read_text())["parameters"]
    for place, bound in ((0, "min"), (-1, "max")):
        point = [
            f"{k}={p['values'][place] if 'values' in p else p.get('value', p.get(bound))}"
            for k, p in parameters.items()
        ]
        cfg, _ = compose_row(point)
        check(cfg)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_file_names_itself_and_its_commands(path):
    content = yaml.safe_load(path.read_text())
    assert content["name"] == path.stem
    assert content["project"] == Tracking.project  # where the runs of its Hydra sweep go
    assert content["program"] == "run.py"
    assert f"python run.py -m sweep.study={path.stem}" in path.read_text()
    if path in WANDB:
        assert f"wandb sweep sweeps/{path.name}" in path.read_text()


def test_the_command_line_counts_more_than_the_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = (
        "-m sweep.study=temperature experiment=debug data=digits training.epochs=1 evaluation.iwae_samples=2 "
        "tau.init=0.5 seed=0 tracking.images_every=0"
    )
    done = run_py(*shlex.split(arguments))
    assert done.code == 0, done.err
    assert "Sweep temperature: 2 runs, 2 to do" in done.out
    assert len(list((tmp_path / "multirun" / "temperature").glob("sampling-*"))) == 2
