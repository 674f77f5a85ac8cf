"""``python -m gsvae.gradients RUN_FOLDER...``: bias and variance of gradient estimators at a run's checkpoint."""

import argparse
import logging
import re
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gsvae.errors import UserError
from gsvae.flags import Parser, at_least, folder_for, refuse, temperatures

log = logging.getLogger(__name__)

WIDTH = 150  # characters of a line, where there is no terminal


def parse() -> argparse.Namespace:
    """The command line's arguments; a mistake ends in one line."""
    about = "Measure bias, variance and cost of gradient estimators at a run's checkpoint."
    add = (parser := Parser("gsvae.gradients", about, "a run's folder")).add_argument
    add(
        "--estimators", type=names, metavar="A,B", help="such as soft,rloo(n_samples=8),own (default: all, and its own)"
    )
    add(
        "--tau", type=temperatures, default="0.1,0.3,0.5,1,2", metavar="T,T", help="temperatures (default: %(default)s)"
    )
    add("--draws", type=at_least(10), default=1000, help="of each estimator at each τ (default: %(default)s)")
    add("--images", type=at_least(1), default=100, help="the first of the split (default: %(default)s)")
    add("--split", choices=("train", "val", "test"), default="test", help="(default: %(default)s)")
    add("--wrt", choices=("encoder", "logits"), default="encoder", help="gradient to what (default: %(default)s)")
    add("--reference", choices=("auto", "exact", "rloo"), default="auto", help="auto: exact where K^L permits")
    add("--reference-draws", type=at_least(10), default=2000, help="of RLOO with 16 samples (default: %(default)s)")
    add("--seed", type=at_least(0), default=0, help="of all noise (default: %(default)s)")
    return parser.parse_args()


def names(text: str) -> list[str]:
    """Split ``soft,rloo(n_samples=8)`` at the commas outside of parentheses."""
    found = [name for part in re.split(r",(?![^()]*\))", text) if (name := part.strip())]
    if not found:
        raise argparse.ArgumentTypeError("expected names, such as soft,hard,rloo")
    return list(dict.fromkeys(found))


def main() -> None:
    """Measure each run, print a table, write gradients.json, gradients.csv and gradients.png."""
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    try:
        for folder in args.folders:
            look_first(folder, args)
        for folder in args.folders:
            one(folder, args, several=len(args.folders) > 1)
    except (UserError, OSError) as error:
        refuse(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped by SIGINT; nothing was written of the run under way", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def look_first(folder: Path, args: argparse.Namespace) -> None:
    """Find out what would be in vain before anything is measured.

    Raises:
        UserError: no checkpoint, or W&B is to be online and there is no login.
    """
    from gsvae.loaded import read_settings  # torch, once the flags are known to be right
    from gsvae.tracking.wandb_service import check_login

    cfg = read_settings(folder, args.checkpoint)
    if args.wandb:
        check_login(cfg.tracking.mode)


def one(folder: Path, args: argparse.Namespace, *, several: bool) -> None:
    """Measure a run and write what was found."""
    from gsvae.gradients.figure import draw
    from gsvae.gradients.lab import Settings, investigate
    from gsvae.gradients.report import render, write_files
    from gsvae.gradients.sending import send
    from gsvae.loaded import load_run

    run = load_run(folder, args.checkpoint, args.device, args.data_root)
    settings = Settings(
        estimators=args.estimators,
        taus=args.tau,
        **{
            name: getattr(args, name)
            for name in ("draws", "images", "split", "wrt", "reference", "reference_draws", "seed")
        },
    )
    progress = Shown(folder.name)
    try:
        report = investigate(run, settings, progress)
    finally:
        progress.close()
    out = folder_for(folder, args, several=several)
    files = write_files(report, out)
    draw(report, figure := out / "gradients.png")
    Console(width=None if sys.stdout.isatty() else WIDTH).print(render(report))
    print(", ".join(map(str, [*files, figure])))
    if args.wandb:
        send(report, figure)


# ---------------------------------------------------------------- progress


class Shown:
    """A bar on a terminal, a line for each piece of work otherwise."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Progress | None = None
        if sys.stdout.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
            console = Console(file=sys.stdout)
            self._bar = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[words]}"), console=console)

    def begin(self, total: int) -> None:
        if self._bar:
            self._task = self._bar.add_task(self._name, total=total, words="reference")
            self._bar.start()

    def done(self, words: str) -> None:
        if self._bar:
            self._bar.update(self._task, advance=1, words=words)
        else:
            log.info("%s: %s", self._name, words)

    def close(self) -> None:
        if self._bar:
            self._bar.stop()


if __name__ == "__main__":
    main()
