"""``python -m gsvae.evaluate RUN_FOLDER...``: what a trained run is worth, measured afterwards."""

import argparse
import logging
import math
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status

from gsvae.compare.runs import run_folders
from gsvae.data import Images
from gsvae.errors import UserError
from gsvae.evaluation import Evaluator
from gsvae.evaluation.examination import Examination, bits_per_dim, examine
from gsvae.files import write_json
from gsvae.flags import Parser, at_least, folder_for, refuse, temperatures
from gsvae.identity import data_protocol
from gsvae.loaded import LoadedRun, load_run
from gsvae.tracking.afterwards import log_afterwards
from gsvae.tracking.console import StdoutHandler, table
from gsvae.tracking.pictures import draw_evaluation
from gsvae.tracking.wandb_service import check_login
from gsvae.training.streams import derive_seed

__all__ = ["evaluate", "main"]

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
TAUS = (0.1, 0.25, 0.5, 1.0, 2.0)


def evaluate(
    run: LoadedRun,
    *,
    scored: tuple[str, ...] = SPLITS,
    iwae_on: tuple[str, ...] = ("test",),
    taus: tuple[float, ...] = TAUS,
    samples: int | None = None,
    iwae_samples: int | None = None,
    max_rows: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Examination:
    """Measure a loaded run; None stands for the run's own setting of ``evaluation``.

    With its own settings, and on the kind of device it was trained on, the scores are those of its summary.

    Raises:
        UserError: none of the splits asked for has images.
    """
    e, held = run.cfg.evaluation, {"train": run.splits.train, "val": run.splits.val, "test": run.splits.test}
    there: dict[str, Images] = {name: images for name, images in held.items() if images is not None}
    names = [name for name in scored if name in there]
    if not names:
        raise UserError(f"--splits {','.join(scored)}: the run has {', '.join(there)} images")
    evaluator = Evaluator(
        samples or e.n_samples,
        iwae_samples or e.iwae_samples,
        max_rows or e.max_rows,
        dynamic=run.cfg.data.get("binarize") == "dynamic",
    )
    return examine(
        run.objective.model,
        there,
        names,
        evaluator,
        derive_seed(run.cfg.seed, "evaluation"),
        run.tau,
        taus,
        iwae=iwae_on,
        shared_labels=run.data.shared_labels,
        say=say,
    )


# ---------------------------------------------------------------- what is shown and kept


def as_text(run: LoadedRun, found: Examination) -> str:
    """The tables and the findings as plain text."""
    parts = [scores_table(run, found), codes_table(found), gap_table(found)]
    parts += [f"warning: {finding}" for finding in found.findings] or ["No warnings."]
    return "\n".join(parts)


def scores_table(run: LoadedRun, found: Examination) -> str:
    columns = ["images", "−ELBO", "reconstruction", "KL", "bits/dim", "IWAE", "IWAE bits/dim"]
    rows = []
    for split, s in found.scores.items():
        bits, iwae_bits = (
            None if v is None else f"{bits_per_dim(v, found.n_pixels):.4f}" for v in (s.neg_elbo, s.iwae)
        )
        rows.append([split, s.neg_elbo, s.reconstruction, s.kl, bits, s.iwae, iwae_bits])
    epoch = f"epoch {run.state['epoch']}, " if "epoch" in run.state else ""
    return table(
        f"One-hot codes, nats per image, lower is better ({data_protocol(run.cfg)} images)",
        columns,
        rows,
        f"{run.checkpoint.name}, {epoch}step {run.step}",
    )


def codes_table(found: Examination) -> str:
    codes, bits = found.scores[found.subject].codes, 1 / math.log(2)
    image_L, label_L = found.image_information_L, found.label_information_L
    n_latent, n_cat = codes.usage_LK.shape
    rows: list[list[Any]] = [
        ["active latents", f"{codes.active} of {n_latent}"],
        ["dead codes", f"{codes.dead} of {n_latent * n_cat}"],
        ["perplexity, mean over latents", f"{codes.perplexity:.2f} of {n_cat}"],
        ["entropy of q(z|x), mean over latents", f"{codes.entropy_L.mean():.3f} of {math.log(n_cat):.3f} nats"],
        ["I(x; z) of a latent, mean", f"{image_L.mean():.3f} nats, {image_L.mean() * bits:.3f} bits"],
    ]
    if label_L is not None:
        best = int(label_L.argmax())
        rows += [
            ["I(z; y) of a latent, mean", f"{label_L.mean():.3f} nats, {label_L.mean() * bits:.3f} bits"],
            [f"I(z; y) of the best, latent {best}", f"{label_L[best]:.3f} nats, {label_L[best] * bits:.3f} bits"],
            ["H(y), the most there is", f"{found.label_entropy:.3f} nats, {found.label_entropy * bits:.3f} bits"],
        ]
    if found.probe:
        p = found.probe
        rows += [
            [
                "linear probe, accuracy",
                f"{p.accuracy:.1%} (training images {p.train_accuracy:.1%}, chance {p.chance:.1%})",
            ],
            ["nearest class mean, accuracy", f"{p.nearest_class:.1%}"],
            ["I(z; y) of all latents, from the probe", f"at least {max(p.information, 0):.3f} nats"],
        ]
        if not p.converged:
            rows.append(["", "the probe's fit had not converged"])
    else:
        rows.append(["probes", f"left out: {found.unprobed}"])
    return table(f"Codes and labels ({found.subject} images)", ["", "value"], rows, words=True)


def gap_table(found: Examination) -> str:
    rows = [
        [
            f"{gap.tau:.3g}" + (" (training)" if gap.tau == found.tau else ""),
            gap.relaxed,
            gap.one_hot,
            f"{gap.nats:.2f} ± {gap.error:.2f}",
            f"{gap.frozen:.1%}",
        ]
        for gap in found.gaps
    ]
    columns = ["τ", "relaxed", "one-hot", "gap", "no gradient"]
    return table(f"Reconstruction, nats per image: soft versus hard ({found.subject} images)", columns, rows)


def as_json(run: LoadedRun, found: Examination) -> dict[str, Any]:
    """Everything measured, for ``evaluation.json``."""
    codes = found.scores[found.subject].codes
    scores = {
        split: {"neg_elbo": s.neg_elbo, "reconstruction": s.reconstruction, "kl": s.kl, "iwae": s.iwae}
        for split, s in found.scores.items()
    }
    label_L = found.label_information_L
    return {
        "metrics": found.metrics(),
        "scores": scores,
        "codes_of": found.subject,
        "probe": asdict(found.probe) if found.probe else None,
        "unprobed": found.unprobed,
        "latents": {
            "kl": codes.kl_L.tolist(),
            "entropy": codes.entropy_L.tolist(),
            "image_information": found.image_information_L.tolist(),
            "label_information": None if label_L is None else label_L.tolist(),
        },
        "gap": [{**asdict(gap), "nats": gap.nats} for gap in found.gaps],
        "training_tau": found.tau,
        "warnings": [str(finding) for finding in found.findings],
        "protocol": data_protocol(run.cfg),
        "checkpoint": run.checkpoint.name,
        "step": run.step,
        "run_id": run.state.get("run_id"),
        "device": str(run.device),
    }


def write(run: LoadedRun, found: Examination, folder: Path) -> tuple[Path, Path]:
    """Write ``evaluation.json`` and ``evaluation.png``, of other checkpoints than best ``evaluation_last.json``..."""
    stem = "evaluation" if run.checkpoint.stem == "best" else f"evaluation_{run.checkpoint.stem}"
    numbers, picture = folder / f"{stem}.json", folder / f"{stem}.png"
    write_json(numbers, as_json(run, found))
    label_L = found.label_information_L
    draw_evaluation(
        picture,
        [gap.tau for gap in found.gaps],
        [gap.relaxed for gap in found.gaps],
        found.gaps[0].one_hot,
        found.tau,
        found.scores[found.subject].codes.kl_L.numpy(),
        found.image_information_L.numpy(),
        None if label_L is None else label_L.numpy(),
    )
    return numbers, picture


def send(run: LoadedRun, found: Examination, picture: Path) -> None:
    """Send it to W&B, beside the run."""
    gaps = [[gap.tau, gap.relaxed, gap.one_hot, gap.nats, gap.error, gap.frozen] for gap in found.gaps]
    tables = {"gap/over_tau": (["tau", "relaxed", "one_hot", "gap", "standard_error", "frozen"], gaps)}
    log_afterwards(run.cfg, run.folder, "evaluation", found.metrics(), {"evaluation": picture}, tables, step=run.step)


# ---------------------------------------------------------------- the command line


def main() -> None:
    """Evaluate each run; one that cannot be evaluated costs a line, and the others go on."""
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[StdoutHandler()], force=True)
    folders = [folder for path in args.folders for folder in (run_folders(path) if path.is_dir() else []) or [path]]
    failed = False
    for folder in folders:
        try:
            one(folder, args, several=len(folders) > 1)
        except UserError as error:
            failed = True
            refuse(str(error))
        except OSError as error:
            failed = True
            refuse(f"{folder}: {error}")
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
    if failed:
        sys.exit(2)


