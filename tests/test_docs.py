"""The commands of README.md and docs/: sweeps are planned as they stand there, other commands exist."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from command_line import RUN_PY, run_py

ROOT = RUN_PY.parent
TEXTS = {
    name: (ROOT / name).read_text()
    for name in ("README.md", "docs/sweeps.md", "docs/evaluation.md", "docs/estimators.md")
}
BLOCKS = "\n".join(block for text in TEXTS.values() for block in re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S))
LINES = [line.split(" #")[0].strip() for line in BLOCKS.splitlines()]
SWEEPS = sorted({line for line in LINES if re.match(r"python run\.py -m ", line)})
MODULES = sorted(set(re.findall(r"python -m ([\w.]+)", "\n".join(TEXTS.values()))))
FILES = sorted(set(re.findall(r"(?:tests|benchmarks|sweeps|conf|docs)/[\w/.-]+\.\w+", "\n".join(TEXTS.values()))))


@pytest.mark.parametrize("command", SWEEPS)
def test_a_sweep_is_planned(command, tmp_path, monkeypatch):
    """Everything up to the first run: all of its jobs are composed and checked, and its folder is made."""
    monkeypatch.chdir(tmp_path)
    planned = []
    monkeypatch.setattr("gsvae.sweep.driver.Driver.run", lambda self, jobs, **_: planned.extend(jobs))
    monkeypatch.setattr("gsvae.sweep.trials.Search.tell", lambda *_: None)
    monkeypatch.setattr("gsvae.sweep.driver.Driver.end", lambda self: 0)
    one_seed = ["seed=0"] if "sweep.study=" in command else []  # of the 300 runs of a table, 30
    done = run_py(*shlex.split(command)[2:], *one_seed)
    assert done.code == 0, done.err
    assert len(planned) >= 4
    (folder,) = (tmp_path / "multirun").iterdir()
    named = dict(setting.split("=", 1) for setting in shlex.split(command) if setting.startswith("sweep."))
    if name := named.get("sweep.name", named.get("sweep.study")):
        assert folder.name == name


def test_there_are_such_commands():
    assert len(SWEEPS) >= 8
    assert any("submitit_slurm" in command for command in SWEEPS)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_there(module):
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_there(path):
    assert (ROOT / path).exists() or Path(path).name.startswith("study")


def test_the_launchers_and_sweepers_told_of_are_those_there_are():
    for group, text in (("launcher", TEXTS["docs/sweeps.md"]), ("sweeper", TEXTS["README.md"])):
        for path in (ROOT / "conf" / "hydra" / group).glob("*.yaml"):
            assert f"`{path.stem}`" in text
