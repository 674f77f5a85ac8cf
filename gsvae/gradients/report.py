"""What the laboratory found, as a table on a terminal, as ``gradients.json`` and as ``gradients.csv``."""

import csv
import io
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gsvae.files import write_atomically, write_json
from gsvae.gradients.lab import Report, Row
from gsvae.tracking.run_folder import finite_or_none

__all__ = ["about", "records", "render", "write_files"]

COLUMNS = ("estimator", "τ", "bias² / ‖g*‖²", "variance / ‖g*‖²", "cosine", "error / ‖g*‖", "time", "decoder calls")


def render(report: Report) -> RenderableType:
    """The table, what its numbers are relative to, and who is missing."""
    table = Table(title=Text(title(report)), title_justify="left")
    for index, column in enumerate(COLUMNS):
        table.add_column(Text(column), justify="right" if index else "left", no_wrap=True)
    for row, following in zip(report.rows, [*report.rows[1:], None]):
        last = following is None or following.estimator != row.estimator
        table.add_row(*map(Text, cells(row)), end_section=last)
    notes = [Text(f"{name}: left out, {reason}") for name, reason in report.left_out.items()]
    return Group(table, *map(Text, legend(report)), *notes)


def title(report: Report) -> str:
    s, run = report.settings, report.run
    what = "the encoder's parameters" if s.wrt == "encoder" else "each image's logits"
    return (
        f"{run.folder}: gradient to {what} at step {run.step} ({run.checkpoint.name}), "
        f"{s.split} images 1 to {report.n_images}"
    )


def legend(report: Report) -> list[str]:
    """What the numbers mean."""
    return [
        f"g*: {report.reference}; ‖g*‖ = {report.norm:.4g} nats. {report.settings.draws} draws of each estimator.",
        "bias² is corrected by variance/N, ± its standard error; (0): not told from 0. error: √(bias² + variance).",
        f"time: of a training step without the optimiser's, in steps of soft, on {device_name(report)}. "
        "decoder calls: of a step, for each image.",
    ]


def device_name(report: Report) -> str:
    device = report.run.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def cells(row: Row) -> list[str]:
    m = row.measured
    exact = m.variance == 0 and not m.is_biased
    bias2 = "0" if exact else f"{m.bias2:.2g} ± {m.bias2_se:.1g}{'' if m.is_biased else ' (0)'}"
    return [
        f"{row.estimator} ({row.weights})" if row.weights else row.estimator,
        "–" if row.tau is None else f"{row.tau:g}",
        bias2,
        f"{m.variance:.3g}",
        f"{m.cosine:.3f}",
        f"{m.relative_error:.3g}",
        f"{row.time_ratio:.2f}",
        f"{row.decoder_calls:,}",
    ]


# ---------------------------------------------------------------- files


def records(report: Report) -> list[dict[str, Any]]:
    """A row for each estimator and temperature, every number by its name."""
    return [
        {
            "estimator": row.estimator,
            "weights": row.weights,
            "tau": row.tau,
            **{name: finite_or_none(value) for name, value in row.measured.numbers().items()},
            "is_biased": row.measured.is_biased,
            "decoder_calls": row.decoder_calls,
            "seconds": row.seconds,
            "time_ratio": row.time_ratio,
        }
        for row in report.rows
    ]


def about(report: Report) -> dict[str, Any]:
    """What was measured on what."""
    return {
        "run": str(report.run.folder),
        "checkpoint": str(report.run.checkpoint),
        **{key: report.run.state.get(key) for key in ("step", "epoch", "run_id")},
        "settings": {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(report.settings).items()},
        "n_images": report.n_images,
        "device": device_name(report),
        "reference": report.reference,
        "reference_remaining_variance": report.remaining if math.isfinite(report.remaining) else None,
        "norm": finite_or_none(report.norm),
        "left_out": report.left_out,
    }


def write_files(report: Report, folder: Path) -> list[Path]:
    """Write ``gradients.json`` and ``gradients.csv``."""
    rows = records(report)
    write_json(folder / "gradients.json", {**about(report), "rows": rows})
    out = io.StringIO()
    sheet = csv.DictWriter(out, list(rows[0]))
    sheet.writeheader()
    sheet.writerows(rows)
    write_atomically(folder / "gradients.csv", lambda file: file.write(out.getvalue().encode()))
    return [folder / "gradients.json", folder / "gradients.csv"]
