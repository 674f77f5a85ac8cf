"""The README's commands and error messages, as they stand there."""

import re
import shlex

import pytest
from command_line import RUN_PY, run_py

README = (RUN_PY.parent / "README.md").read_text()
COMMANDS = re.findall(r"^python run\.py (.*?)(?: +#.*)?$", README, re.M)
COMPOSED = [c for c in COMMANDS if not re.search(r"^-|resume=", c)]
ERRORS = re.findall(r"^\$ python run\.py (.*)\n(error: .*)$", README, re.M)


def test_the_readme_has_them():
    assert len(COMPOSED) >= 3
    assert len(ERRORS) >= 2
    assert sum("-m" in c.split() for c in COMMANDS) >= 3  # planned in test_docs.py


@pytest.mark.parametrize("command", COMPOSED)
def test_a_command_composes(command):
    done = run_py("--cfg", "job", "--resolve", *shlex.split(command))
    assert done.code == 0, done.err
    for setting in shlex.split(command):
        key, value = setting.split("=", 1)
        if "." in key:
            assert re.search(rf"^ +{key.split('.')[-1]}: {re.escape(value)}$", done.out, re.M), setting


@pytest.mark.parametrize(("command", "line"), ERRORS)
def test_an_error_message_is_the_one_shown(command, line):
    done = run_py(*shlex.split(command))
    assert done.code == 2
    assert done.err == line + "\n"


def test_help_and_completion_commands_are_there():
    assert "--help" in COMMANDS
    assert "--cfg job --resolve" in COMMANDS
    assert run_py("-sc", "install=bash").code == 0
