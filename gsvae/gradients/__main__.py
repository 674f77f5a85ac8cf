"""``python -m gsvae.gradients RUN_FOLDER...``: bias and variance of gradient estimators at a run's checkpoint."""

import argparse
import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gsvae.errors import UserError

if TYPE_CHECKING:
    from gsvae.gradients.lab import Settings

log = logging.getLogger(__name__)

WIDTH = 150  # characters of a line, where there is no terminal


def parser() -> argparse.ArgumentParser:
    """The command line's flags."""
    made = argparse.ArgumentParser(
        prog="python -m gsvae.gradients",
        description="Measure bias, variance and cost of gradient estimators at a run's checkpoint.",
    )
    add = made.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN_FOLDER")
    add("--estimators", metavar="NAMES", help="such as soft,rloo(n_samples=8),own (default: all, and the run's own)")
    add("--tau", default="0.1,0.3,0.5,1,2", metavar="VALUES", help="temperatures (default: %(default)s)")
    add("--draws", type=int, default=1000, help="of each estimator at each τ (default: %(default)s)")
    add("--images", type=int, default=100, help="the first of the split (default: %(default)s)")
    add("--split", choices=("train", "val", "test"), default="test", help="(default: %(default)s)")
    add("--wrt", choices=("encoder", "logits"), default="encoder", help="gradient to what (default: %(default)s)")
    add("--checkpoint", default="best", metavar="best|last|PATH", help="(default: %(default)s)")
    add("--reference", choices=("auto", "exact", "rloo"), default="auto", help="auto: exact where K^L permits")
    add("--reference-draws", type=int, default=2000, help="of RLOO with 16 samples, where not (default: %(default)s)")
    add("--seed", type=int, default=0, help="of all noise (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    add("--data-root", metavar="DIR", help="where the data are, if not where the run had them")
    add("--out", type=Path, metavar="DIR", help="where to write (default: the run folder)")
    add("--wandb", action="store_true", help="send table, figure and numbers to W&B as well")
    made.error = fail  # type: ignore[method-assign]
    return made


def main() -> None:
    """Measure each run, print a table, write gradients.json, gradients.csv and gradients.png."""
    args = parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    try:
        given = checked(args)
        from gsvae.gradients.lab import Settings  # torch, once the flags are known to be right

        settings = Settings(**given)
        for run in args.runs:
            look_first(run, settings, wandb=args.wandb)
        for run in args.runs:
            folder = run if args.out is None else args.out if len(args.runs) == 1 else args.out / run.resolve().name
            measure_run(run, settings, folder, wandb=args.wandb)
    except (UserError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("stopped by SIGINT; nothing was written of the run under way", file=sys.stderr)
        sys.exit(130)


def measure_run(run: Path, settings: "Settings", folder: Path, *, wandb: bool) -> None:
    """Measure a run and write what was found."""
    from gsvae.gradients.figure import draw
    from gsvae.gradients.lab import investigate
    from gsvae.gradients.report import render, write_files
    from gsvae.gradients.sending import send

    progress = Shown(run.name)
    try:
        report = investigate(run, settings, progress)
    finally:
        progress.close()
    files = write_files(report, folder)
    draw(report, figure := folder / "gradients.png")
    Console(width=None if sys.stdout.isatty() else WIDTH).print(render(report))
    print(", ".join(map(str, [*files, figure])))
    if wandb:
        send(report, figure, folder)


def look_first(run: Path, settings: "Settings", *, wandb: bool) -> None:
    """Find out what would be in vain before anything is measured.

    Raises:
        UserError: no checkpoint, or W&B is to be online and there is no login.
    """
    from gsvae.gradients.lab import checkpoint_of, config_of, read
    from gsvae.gradients.sending import mode_of

    path = checkpoint_of(run, settings.checkpoint)
    if wandb:
        mode_of(dict(config_of(read(path), settings).tracking))


# ---------------------------------------------------------------- flags


def checked(args: argparse.Namespace) -> dict[str, Any]:
    """The laboratory's settings, their values held against what they may be.

    Raises:
        UserError: naming the flag, the value and what is allowed.
    """
    for flag, least in {"draws": 10, "images": 1, "reference_draws": 10, "seed": 0}.items():
        if getattr(args, flag) < least:
            raise UserError(f"--{flag.replace('_', '-')} {getattr(args, flag)}: must be at least {least}")
    names = ("draws", "images", "split", "wrt", "checkpoint", "reference", "reference_draws", "seed", "device")
    given = {name: getattr(args, name) for name in (*names, "data_root")}
    return {**given, "taus": temperatures(args.tau), "estimators": estimators(args.estimators)}


def temperatures(text: str) -> tuple[float, ...]:
    """``0.1,0.5,1`` as numbers, in ascending order."""
    found = set()
    for word in text.split(","):
        try:
            tau = float(word)
        except ValueError:
            raise UserError(f"--tau {text}: {word!r} is not a number; expected some such as 0.1,0.5,1") from None
        if not (math.isfinite(tau) and tau > 0):
            raise UserError(f"--tau {text}: {word.strip()} must be above 0")
        found.add(tau)
    return tuple(sorted(found))


def estimators(text: str | None) -> list[str] | None:
    """The names asked for, or None for all."""
    if text is None:
        return None
    from gsvae.gradients.estimators import names_in

    names = list(dict.fromkeys(names_in(text)))
    if not names:
        raise UserError("--estimators: expected names, such as soft,hard,rloo")
    return names


def fail(message: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


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
