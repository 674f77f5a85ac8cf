"""``python -m gsvae.workspace SWEEP_FOLDER``: a W&B workspace with the panels of our comparison for a sweep's group."""

import argparse
import sys
from pathlib import Path
from typing import Any

from gsvae.compare import compare
from gsvae.compare.comparison import Comparison
from gsvae.errors import UserError
from gsvae.tracking.wandb_service import choose_mode

__all__ = ["build", "main"]

SCORES = ("val/neg_elbo", "test/neg_elbo")
CURVES = ("val/neg_elbo", "train/loss", "train/kl", "codes/active")
IMAGES = ("images/reconstructions", "images/samples")


def build(comparison: Comparison, entity: str, project: str) -> Any:
    """The workspace of a sweep's W&B group, not yet saved.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError:
        raise UserError("needs wandb-workspaces: pip install -e '.[workspaces]'") from None
    keys = [config_key(comparison, key) for key in comparison.keys]
    numeric = [key for key in comparison.keys if is_numeric(comparison, key)]
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(key)) for key in keys]
    columns.append(wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(SCORES[0])))
    scatter = [wr.ScatterPlot(x=wr.Config(key), y=wr.SummaryMetric(score)) for key in numeric for score in SCORES]
    curves = [
        wr.LinePlot(x="step", y=[name], groupby_aggfunc="mean", groupby_rangefunc="minmax", title=name)
        for name in CURVES
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"sweep {comparison.name}",
        sections=[
            ws.Section(name="Final numbers", panels=[*scatter, wr.ParallelCoordinatesPlot(columns)], is_open=True),
            ws.Section(name="Training", panels=curves, is_open=True),
            ws.Section(name="Pictures", panels=[wr.MediaBrowser(media_keys=list(IMAGES))], is_open=True),
            ws.Section(name="Settings", panels=[wr.RunComparer(diff_only=True)]),
        ],
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=[ws.Metric("Group") == comparison.name], groupby=[ws.Config(key) for key in keys]
        ),
    )


def config_key(comparison: Comparison, key: str) -> str:
    """Where W&B's config has a setting; a choice is known by what it makes."""
    return key if any(key in run.settings for run in comparison.runs) else f"{key}._target_"


def is_numeric(comparison: Comparison, key: str) -> bool:
    return all(isinstance(group.values[key], int | float) for group in comparison.groups)


def main() -> None:
    """Build it, save it, print its address."""
    parser = argparse.ArgumentParser(prog="python -m gsvae.workspace", description=__doc__)
    parser.add_argument("sweep", type=Path, metavar="SWEEP_FOLDER")
    parser.add_argument("--project", default="gsvae")
    parser.add_argument("--entity", help="default: the one you are logged in as")
    args = parser.parse_args()
    try:
        comparison = compare([args.sweep])
        if not comparison.keys:
            raise UserError(f"{args.sweep}: its runs differ in nothing but their seed")
        choose_mode("online")
        import wandb

        entity = args.entity or wandb.Api().default_entity
        workspace = build(comparison, str(entity), args.project)
        try:
            workspace.save()
        except Exception as error:  # the library raises all kinds for a service that refuses
            raise UserError(f"W&B did not take the workspace: {str(error).splitlines()[0]}") from error
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{workspace.url}\nfor the W&B group {comparison.name}, grouped by {', '.join(comparison.keys)}")


if __name__ == "__main__":
    main()
