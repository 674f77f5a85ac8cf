"""What is measured of a run afterwards, as a W&B run of its own beside it: same project, entity and group."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gsvae.tracking.run_folder import read_status
from gsvae.tracking.wandb_sink import WandbSettings, WandbSink

__all__ = ["Table", "log_afterwards"]

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Column names, and rows."""


def log_afterwards(
    cfg: DictConfig,
    folder: Path,
    job_type: str,
    metrics: Mapping[str, float],
    images: Mapping[str, Path] | None = None,
    tables: Mapping[str, Table] | None = None,
    *,
    step: int = 0,
    asked: Mapping[str, Any] | None = None,
) -> str:
    """Send numbers, PNG files and tables to W&B as the run ``NAME JOB_TYPE`` of the run's group.

    Whatever W&B does, this returns, within a bounded time; what goes wrong costs one warning in the log, and the
    client's own files can be sent later.

    Args:
        cfg: the run's settings; ``tracking.mode=disabled`` counts as auto, for here W&B was asked for.
        folder: the run folder; W&B's files go there.
        job_type: what was done, such as ``evaluation``.
        images: shown as ``images/NAME``; tables as ``NAME``.
        step: the global step that the weights are from.
        asked: joins the run's settings in the config, under ``job_type``: how it was measured.

    Returns:
        The id of the W&B run.
    """
    t = cfg.tracking
    status = read_status(folder)
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    name = status.get("name") or t.name or folder.resolve().name
    about = {"run_id": status.get("run_id"), "wandb_id": status.get("wandb_id"), "run_folder": str(folder)}
    measured = {job_type: dict(asked)} if asked else {}
    wandb_id = f"{status.get('run_id') or 'run'}-{job_type}-{secrets.token_hex(3)}"
    sink = WandbSink(
        WandbSettings(
            mode="auto" if t.mode == "disabled" else t.mode,
            project=t.project,
            entity=t.entity,
            name=f"{name} {job_type}",
            group=t.group,
            job_type=job_type,
            tags=list(t.tags),
            notes=t.notes,
            id=wandb_id,
            folder=folder,
            light=True,
            config={**{str(key): value for key, value in settings.items()}, **about, **measured},
        ),
        past=[],
    )
    sink.log(0, {"step": step, **metrics})
    if images:
        sink.images(0, images)
    for title, (columns, rows) in (tables or {}).items():
        sink.table(0, title, columns, rows)
    sink.summary(metrics)
    sink.close(0)
    sink.wait()
    return wandb_id
