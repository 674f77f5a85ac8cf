"""The laboratory's findings as a W&B run beside the measured one."""

import secrets
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gsvae.gradients.lab import Report
from gsvae.gradients.report import about, records
from gsvae.tracking import WandbSettings, read_status
from gsvae.tracking.wandb_service import choose_mode
from gsvae.tracking.wandb_sink import WandbSink

__all__ = ["mode_of", "send"]

JOB_TYPE = "gradients"


def mode_of(tracking: dict[str, Any]) -> str:
    """How to reach W&B: as the run did, or where it did not, as its default would.

    Raises:
        UserError: online, and there is no login.
    """
    mode = str(tracking.get("mode", "auto"))
    return choose_mode("auto" if mode == "disabled" else mode)


def send(report: Report, figure: Path, folder: Path) -> None:
    """Send the table, the figure and every number as a run of the measured run's project and group."""
    settings: Any = OmegaConf.to_container(report.config, resolve=True)
    tracking = settings["tracking"]
    measured = read_status(report.run)
    name = measured.get("name") or report.run.name
    sink = WandbSink(
        WandbSettings(
            mode=mode_of(tracking),
            project=tracking["project"],
            entity=tracking["entity"],
            name=f"{name} gradients",
            group=tracking["group"],
            job_type=JOB_TYPE,
            tags=tracking["tags"],
            notes=tracking["notes"],
            id=f"{report.state['run_id']}-{JOB_TYPE}-{secrets.token_hex(3)}",
            folder=folder,
            config={**settings, "gradients": about(report), "measured_wandb_id": measured.get("wandb_id")},
        ),
        past=[],
    )
    rows = records(report)
    step = {"step": report.state["step"], "epoch": report.state["epoch"]}
    sink.log(0, step)
    sink.table(0, "gradients", list(rows[0]), [list(row.values()) for row in rows])
    sink.images(0, {"gradients": figure})
    sink.summary({**step, **scalars(report)})
    sink.close(0)
    sink.wait()


def scalars(report: Report) -> dict[str, float]:
    """``gradient/soft/tau=0.5/bias2`` and its like, ``gradient/rloo/bias2`` where there is no temperature."""
    found: dict[str, float] = {}
    for row in report.rows:
        at = "" if row.tau is None else f"/tau={row.tau:g}"
        numbers = {name.partition("/")[2]: value for name, value in row.measured.metrics().items()}
        numbers |= {"decoder_calls": float(row.decoder_calls), "time_ratio": row.time_ratio}
        found |= {f"gradient/{row.estimator}{at}/{name}": value for name, value in numbers.items()}
    return found
