"""Every option composes, and every pair of options from different groups trains together."""

import itertools
import json
import math
import random
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from gsvae.config import CONF, check, options, register
from gsvae.errors import UserError
from gsvae.experiment import Member, run_experiment

GROUPS = ("data", "model", "tau", "sampling", "optim", "optim/schedule", "training", "evaluation", "tracking")
SETTINGS = {
    "data.binarize": ["none", "dynamic", "static", "threshold"],
    "model.prior": ["uniform", "learned"],
    "training.precision": ["fp32", "bf16", "fp64"],
}
FACTORS = {group: [option for option in options(group) if option != "custom"] for group in GROUPS} | SETTINGS
# Estimators of each kind: relaxed, straight-through, of several codes, with parameters, of a bound, enumerating. The
# others differ from one of these in a formula only; every one of them composes here, and trains in test_pack.
FACTORS["sampling"] = ["soft", "reinmax", "rloo", "relax", "vimco", "exact"]
EXCLUDED = {frozenset({("model", "conv"), ("data", "digits")})}  # 8×8 images
L, K = 3, 4

Row = dict[str, str]


def compose_row(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """The config as a run gets it, and the options chosen."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", list(overrides), return_hydra_config=True)
    choices = dict(cfg.hydra.runtime.choices)
    OmegaConf.set_struct(cfg, False)
    cfg.pop("hydra")
    return cfg, choices


# ---------------------------------------------------------------- each option


@pytest.mark.parametrize(
    ("group", "option"),
    [(group, option) for group in (*GROUPS, "experiment") for option in options(group) if option != "custom"],
)
def test_every_option_composes_and_passes_the_checks(group: str, option: str) -> None:
    cfg, _ = compose_row([f"{group}={option}"])
    check(cfg)
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def test_every_group_is_listed_here() -> None:
    there = {str(path.parent.relative_to(CONF)) for path in CONF.glob("**/*.yaml")}
    assert {name for name in there if name != "." and not name.startswith("hydra")} == {*GROUPS, "experiment"}


@pytest.mark.parametrize("group", ["data", "model", "tau", "sampling", "optim", "optim/schedule"])
def test_every_group_of_parts_has_an_option_for_the_users_own(group: str) -> None:
    cfg, _ = compose_row([f"{group}=custom"])
    with pytest.raises(UserError, match=rf"{group.replace('/', '.')}\._target_ is not set"):
        check(cfg)


# ---------------------------------------------------------------- each pair


def pairs(row: Row) -> set[frozenset[tuple[str, str]]]:
    return {frozenset(pair) for pair in itertools.combinations(row.items(), 2)}


def covering_rows() -> list[Row]:
    """Few rows that together hold every allowed pair: each starts from a missing pair, and adds what covers most."""
    dice = random.Random(0)
    missing = {
        frozenset({(a, x), (b, y)})
        for (a, xs), (b, ys) in itertools.combinations(FACTORS.items(), 2)
        for x in xs
        for y in ys
    } - EXCLUDED
    rows = []
    while missing:
        row: Row = dict(min(missing, key=sorted))
        factors = [factor for factor in FACTORS if factor not in row]
        dice.shuffle(factors)
        for factor in factors:
            allowed = [option for option in FACTORS[factor] if not pairs(row | {factor: option}) & EXCLUDED]
            row[factor] = max(allowed, key=lambda option: len(pairs(row | {factor: option}) & missing))
        missing -= pairs(row)
        rows.append({factor: row[factor] for factor in FACTORS})
    return rows


ROWS = covering_rows()


def test_the_rows_hold_every_pair_of_options() -> None:
    held = set().union(*map(pairs, ROWS))
    for (a, xs), (b, ys) in itertools.combinations(FACTORS.items(), 2):
        for x, y in itertools.product(xs, ys):
            pair = frozenset({(a, x), (b, y)})
            assert (pair in held) != (pair in EXCLUDED), pair


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 training and 100 test images of each data set that is read from files."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, (prefix, n) in itertools.product(
        ("MNIST", "FashionMNIST", "KMNIST"), {"train": 200, "t10k": 100}.items()
    ):
        raw = folder / name / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(rng.integers(0, 10, n, dtype=np.uint8)))
    (folder / "omniglot-py").mkdir()
    for part, n in {"background": 200, "evaluation": 100}.items():
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 50, n, dtype=np.int64)
        np.savez(folder / "omniglot-py" / f"images_{part}-28x28.npz", pixels=pixels, labels=labels)
    return folder


def small(row: Row, root: Path) -> tuple[DictConfig, dict[str, str]]:
    """The config of a row with layers of 8 units and 3 steps."""
    cfg, choices = compose_row(
        [
            *(f"{factor}={option}" for factor, option in row.items()),
            f"data.root={root}",
            "data.n_val=40",
            f"model.n_latent={L}",
            f"model.n_cat={K}",
            "training.steps=3",
            "training.batch_size=16",
            "evaluation.iwae_samples=2",
            "tracking.mode=disabled",
        ]
    )
    if "channels" in cfg.model:
        cfg.model.channels, cfg.model.hidden = [2] * len(cfg.model.channels), 8
    else:
        cfg.model.hidden = [8] * len(cfg.model.hidden)
    check(cfg)
    return cfg, choices


def numbers(metrics: dict[str, object]) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        if isinstance(value, int | float):
            yield name, value


@pytest.mark.parametrize("row", ROWS, ids=["-".join(row.values()) for row in ROWS])
def test_a_row_trains(row: Row, root: Path, tmp_path: Path) -> None:
    cfg, choices = small(row, root)
    outcome = run_experiment(Member(cfg, tmp_path / "run", choices))
    metrics = outcome["metrics"]
    assert outcome["state"] == "finished"
    assert [name for name, value in numbers(metrics) if not math.isfinite(value)] == []
    for split in ("val", "test"):
        assert metrics[f"{split}/neg_elbo"] == pytest.approx(
            metrics[f"{split}/reconstruction"] + metrics[f"{split}/kl"], rel=1e-9
        )
    assert metrics["test/kl"] > 0
    assert 1 <= metrics["codes/perplexity"] <= K * (1 + 1e-6)
    if row["model.prior"] == "uniform":
        assert metrics["test/kl"] <= L * math.log(K)
    assert metrics["step"] == 3
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    for name in ("train/loss", "val/neg_elbo", "test/neg_elbo"):
        assert any(row["step"] == 3 and name in row for row in history), name
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["test/iwae"] == metrics["test/iwae"]


def test_conv_refuses_images_of_8_by_8(tmp_path: Path) -> None:
    cfg, choices = compose_row(["model=conv", "data=digits", "tracking=disabled"])
    with pytest.raises(UserError, match=r"^model\.channels=\[32, 64\]: .*8x8.*$"):
        run_experiment(Member(cfg, tmp_path / "run", choices))
    assert not (tmp_path / "run").exists()
