"""The examples of docs/extending.md, run as they stand there."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from command_line import RUN_PY, run_py

DOCUMENT = (RUN_PY.parent / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", DOCUMENT, re.M | re.S)
COMMANDS = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines()]
QUICK = ["training.steps=3", "evaluation.iwae_samples=2", "tracking=disabled", "hydra.run.dir=run"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the document's files; blocks of one file follow each other."""
    files: dict[str, str] = {}
    for language, text in BLOCKS:
        if language in ("python", "yaml"):
            name, body = text.removeprefix("# ").split("\n", 1)
            files[name] = files.get(name, "") + body
    folder = tmp_path_factory.mktemp("user")
    for name, body in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(body)
    yield folder
    sys.modules.pop("my_things", None)


def config_and_numbers(folder: Path) -> tuple[dict, dict]:
    config = yaml.safe_load((folder / "run" / ".hydra" / "config.yaml").read_text())
    assert json.loads((folder / "run" / "status.json").read_text())["state"] == "finished"
    return config, json.loads((folder / "run" / "summary.json").read_text())


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("python")])
def test_an_example_runs(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    arguments = shlex.split(command.removeprefix("python run.py"))
    done = run_py(*arguments, *QUICK)
    assert done.code == 0, done.err
    config, numbers = config_and_numbers(folder)
    assert numbers["test/neg_elbo"] > 0
    for argument in arguments:
        if re.match(r"\+?[a-z.]+\.[a-z_]+=", argument):
            key, value = argument.lstrip("+").split("=")
            *parents, name = key.split(".")
            node = config
            for parent in parents:
                node = node[parent]
            assert str(node[name]) == value or float(node[name]) == float(value)


def test_an_example_on_pythonpath_runs(folder: Path) -> None:
    (command,) = [line for line in COMMANDS if not line.startswith("python")]
    command = command.replace("python run.py", f"{shlex.quote(sys.executable)} {shlex.quote(str(RUN_PY))}")
    done = subprocess.run(
        f"{command} {' '.join(QUICK)}", shell=True, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    config, _ = config_and_numbers(folder)
    assert config["sampling"]["_target_"] == "in_lib.Elsewhere"


def test_there_is_an_example_for_each_part() -> None:
    told = {match[1] for line in COMMANDS if (match := re.search(r"([a-z.]+)\._target_=", line))}
    assert told == {"sampling", "model", "data", "tau", "optim.schedule", "optim"}


def test_settings_reach_the_users_class(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gain of 1 is sampling=soft to the last bit, another is not; and tau is the user's."""
    monkeypatch.chdir(folder)
    mine = ["sampling=custom", "sampling._target_=my_things.MySampler", "allow_targets=[my_things]"]
    losses = []
    for sampling in (["sampling=soft"], [*mine, "+sampling.gain=1"], [*mine, "+sampling.gain=0"]):
        assert run_py(*sampling, *QUICK).code == 0
        losses.append(json.loads((folder / "run" / "history.jsonl").read_text().splitlines()[0])["train/loss"])
    assert losses[0] == losses[1] != losses[2]
    tau = ["tau=custom", "tau._target_=my_things.MyTau", "+tau.high=3", "+tau.every=1", "allow_targets=[my_things]"]
    assert run_py(*tau, *QUICK).code == 0
    first = json.loads((folder / "run" / "history.jsonl").read_text().splitlines()[0])
    assert first["train/tau"] == 0.75  # at the third step


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sampling._target_=my_things.MySampler"], ["my_things.MySampler", "add allow_targets=[my_things]"]),
        (
            ["sampling._target_=my_things.MySampler", "+sampling.gian=2", "allow_targets=[my_things]"],
            ["sampling.gian=2", "it takes gain", "did you mean sampling.gain?"],
        ),
        (
            ["model=custom", "model._target_=my_things.MyModel", "+model.depth=2", "allow_targets=[my_things]"],
            ["model.depth=2", "it takes width, n_latent, n_cat, prior, init_bias"],
        ),
        (["tau=custom", "tau._target_=my_things.MyTau", "allow_targets=[my_things]"], ["+tau.high=..."]),
    ],
)
def test_mistakes_with_ones_own_class_cost_one_line(
    arguments: list[str], words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = run_py(*arguments, *QUICK[:-1])
    assert done.code == 2
    assert re.fullmatch(r"error: [^\n]+\n", done.err), done.err
    assert [word for word in words if word not in done.err] == []
