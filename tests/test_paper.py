"""A paper's table: its numbers by hand, what is called noise, published figures beside it, and the study behind it."""

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest
import yaml
from command_line import RUN_PY
from scipy.stats import kendalltau
from test_compare import make_run
from test_composition import compose_row

from gsvae.compare import compare
from gsvae.compare.paper import as_markdown, pivot, read_published, write_paper
from gsvae.compare.paper.order import agreement, curve, kendall, on_the_way
from gsvae.compare.paper.words import caption, cell, mark, orders
from gsvae.compare.statistics import holm
from gsvae.config import check
from gsvae.errors import UserError
from gsvae.studies import SWEEPS, read_study
from gsvae.sweep.grid import only, points

ROWS, COLUMNS, METRICS = "sampling", ["model.n_cat", "model.n_latent"], ["train/neg_elbo", "test/neg_elbo"]
PUBLISHED = SWEEPS.parent / "docs" / "tables" / "reinmax_published.yaml"
SCORES = {  # test, by estimator and shape; training is two nats lower
    ("hard", 8, 4): [130.0, 130.4, 130.2],
    ("reinmax", 8, 4): [127.0, 127.2, 127.1],
    ("gst", 8, 4): [127.0, 127.9, 127.3],
    ("hard", 10, 30): [105.0, 105.5, 105.1],
    ("reinmax", 10, 30): [104.0],
}


def make_sweep(folder: Path, scores=SCORES, epochs: int = 20) -> Path:
    for (name, K, L), values in scores.items():
        for seed, value in enumerate(values):
            settings = {"model.n_cat": K, "model.n_latent": L, "sampling._target_": name, "training.epochs": epochs}
            numbers = {"test/neg_elbo": value, "train/neg_elbo": value - 2}
            run = make_run(folder, f"{name}_{K}x{L}_{seed}", score=value, seed=seed, settings=settings,
                           choices={"sampling": name}, summary=numbers)  # fmt: skip
            way = [{"step": 600 * e, "epoch": float(e), "val/neg_elbo": value + 10 / e + seed} for e in range(1, 8)]
            (run / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in way))
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return make_sweep(tmp_path / "table")


def table_of(folder: Path, published: Path | None = PUBLISHED):
    return pivot(compare([folder]), ROWS, COLUMNS, METRICS, read_published(published) if published else None)


# ---------------------------------------------------------------- numbers and verdicts


def test_a_cell_is_mean_and_standard_deviation_over_seeds(sweep):
    table = table_of(sweep)
    assert table.columns == ["8×4", "10×30"]  # as published, not by size
    assert table.rows == ["hard", "gst", "reinmax"]
    for (row, K, L), values in SCORES.items():
        spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        assert cell(table, row, f"{K}×{L}", "test/neg_elbo") == f"{mean(values):.2f}{spread} (n={len(values)})"
    assert cell(table, "gst", "10×30", "test/neg_elbo") == "–"


def test_a_clear_winner_is_told_from_noise(sweep):
    table = table_of(sweep)
    verdicts = {row: table.verdicts[row, "8×4", "test/neg_elbo"] for row in table.rows}
    assert verdicts == {"reinmax": "best", "gst": "near", "hard": "worse"}
    assert mark(table, "gst", "8×4", "test/neg_elbo") == " ≈"
    assert table.verdicts["hard", "10×30", "test/neg_elbo"] == "alone"  # the best has one seed


def test_holm_is_holms():
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_the_correction_makes_noise_of_what_alone_would_be_none(tmp_path):
    near = {(f"m{n}", 8, 4): [1.2, 1.34, 1.4] for n in range(4)}
    more = table_of(make_sweep(tmp_path / "more", {("reinmax", 8, 4): [1.0, 1.02, 1.1], **near}), None)
    pair = {("reinmax", 8, 4): [1.0, 1.02, 1.1], ("m0", 8, 4): [1.2, 1.34, 1.4]}
    alone = table_of(make_sweep(tmp_path / "one", pair), None)
    assert alone.verdicts["m0", "8×4", "test/neg_elbo"] == "worse"
    assert {more.verdicts[f"m{n}", "8×4", "test/neg_elbo"] for n in range(4)} == {"near"}


