"""``comparison.html``: one page with its data, its script and its plotting library inside, which opens offline."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from gsvae.compare.comparison import Comparison
from gsvae.compare.curves import curves
from gsvae.compare.groups import Group, shown
from gsvae.compare.runs import states
from gsvae.compare.statistics import Score, score, welch
from gsvae.compare.thumbnails import pictures
from gsvae.files import write_atomically

__all__ = ["write_page"]

TEMPLATE = Path(__file__).parent / "template"
MOST_PICTURES = 60  # groups whose pictures are part of the page
MOST_PAIRS = 60  # groups of which every pair is tested, so that filters keep their verdicts


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page."""
    from plotly.offline import get_plotlyjs

    data = json.dumps(page_data(comparison), allow_nan=False).replace("</", "<\\/")
    parts = {
        "{{style}}": (TEMPLATE / "page.css").read_text(),
        "{{plotly}}": get_plotlyjs(),
        "{{script}}": (TEMPLATE / "page.js").read_text(),
        "{{data}}": data,
    }
    page = (TEMPLATE / "page.html").read_text()
    for mark, content in parts.items():
        before, after = page.split(mark, 1)
        page = before + content + after
    write_atomically(path, lambda file: file.write(page.encode()))


def page_data(comparison: Comparison) -> dict[str, Any]:
    """Everything the page shows."""
    scores = {id(group): found for group, found in comparison.ranked}
    numbers = {id(run): index for index, run in enumerate(comparison.runs)}
    metrics = sorted({name for run in comparison.runs for name in run.metrics})
    return {
        "name": comparison.name,
        "updated": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "states": states(comparison.runs),
        "protocols": sorted({run.protocol for run in comparison.runs if run.protocol}),
        "warning": comparison.warning,
        "verdict": comparison.verdict,
        "metric": comparison.metric,
        "maximize": comparison.maximize,
        "keys": comparison.keys,
        "metrics": metrics,
        "groups": [
            group_data(group, metrics, pairs(group, comparison, scores), index < MOST_PICTURES)
            | {"runs": [numbers[id(run)] for run in group.runs]}
            for index, group in enumerate(comparison.groups)
        ],
        "runs": [
            {
                "name": run.name,
                "folder": str(run.folder),
                "state": run.state,
                "error": run.error,
                "seed": run.seed,
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
        "numbers": {key: value if is_number(value) else None for key, value in group.values.items()},
        "scores": {name: [s.n, s.mean, s.se] for name in metrics if (s := score(group, name))},
        "p": p,
        "curves": curves(group),
        "kl": mean_kl(group),
        "pictures": pictures(drawn.folder) if drawn and with_pictures else {},
        "pictured": drawn.name if drawn else None,
    }


def pairs(group: Group, comparison: Comparison, scores: dict[int, Score]) -> list[float | None]:
    """Welch's p of the group's difference to every group."""
    own = scores.get(id(group))
    if own is None or len(comparison.groups) > MOST_PAIRS:
        return []
    others = [scores.get(id(other)) for other in comparison.groups]
    return [welch(own, other) if other and other is not own else None for other in others]


def mean_kl(group: Group) -> list[float]:
    """KL of each latent, the largest first, averaged over the group's runs; latents have no order of their own."""
    rows = [sorted(run.kl_L, reverse=True) for run in group.runs if run.kl_L]
    if not rows or len({len(row) for row in rows}) > 1:
        return []
    return [round(sum(column) / len(rows), 4) for column in zip(*rows)]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
