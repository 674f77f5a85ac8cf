"""``python -m gsvae.compare PATH...``: sweeps and runs side by side, ranked or as a paper's table."""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from gsvae.compare import write
from gsvae.compare.comparison import compare
from gsvae.compare.page import write_page
from gsvae.compare.runs import read_commands
from gsvae.compare.sheet import write_sheet
from gsvae.compare.table import WIDTH, render
from gsvae.errors import UserError


def main() -> None:
    """Print the table; write summary.csv and comparison.html, beside the runs of one sweep or here."""
    parser = argparse.ArgumentParser(prog="python -m gsvae.compare", description="Compare the runs of sweeps.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a sweep's folder, or a run's")
    parser.add_argument("--metric", help="rank by this number of summary.json (default: val/neg_elbo)")
    parser.add_argument("--maximize", action="store_true", default=None, help="more of it is better")
    parser.add_argument("--out", type=Path, help="the page (default: comparison.html in the sweep's folder, or here)")
    paper = parser.add_argument_group("a paper's table", "one setting down, others across, mean ± sd over seeds")
    paper.add_argument("--rows", metavar="KEY", help="the setting that goes down: sampling")
    paper.add_argument("--columns", metavar="KEY,KEY", help="the settings that go across: model.n_cat,model.n_latent")
    paper.add_argument("--metrics", metavar="NAME,NAME", help="numbers of summary.json (default: test/neg_elbo)")
    paper.add_argument("--published", type=Path, metavar="FILE", help="published figures to set beside ours (YAML)")
    args = parser.parse_args()
    try:
        if args.rows or args.columns or args.metrics or args.published:
            paper_table(args)
            return
        comparison = compare(args.paths, args.metric, maximize=args.maximize)
        Console(width=None if sys.stdout.isatty() else WIDTH).print(render(comparison))
        if args.out:
            write_page(comparison, args.out)
            write_sheet(comparison, args.out.with_suffix(".csv"))
            print(f"{args.out}, {args.out.with_suffix('.csv')}")
        else:
            folder = place(args.paths)
            write(comparison, folder)
            print(f"{folder / 'comparison.html'}, {folder / 'summary.csv'}")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def place(paths: list[Path]) -> Path:
    """Where results go that are given no place: a sweep's own folder, else here."""
    one_sweep = len(paths) == 1 and not (paths[0] / "status.json").is_file()
    return paths[0] if one_sweep else Path()


def paper_table(args: argparse.Namespace) -> None:
    """Print the table; write it beside the runs of one sweep, here, or where it was asked for."""
    from gsvae.compare.paper import pivot, read_published, write_paper
    from gsvae.compare.paper.terminal import render_paper

    if not args.rows or not args.columns:
        raise UserError("a paper's table needs --rows KEY and --columns KEY,KEY")
    if args.metric or args.maximize:
        raise UserError("--metric, --maximize: are of the ranking; a paper's table has --metrics")
    path = args.out or place(args.paths) / "table.md"
    if path.suffix != ".md":
        raise UserError(f"--out {path}: expected a .md; its .csv and .png go beside it")
    commands = [command for folder in args.paths for command in read_commands(folder)]
    commands.append(shlex.join(["python", "-m", "gsvae.compare", *sys.argv[1:]]))
    table = pivot(
        compare(args.paths),
        args.rows,
        names(args.columns),
        names(args.metrics or "test/neg_elbo"),
        read_published(args.published) if args.published else None,
        commands,
    )
    Console(width=None if sys.stdout.isatty() else WIDTH).print(render_paper(table))
    print(", ".join(map(str, write_paper(table, path))))


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()