def test_runs_of_a_cell_that_differ_are_refused(sweep):
    settings = {"model.n_cat": 8, "model.n_latent": 4, "sampling._target_": "hard", "training.epochs": 30}
    make_run(sweep, "other", score=1.0, seed=7, choices={"sampling": "hard"}, settings=settings)
    with pytest.raises(UserError, match=r"hard 8×4: .*training.epochs is 20, 30"):
        table_of(sweep)


def test_runs_that_have_not_finished_are_left_out_and_told_of(sweep):
    make_run(sweep, "half", "running", settings={"model.n_cat": 8, "model.n_latent": 4}, choices={"sampling": "gst"})
    table = table_of(sweep)
    assert table.score("gst", "8×4", "test/neg_elbo").n == 3
    assert any("1 runs have not finished" in line for line in caption(table))


# ---------------------------------------------------------------- published figures


def test_the_published_figures_are_those_of_the_study():
    published = read_published(PUBLISHED)
    assert published.mean("reinmax", "8×4", "test/neg_elbo") == 127.27
    assert published.mean("straight_through", "10×30", "test/neg_elbo") is None
    (rows,) = read_study("reinmax_table").rows
    ran = {(row[0], f"{row[1]}×{row[2]}") for row in rows.values}
    assert {(row, c) for row, found in published.figures.items() for c in found} == ran - {
        ("straight_through", "10×30")
    }


def test_lengths_of_training_are_stated(sweep, tmp_path):
    assert any("Ours at 20 epochs; published (160 epochs, means of 10 seeds)" in s for s in caption(table_of(sweep)))
    assert any("not the same length" in line for line in caption(table_of(sweep)))
    same = table_of(make_sweep(tmp_path / "long", epochs=160))
    assert not any("not the same length" in line for line in caption(same))


def test_orders_agree_as_far_as_kendall_says(sweep):
    found = agreement(table_of(sweep), "8×4")
    assert (found.ours, found.theirs) == (["reinmax", "gst", "hard"], ["reinmax", "hard", "gst"])
    ours, theirs = [130.2, 127.4, 127.1], [128.72, 129.15, 127.27]
    assert found.tau == pytest.approx(kendalltau(ours, theirs).statistic)
    assert found.swapped == [("gst", "hard", False)]
    assert any("gst before hard (is unlikely to be noise)" in line for line in orders(table_of(sweep)))


def test_kendall_with_ties_is_scipys():
    a, b = [1.0, 2.0, 2.0, 4.0], [2.0, 1.0, 3.0, 3.0]
    names = "abcd"
    assert kendall(dict(zip(names, a)), dict(zip(names, b))) == pytest.approx(kendalltau(a, b).statistic)
    assert kendall({"a": 1.0}, {"a": 2.0}) is None


