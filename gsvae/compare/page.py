"""``comparison.html``: one page with its data, its script and its plotting library inside, which opens offline."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from gsvae.compare.comparison import Comparison
from gsvae.compare.curves import curves
from gsvae.compare.groups import Group, images_of, shown
from gsvae.compare.runs import Run, is_number, states
from gsvae.compare.statistics import NOISE, score, welch_matrix
from gsvae.compare.thumbnails import pictures
from gsvae.files import write_atomically

__all__ = ["write_page"]

TEMPLATE = Path(__file__).parent / "template"
MOST_PICTURES = 40  # groups whose pictures are part of the page, the best
MOST_PAIRS = 300  # groups of which every pair is tested, so that filters keep their verdicts


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page."""
    from plotly.offline import get_plotlyjs

    data = page_data(comparison, path.resolve().parent)
    parts = {
        "{{style}}": (TEMPLATE / "page.css").read_text(),
        "{{plotly}}": get_plotlyjs(),
        "{{script}}": (TEMPLATE / "page.js").read_text(),
        "{{data}}": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),  # no tag, and no comment
    }
    page = (TEMPLATE / "page.html").read_text()
    for mark, content in parts.items():
        before, after = page.split(mark, 1)
        page = before + content + after
    write_atomically(path, lambda file: file.write(page.encode()))


def page_data(comparison: Comparison, place: Path) -> dict[str, Any]:
    """Everything the page shows; runs are named by their folders as seen from the page's."""
    p = noise(comparison)
    first = {id(group): rank for rank, (group, _) in enumerate(comparison.ranked)}
    numbers = {id(run): index for index, run in enumerate(comparison.runs)}
    metrics = sorted({name for run in comparison.runs for name in run.metrics})
    return {
        "name": comparison.name,
        "updated": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "states": states(comparison.runs),
        "protocols": sorted({images_of(run) for run in comparison.runs if run.protocol}),
        "warning": comparison.warning,
        "verdict": comparison.verdict,
        "metric": comparison.metric,
        "maximize": comparison.maximize,
        "keys": comparison.keys,
        "noise": NOISE,
        "unscored": len(comparison.unscored) if comparison.metric else 0,
        "metrics": metrics,
        "groups": [
            group_data(group, metrics, p[index], first.get(id(group), MOST_PICTURES) < MOST_PICTURES)
            | {"runs": [numbers[id(run)] for run in group.runs]}
            for index, group in enumerate(comparison.groups)
        ],
        "runs": [
            {
                "name": run.name,
                "folder": os.path.relpath(run.folder.resolve(), place),
                "state": run.state,
                "error": run.error,
                "seed": "" if run.seed is None else shown(run.seed),
                "metrics": run.metrics,
            }
            for run in comparison.runs
        ],
    }


def group_data(group: Group, metrics: list[str], p: list[float | None], with_pictures: bool) -> dict[str, Any]:
    """What the page shows of a group."""
    drawn = next((run for run in group.runs if run.state == "finished"), None)
    return {
        "label": group.label,
        "values": {key: shown(value) for key, value in group.values.items()},
        "numbers": {key: float(value) if is_number(value) else None for key, value in group.values.items()},
        "scores": {name: [s.n, s.mean, s.se] for name in metrics if (s := score(group, name))},
        "p": p,
        "curves": {state: curves(runs) for state, runs in by_state(group).items()},
        "kl": mean_kl(group),
        "pictures": pictures(drawn.folder) if drawn and with_pictures else {},
        "pictured": drawn.name if drawn else None,
    }


def noise(comparison: Comparison) -> list[list[float | None]]:
    """Welch's p of every group's difference to every group; of very many groups, only to the best."""
    scores = {id(group): found for group, found in comparison.ranked}
    in_order = [scores.get(id(group)) for group in comparison.groups]
    if len(in_order) <= MOST_PAIRS:
        return [[rounded(value) for value in row] for row in welch_matrix(in_order)]
    best = [group is comparison.ranked[0][0] if comparison.ranked else False for group in comparison.groups]
    to_best = [welch_matrix([found, comparison.ranked[0][1]])[0][1] if found else None for found in in_order]
    return [[rounded(value) if is_best else None for is_best in best] for value in to_best]


def rounded(p: float | None) -> float | None:
    """Three digits of a p are more than enough."""
    return None if p is None else float(f"{p:.3g}")


def by_state(group: Group) -> dict[str, list[Run]]:
    """A group's runs by state, so that a mean is never over finished runs and others."""
    found: dict[str, list[Run]] = {}
    for run in group.runs:
        found.setdefault(run.state, []).append(run)
    return found


def mean_kl(group: Group) -> list[float]:
    """KL of each latent, the largest first, averaged over the group's runs; latents have no order of their own."""
    rows = [sorted(run.kl_L, reverse=True) for run in group.runs if run.kl_L]
    if not rows or len({len(row) for row in rows}) > 1:
        return []
    return [round(sum(column) / len(rows), 4) for column in zip(*rows)]
