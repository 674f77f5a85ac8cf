"""The command lines of the tools that measure runs afterwards: what they share, and mistakes that cost one line."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

__all__ = ["Parser", "at_least", "folder_for", "refuse", "temperatures"]


class Parser(argparse.ArgumentParser):
    """A command line about run folders; a mistake in it ends in one line, with exit code 2."""

    def __init__(self, tool: str, description: str | None, runs: str) -> None:
        super().__init__(prog=f"python -m {tool}", description=description)
        add = self.add_argument
        add("folders", nargs="+", type=Path, metavar="RUN_FOLDER", help=runs)
        add("--checkpoint", default="best", metavar="best|last|PATH", help="whose weights (default: best)")
        add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
        add("--data-root", metavar="DIR", help="where the images are now (default: the run's data.root)")
        add("--out", type=Path, metavar="DIR", help="where to write (default: the run's folder)")
        add("--wandb", action="store_true", help="send what was found to W&B as well, beside the run")

    def error(self, message: str) -> NoReturn:
        refuse(message)
        sys.exit(2)


def refuse(message: str) -> None:
    """One line on stderr."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def folder_for(run: Path, args: argparse.Namespace, *, several: bool) -> Path:
    """Where a run's files go: into its folder, or under ``--out``."""
    out: Path | None = args.out
    return run if out is None else out / run.resolve().name if several else out


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag that takes a whole number."""

    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: must be a whole number, at least {least}")
        return int(text)

    return whole


def temperatures(text: str) -> tuple[float, ...]:
    """``1,0.5`` as numbers, ascending, each once."""
    try:
        found = {float(part) for part in text.split(",")}
    except ValueError:
        found = {0.0}
    if not all(math.isfinite(tau) and tau > 0 for tau in found):
        raise argparse.ArgumentTypeError(f"{text}: must be numbers above 0, with commas between them")
    return tuple(sorted(found))
