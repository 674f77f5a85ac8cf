"""What a table says beside its numbers: cells, what the marks mean, how long each side trained, and the orders."""

from gsvae.compare.paper.order import agreement, on_the_way
from gsvae.compare.paper.pivot import ALONE, NEAR, Pivot
from gsvae.compare.statistics import MORE_IS_BETTER, NOISE

__all__ = ["METRICS", "caption", "cell", "figures", "mark", "orders", "title"]

METRICS = {
    "train/neg_elbo": "train −ELBO",
    "train_last/neg_elbo": "train −ELBO",
    "val/neg_elbo": "val −ELBO",
    "test/neg_elbo": "test −ELBO",
    "test_last/neg_elbo": "test −ELBO",
    "test/iwae": "test IWAE",
}
NONE = "–"


def cell(table: Pivot, row: str, column: str, metric: str) -> str:
    """A mean and its standard deviation, with the number of seeds where cells have different ones."""
    score = table.score(row, column, metric)
    if score is None:
        return NONE
    spread = "" if score.sd is None else f" ± {score.sd:.2f}"
    return f"{score.mean:.2f}{spread}" + (f" (n={score.n})" if len(table.seeds()) > 1 else "")


def mark(table: Pivot, row: str, column: str, metric: str) -> str:
    """≈ for a number whose difference from the best of its column may be noise, ? where that cannot be told."""
    return {NEAR: " ≈", ALONE: " ?"}.get(table.verdicts.get((row, column, metric), ""), "")


def figures(table: Pivot, row: str, column: str) -> str:
    """The published figures of a cell."""
    found = [table.theirs(row, column, metric) for metric in table.metrics]
    return NONE if None in found else " → ".join(f"{value:.2f}" for value in found if value is not None)


def title(table: Pivot) -> str:
    """What the numbers are."""
    names = " → ".join(METRICS.get(metric, metric) for metric in table.metrics)
    seeds = counted(table.seeds(), "seed")
    return f"{table.name}: {names}, mean ± standard deviation over {seeds}"


def caption(table: Pivot) -> list[str]:
    """How to read it, in sentences."""
    better = "highest" if table.metrics[-1] in MORE_IS_BETTER else "lowest"
    lines = [
        f"Nats per image. The {better} mean of a column is bold; ≈ marks a difference from it that may be noise "
        f"(Welch's t-test, Holm's correction over the column, p > {NOISE}), ? one that too few seeds tell nothing of."
    ]
    ours = counted(table.epochs(), "epoch")
    if table.published:
        them, theirs = table.published, []
        theirs += [counted([them.epochs], "epoch")] if them.epochs else []
        theirs += [f"means of {counted([them.seeds], 'seed')}"] if them.seeds else []
        same = "" if them.epochs is None or table.epochs() == [them.epochs] else ": not the same length of training"
        lines.append(f"Ours at {ours}; {them.name} ({', '.join(theirs)}) below each of ours{same}.")
        left = [row for row in them.figures if row not in table.rows]
        left += [column for column in them.column_names if column not in table.columns]
        lines += [f"Published but not run here: {', '.join(left)}."] if left else []
    else:
        lines.append(f"At {ours}.")
    if table.unfinished:
        lines.append(f"{table.unfinished} runs have not finished and are left out.")
    return lines + ([f"warning: {table.warning}"] if table.warning else [])


def counted(numbers: list[int], noun: str) -> str:
    """``10 epochs``, ``2 to 5 seeds``, ``10 or 160 epochs``."""
    if not numbers:
        return f"an unknown number of {noun}s"
    joint = " to " if noun == "seed" else " or "
    shown = [str(n) for n in (numbers if len(numbers) < 4 else [numbers[0], numbers[-1]])]
    return f"{joint.join(shown if len(numbers) < 3 else [shown[0], shown[-1]])} {noun}{'' if numbers == [1] else 's'}"


def orders(table: Pivot) -> list[str]:
    """For each column our order, the published one, how far they agree, and how it came about over the epochs."""
    lines = []
    for column in table.columns:
        if found := agreement(table, column):
            how_far = "" if found.tau is None else f"; Kendall's τ = {found.tau:.2f}"
            lines.append(
                f"{column}: ours {' < '.join(found.ours)}; {table.published.name if table.published else ''} "
                f"{' < '.join(found.theirs)}{how_far}."
            )
            judged = {True: "may be noise", False: "is unlikely to be noise", None: "cannot be told from noise"}
            swapped = [f"{a} before {b} ({judged[noise]})" for a, b, noise in found.swapped]
            if swapped:
                lines.append(f"{column}: in another order than published: {', '.join(swapped)}.")
        steps = on_the_way(table, column)
        if len(steps) > 1:
            told: list[str] = []
            for place, (epoch, order, tau) in enumerate(steps):
                same = place > 0 and order == steps[place - 1][1]
                with_tau = "" if tau is None else f" (τ = {tau:.2f})"
                told.append(f"epoch {epoch:g} " + ("the same" if same else f"{' < '.join(order)}{with_tau}"))
            lines.append(f"{column}: on the way, by val −ELBO: {'; '.join(told)}.")
    return lines
