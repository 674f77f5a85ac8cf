"""The laboratory's findings as a W&B run beside the measured one."""

from pathlib import Path

from gsvae.gradients.lab import Report
from gsvae.gradients.report import about, records
from gsvae.tracking.afterwards import log_afterwards

__all__ = ["send"]


def send(report: Report, figure: Path) -> None:
    """Send the table, the figure and every number."""
    rows, run = records(report), report.run
    table = (list(rows[0]), [list(row.values()) for row in rows])
    log_afterwards(
        run.cfg,
        run.folder,
        "gradients",
        scalars(report),
        {"gradients": figure},
        {"gradients": table},
        step=run.step,
        asked=about(report),
    )


def scalars(report: Report) -> dict[str, float]:
    """``gradient/soft/tau=0.5/bias2`` and its like, ``gradient/rloo/bias2`` where there is no temperature."""
    found: dict[str, float] = {}
    for row in report.rows:
        at = "" if row.tau is None else f"/tau={row.tau:g}"
        numbers = {name.partition("/")[2]: value for name, value in row.measured.metrics().items()}
        numbers |= {"decoder_calls": float(row.decoder_calls), "time_ratio": row.time_ratio}
        found |= {f"gradient/{row.estimator}{at}/{name}": value for name, value in numbers.items()}
    return found