def one(folder: Path, args: argparse.Namespace, *, several: bool) -> None:
    """Evaluate one run, show it and write it down."""
    with progress() as status:

        def say(text: str) -> None:
            if status:
                status.update(text)
            else:
                log.info("%s", text)

        say(f"loading {folder}")
        run = load_run(folder, args.checkpoint, args.device, args.data_root)
        if args.wandb:
            check_login(run.cfg.tracking.mode)
        found = evaluate(
            run,
            scored=args.splits,
            iwae_on=args.iwae_splits if args.iwae != 0 else (),
            taus=args.tau,
            samples=args.samples,
            iwae_samples=args.iwae,
            max_rows=args.max_rows,
            say=say,
        )
        numbers, picture = write(run, found, folder_for(folder, args, several=several))
    print(as_text(run, found))
    print(f"{numbers}, {picture}")
    if args.wandb:
        send(run, found, picture)


def progress() -> AbstractContextManager[Status | None]:
    """What is being done, on a terminal."""
    return Console().status("loading") if sys.stdout.isatty() else nullcontext()


def parse() -> argparse.Namespace:
    """The command line's arguments; a mistake ends in one line."""
    parser = Parser("gsvae.evaluate", __doc__, "a run's folder, or one with runs in it")
    add = parser.add_argument
    add("--splits", type=names, default=SPLITS, metavar="A,B", help="of train, val, test (default: all there are)")
    add("--samples", type=at_least(1), metavar="N", help="one-hot samples per image in the −ELBO (default: the run's)")
    add(
        "--iwae", type=at_least(0), metavar="S", help="samples of the importance-weighted bound; 0: without (the run's)"
    )
    add("--iwae-splits", type=names, default=("test",), metavar="A,B", help="where it is computed (default: test)")
    add("--tau", type=temperatures, default=TAUS, metavar="T,T", help="of the gap, beside the training's own")
    add("--max-rows", type=at_least(1), metavar="N", help="images × samples decoded at once (default: the run's)")
    return parser.parse_args()


def names(text: str) -> tuple[str, ...]:
    found = text.split(",")
    if not set(found) <= set(SPLITS):
        raise argparse.ArgumentTypeError(f"{text}: allowed are {', '.join(SPLITS)}, with commas between them")
    return tuple(name for name in SPLITS if name in found)


if __name__ == "__main__":
    main()