def test_the_way_is_over_epochs_that_all_seeds_have(sweep):
    table = table_of(sweep)
    runs = table.groups["hard", "8×4"].runs
    history = runs[0].folder / "history.jsonl"
    history.write_text("".join(line + "\n" for line in history.read_text().splitlines()[:5]))  # five epochs of seven
    found = curve(runs)
    values = SCORES["hard", 8, 4]
    assert found.epochs == [1, 2, 3, 4, 5]
    assert found.mean[1] == pytest.approx(mean(v + 5 + seed for seed, v in enumerate(values)))
    assert found.sd[1] == pytest.approx(stdev(v + 5 + seed for seed, v in enumerate(values)))
    steps = on_the_way(table, "8×4")
    assert [epoch for epoch, _, _ in steps] == [1, 2, 3, 4, 5]
    assert steps[-1][1] == ["reinmax", "gst", "hard"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": "tau.init"}, "--rows sampling: the published figures are of tau.init"),
        ({"columns": ["model.n_cat"]}, "--columns model.n_cat,model.n_latent: the published .* of model.n_cat"),
        ({"metrics": ["test/iwae", "test/kl"]}, "--metrics train/neg_elbo: published are test/iwae, test/kl"),
        ({"figures": {"hrad": {"8x4": [1, 2]}, "gst": {"8x4": [1, 2]}}}, "row hrad: no run has it; did you mean hard?"),
        ({"figures": {"exact": {"8x4": [1, 2]}}}, "has none of our rows gst, hard, reinmax; it has exact"),
        ({"figures": {"hard": {"3x3": [1, 2]}}}, "has none of our columns"),
        ({"figures": {"hard": {"8x4": [1]}}}, r"\[1\]: expected 2 numbers"),
        ({"figures": 3}, "is not a table of figures"),
        ({"figures": None, "rows": "sampling"}, "is not a table of figures"),
    ],
)  # fmt: skip
def test_published_figures_of_something_else_are_refused_in_one_line(change, words, sweep, tmp_path):
    path = tmp_path / "theirs.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(PUBLISHED.read_text()) | change))
    with pytest.raises(UserError, match=words) as raised:
        table_of(sweep, path)
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------- files


def test_the_files_say_the_same(sweep, tmp_path):
    table = table_of(sweep)
    page, sheet, picture = write_paper(table, tmp_path / "out" / "t.md")
    text = page.read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| reinmax")]
    assert "| **125.10 ± 0.10 (n=3)** → **127.10 ± 0.10 (n=3)**<br>*125.08 → 127.27* |" in line
    (line,) = [line for line in text.splitlines() if line.startswith("| gst")]
    assert line.endswith("| – → –<br>*98.66 → 100.77* |")
    rows = list(csv.DictReader(sheet.open(newline="")))
    (row,) = [r for r in rows if (r[ROWS], r["metric"]) == ("gst", "test/neg_elbo") and r["n"] == "3"]
    assert float(row["sd"]) == pytest.approx(stdev(SCORES["gst", 8, 4]))
    assert (row["verdict"], row["epochs"], row["published"]) == ("near", "20", "129.15")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "t.png" in as_markdown(table, "t.png")


def run_compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "gsvae.compare", *arguments], capture_output=True, text=True,
                          cwd=RUN_PY.parent, timeout=60)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--rows sampling", "needs --rows KEY and --columns"),
        ("--rows smapling --columns model.n_cat", "--rows smapling: no run has this setting; did you mean sampling?"),
        ("--rows sampling --columns model.n_cat --metrics test/neg_elb", "did you mean test/neg_elbo?"),
        ("--rows sampling --columns model.n_cat --out x.html", "expected a .md"),
        ("--rows sampling --columns model.n_cat --published no.yaml", "no.yaml: No such file"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, sweep):
    done = run_compare(str(sweep), *shlex.split(arguments))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


# ---------------------------------------------------------------- the study


def spanned(*arguments: str) -> list[list[str]]:
    study = read_study("reinmax_table")
    settings = {**study.settings, **dict(a.split("=", 1) for a in arguments)}
    return points([f"{key}={text}" for key, text in settings.items()], [], rows=study.rows)


def test_the_study_is_five_estimators_on_six_shapes_with_ten_seeds():
    found = spanned()
    assert len({tuple(point) for point in found}) == len(found) == 300
    assert [point[1] for point in found[:30]] == ["seed=0"] * 30  # every cell has its first seed before the second
    for text in (
        "sampling=hard model.n_cat=8 model.n_latent=4 optim=adam optim.lr=0.0003 tau.init=0.5",
        "sampling=gumbel_rao model.n_cat=64 model.n_latent=8 optim=adam optim.lr=0.0007 tau.init=2.0 "
        "sampling.n_samples=100",
        "sampling=gst model.n_cat=8 model.n_latent=16 optim=radam optim.lr=0.0007 tau.init=0.5",
        "sampling=straight_through model.n_cat=10 model.n_latent=30 optim=radam optim.lr=0.007 tau.init=1.4",
        "sampling=reinmax model.n_cat=16 model.n_latent=12 optim=radam optim.lr=0.0007 tau.init=1.5",
    ):
        assert [point[1] for point in found if " ".join(point[2:]) == text] == [f"seed={seed}" for seed in range(10)]


