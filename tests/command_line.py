"""Command lines inside this process, so that torch is imported once for all tests."""

import contextlib
import io
import logging
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

RUN_PY = Path(__file__).parents[1] / "run.py"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def run_py(*arguments: str) -> Done:
    """``python run.py`` in the working folder."""
    return run_main(partial(runpy.run_path, str(RUN_PY), run_name="__main__"), *arguments)


def run_main(main: Callable[[], object], *arguments: object) -> Done:
    """Run what a command line calls, and put the process back as it was."""
    argv, path, environ = sys.argv, list(sys.path), dict(os.environ)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = [str(RUN_PY), *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
            except Exception:
                traceback.print_exc()
                code = 1
    finally:
        GlobalHydra.instance().clear()
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers, root.level = handlers, level
        sys.argv, sys.path[:] = argv, path
        os.environ.clear()
        os.environ.update(environ)
    return Done(code, out.getvalue(), err.getvalue())
