"""``python -m gsvae.compare PATH...``: sweeps and runs side by side."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from gsvae.compare import write
from gsvae.compare.comparison import compare
from gsvae.compare.page import write_page
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
    args = parser.parse_args()
    try:
        comparison = compare(args.paths, args.metric, maximize=args.maximize)
        Console(width=None if sys.stdout.isatty() else WIDTH).print(render(comparison))
        one_sweep = len(args.paths) == 1 and not (args.paths[0] / "status.json").is_file()
        if args.out:
            write_page(comparison, args.out)
            write_sheet(comparison, args.out.with_suffix(".csv"))
            print(f"{args.out}, {args.out.with_suffix('.csv')}")
        else:
            folder = args.paths[0] if one_sweep else Path()
            write(comparison, folder)
            print(f"{folder / 'comparison.html'}, {folder / 'summary.csv'}")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
