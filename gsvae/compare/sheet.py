"""``summary.csv``: a row per run, for whatever else one wants to do with the numbers."""

import csv
import io
from pathlib import Path

from gsvae.compare.comparison import Comparison
from gsvae.compare.groups import shown, value_of
from gsvae.files import write_atomically

__all__ = ["write_sheet"]


def write_sheet(comparison: Comparison, path: Path) -> None:
    """Write the runs' states, the settings in which they differ, and all their final numbers."""
    metrics = sorted({name for run in comparison.runs for name in run.metrics})
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["folder", "name", "state", "error", *comparison.keys, "seed", *metrics])
    for run in comparison.runs:
        begun = run.state != "waiting"
        settings = [shown(value_of(run, key)) if begun else "" for key in comparison.keys]
        place = run.folder.relative_to(path.parent) if run.folder.is_relative_to(path.parent) else run.folder
        seed = "" if run.seed is None else shown(run.seed)
        numbers = [run.metrics.get(name, "") for name in metrics]
        rows.writerow([place, run.name, run.state, run.error or "", *settings, seed, *numbers])
    write_atomically(path, lambda file: file.write(out.getvalue().encode()))
