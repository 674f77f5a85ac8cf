"""``python -m gsvae.workspace SWEEP_FOLDER``: a W&B workspace with the panels of our comparison for a sweep's group."""

import argparse
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from gsvae.compare import compare
from gsvae.compare.comparison import Comparison
from gsvae.errors import UserError
from gsvae.tracking.wandb_service import choose_mode, first_line, reachable

__all__ = ["Place", "build", "main", "place_of"]

SCORES = ("val/neg_elbo", "test/neg_elbo")
CURVES = ("val/neg_elbo", "train/loss", "train/kl", "codes/active")
IMAGES = ("images/reconstructions", "images/samples")
NOT_IN_FILTERS = re.compile(r"['\"=<>\\]")  # wandb-workspaces 0.4 reads filters as text, and these wrongly


@dataclass(frozen=True)
class Place:
    """Where runs are in W&B; no entity stands for one's own."""

    entity: str | None
    project: str
    group: str


def place_of(comparison: Comparison) -> Place:
    """Where the runs of a sweep are in W&B, as their settings say.

    Raises:
        UserError: not in one group.
    """
    places = set()
    for run in comparison.runs:
        path = run.folder / ".hydra" / "config.yaml"
        if path.is_file():
            tracking = yaml.safe_load(path.read_text())["tracking"]
            places.add((tracking["entity"], tracking["project"], tracking["group"]))
    if len(places) != 1 or None in {group for _, _, group in places}:
        groups = ", ".join(sorted(str(group) for _, _, group in places)) or "none"
        raise UserError(f"{comparison.name}: its runs are not one group of W&B (tracking.group: {groups})")
    return Place(*places.pop())


def build(comparison: Comparison, place: Place) -> Any:
    """The workspace of a sweep's W&B group, not yet saved.

    Raises:
        UserError: wandb-workspaces is not installed, or cannot say what the group is called.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError:
        raise UserError("needs wandb-workspaces: pip install -e '.[workspaces]'") from None
    if NOT_IN_FILTERS.search(place.group):
        raise UserError(f"tracking.group={place.group}: a workspace cannot filter by a name with quotes or = < >")
    keys = [config_key(comparison, key) for key in comparison.keys]
    numeric = [key for key in comparison.keys if is_numeric(comparison, key)]
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(key)) for key in keys]
    columns.append(wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(SCORES[0])))
    scatter: list[Any] = [
        wr.ScatterPlot(x=wr.Config(key), y=wr.SummaryMetric(score)) for key in numeric for score in SCORES
    ]
    curves: list[Any] = [
        wr.LinePlot(x="step", y=[name], groupby_aggfunc="mean", groupby_rangefunc="minmax", title=name)
        for name in CURVES
    ]
    return ws.Workspace(
        entity=str(place.entity),
        project=place.project,
        name=f"sweep {comparison.name}",
        sections=[
            ws.Section(name="Final numbers", panels=[*scatter, wr.ParallelCoordinatesPlot(columns)], is_open=True),
            ws.Section(name="Training", panels=curves, is_open=True),
            ws.Section(name="Pictures", panels=[wr.MediaBrowser(media_keys=list(IMAGES))], is_open=True),
            ws.Section(name="Settings", panels=[wr.RunComparer(diff_only=True)]),
        ],
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("Group") == place.group), groupby=[ws.Config(key) for key in keys]
        ),
    )


def config_key(comparison: Comparison, key: str) -> str:
    """Where W&B's config has a setting, or a choice (``model`` for tiny or small, which are one class)."""
    choices = {group.replace("/", "."): group for run in comparison.runs for group in run.choices}
    is_setting = any(key in run.settings for run in comparison.runs)
    return key if is_setting or key not in choices else f"choices.{choices[key]}"


def is_numeric(comparison: Comparison, key: str) -> bool:
    values = [group.values[key] for group in comparison.groups]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def save(comparison: Comparison, place: Place) -> Any:
    """Build and save the workspace.

    Raises:
        UserError: no login, no service, none of the group's runs there, or it does not take the workspace.
    """
    import wandb

    choose_mode("online")
    url = wandb.setup().settings.base_url
    if not reachable(url):
        raise UserError(f"no answer from {url}")
    try:
        api = wandb.Api()
        place = replace(place, entity=place.entity or api.default_entity)
        project = f"{place.entity}/{place.project}"
        if not len(api.runs(project, {"group": place.group})):
            raise UserError(f"{project} has no run of group {place.group}; offline runs are sent with: wandb sync")
        workspace = build(comparison, place)
        workspace.save()
    except UserError:
        raise
    except Exception as error:  # the libraries raise all kinds for a service that refuses
        raise UserError(f"W&B: {first_line(error)}") from error
    return workspace


def main() -> None:
    """Build it, save it, print its address."""
    parser = argparse.ArgumentParser(prog="python -m gsvae.workspace", description=__doc__)
    parser.add_argument("sweep", type=Path, metavar="SWEEP_FOLDER")
    parser.add_argument("--project", help="default: the one in the runs' settings")
    parser.add_argument("--entity", help="default: the one in the runs' settings, or who you are logged in as")
    args = parser.parse_args()
    try:
        comparison = compare([args.sweep])
        if not comparison.keys:
            raise UserError(f"{args.sweep}: its runs differ in nothing but their seed")
        place = place_of(comparison)
        place = replace(place, project=args.project or place.project, entity=args.entity or place.entity)
        workspace = save(comparison, place)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{workspace.url}\nfor the W&B group {place.group}, grouped by {', '.join(comparison.keys)}")


if __name__ == "__main__":
    main()
