"""The table as CSV: a line per cell and metric."""

import csv
import io

from gsvae.compare.paper.pivot import Pivot

__all__ = ["as_csv"]


def as_csv(table: Pivot) -> str:
    """Row, column, metric, n, mean, sd, the verdict, the epochs, and the published mean."""
    out = io.StringIO()
    lines = csv.writer(out)
    lines.writerow([table.row_key, "×".join(table.column_keys), "metric", "n", "mean", "sd", "verdict", "epochs",
                    "published"])  # fmt: skip
    for column in table.columns:
        for row in table.rows:
            group = table.groups.get((row, column))
            epochs = sorted({run.settings.get("training.epochs", "") for run in group.runs}) if group else []
            for metric in table.metrics:
                score, theirs = table.score(row, column, metric), table.theirs(row, column, metric)
                numbers = [score.n, score.mean, "" if score.sd is None else score.sd] if score else [0, "", ""]
                verdict = table.verdicts.get((row, column, metric), "")
                lines.writerow([row, column, metric, *numbers, verdict, *(epochs or [""]),
                                "" if theirs is None else theirs])  # fmt: skip
    return out.getvalue()