def test_each_of_its_runs_composes():
    for point in spanned("seed=0"):
        cfg, _ = compose_row(point)
        check(cfg)
        assert (cfg.data.n_val, cfg.model.init_bias, cfg.training.epochs, cfg.training.batch_size) == (
            0,
            False,
            160,
            100,
        )


def test_typed_values_replace_those_of_the_rows_that_have_them():
    found = spanned("seed=0", "sampling.n_samples=10", "optim.lr=1e-3")
    assert len(found) == 30
    assert sum("sampling.n_samples=10" in point for point in found) == 6
    assert all("optim.lr=1e-3" in point or "optim.lr=0.001" in point for point in found)


def test_only_some_of_a_sweep():
    kept = only(spanned(), {"model.n_latent": [4, 30], "seed": [0, 1]})
    assert len(kept) == 2 * 5 * 2
    assert len(only(spanned("seed=0"), {"optim.lr": 3e-4})) == 1  # however a number is written
    assert only([["a=1"]], None) == [["a=1"]]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"model.n_latnt": 4}, "no run of the sweep has this setting; did you mean model.n_latent?"),
        ({"model.n_latent": 5}, "model.n_latent: 5}: no run of the sweep has it; there are 4, 24"),
        ({"sampling": "hard", "optim.lr": 0.007}, "no run of the sweep has all of them together"),
        ("hard", "sweep.only=hard: expected settings with their values"),
    ],
)
def test_only_what_there_is(wanted, words):
    with pytest.raises(UserError, match=words):
        only(spanned("seed=0"), wanted)


@pytest.mark.parametrize(
    ("rows", "words"),
    [([[1, 2, 3]], "expected a list of at most 2 values"), ([], "has no rows"), ([5], "expected a list"), (4, "not a")],
)
def test_rows_that_are_none(rows, words, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({"parameters": {"seed tau.init": {"rows": rows}}}))
    with pytest.raises(UserError, match=words):
        read_study(str(path))


def test_a_tiny_table_from_a_study_to_its_files(tmp_path):
    study = tmp_path / "tiny.yaml"
    rows = [["hard", 2, 2, 0.5], ["hard", 3, 4, 0.7], ["reinmax", 2, 2, 1.3], ["reinmax", 3, 4, 1.5]]
    study.write_text(yaml.safe_dump({"parameters": {
        "experiment": {"value": "debug"}, "training.epochs": {"value": 1}, "seed": {"values": [0]},
        "sampling model.n_cat model.n_latent tau.init": {"rows": rows},
    }}))  # fmt: skip
    options = "evaluation.iwae_samples=2 tracking.images_every=0 training.threads=1 sweep.name=tiny"
    command = [sys.executable, str(RUN_PY), "-m", f"sweep.study={study}", *options.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "multirun" / "tiny"
    done = run_compare(str(folder), "--rows", "sampling", "--columns", "model.n_cat,model.n_latent")
    assert done.returncode == 0, done.stderr
    found = {(r["sampling"], r["model.n_cat×model.n_latent"]): float(r["mean"])
             for r in csv.DictReader((folder / "table.csv").open(newline=""))}  # fmt: skip
    for path in folder.glob("*/summary.json"):
        status = json.loads((path.parent / "status.json").read_text())
        settings = status["settings"]
        place = (status["choices"]["sampling"], f"{settings['model.n_cat']}×{settings['model.n_latent']}")
        assert [status["choices"]["sampling"], settings["model.n_cat"], settings["model.n_latent"],
                settings["tau.init"]] in rows  # fmt: skip
        assert found.pop(place) == json.loads(path.read_text())["test/neg_elbo"]
    assert found == {}
    assert "python run.py -m" in (folder / "table.md").read_text()
