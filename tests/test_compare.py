"""The comparison: groups, statistics, ranking, and files that are whole and open offline whatever the runs are like."""

import csv
import json
import multiprocessing
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scipy.stats import sem, ttest_ind

from gsvae.compare import compare, text, update
from gsvae.compare.curves import curves
from gsvae.compare.runs import read_history, read_sweep
from gsvae.compare.statistics import Score, welch, welch_matrix
from gsvae.errors import UserError

TAU, SAMPLING = "tau.init", "sampling._target_"


def make_run(sweep: Path, name: str, state: str = "finished", *, score: float | None = None, seed: int = 0,
             settings: dict | None = None, choices: dict | None = None, error: str | None = None,
             summary: dict | None = None) -> Path:  # fmt: skip
    folder = sweep / name
    (folder / "images").mkdir(parents=True)
    status = {
        "state": state, "error": error, "name": name, "run_id": name, "settings": {"seed": seed, **(settings or {})},
        "choices": choices or {}, "overrides": [f"{key}=x" for key in (settings or {})],
    }  # fmt: skip
    (folder / "status.json").write_text(json.dumps(status))
    if score is not None:
        numbers = {"val/neg_elbo": score, "test/neg_elbo": score + 1, "protocol": "grey", "codes/kl_per_latent": [1, 2]}
        (folder / "summary.json").write_text(json.dumps(numbers | (summary or {})))
    rows = [{"step": s, "epoch": 1, "train/loss": 10.0 - s, "val/neg_elbo": 9.0 - s} for s in range(3)]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


SCORES = {0.5: [10.0, 10.4, 10.1], 1.0: [12.0, 12.5, 12.2], 2.0: [10.3, 10.2, 10.9]}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "temps"
    for tau, scores in SCORES.items():
        for seed, score in enumerate(scores):
            make_run(folder, f"t{tau}_s{seed}", score=score, seed=seed, settings={TAU: tau, "optim.lr": 0.001})
    return folder


# ---------------------------------------------------------------- statistics and the table


def test_groups_are_over_seeds_and_ranked_by_their_means(sweep):
    found = compare([sweep])
    assert found.keys == [TAU]
    assert [(group.label, score.n) for group, score in found.ranked] == [
        ("tau.init=0.5", 3), ("tau.init=2.0", 3), ("tau.init=1.0", 3)
    ]  # fmt: skip
    for group, score in found.ranked:
        values = SCORES[group.values[TAU]]
        assert score.mean == pytest.approx(sum(values) / 3)
        assert score.se == pytest.approx(sem(values))


@pytest.mark.parametrize(("a", "b"), [([1, 2, 3], [2, 3, 5]), ([1.0, 1.1], [5, 5.2, 4, 9]), ([1, 1, 1], [2, 3, 2])])
def test_welch_is_scipys(a, b):
    assert welch(Score(tuple(a)), Score(tuple(b))) == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue, rel=1e-9)


def test_one_run_has_no_error_and_no_p():
    assert Score((1.0,)).se is None
    assert welch(Score((1.0,)), Score((1.0, 2.0))) is None
    assert welch(Score((1.0, 1.0)), Score((2.0, 2.0))) is None


def test_the_verdict_tells_noise_from_difference(sweep, tmp_path):
    assert "tau.init=0.5 beats tau.init=2.0 by 0.30 nats" in compare([sweep]).verdict
    assert "may well be noise" in compare([sweep]).verdict
    for seed in range(3):
        make_run(sweep, f"far_s{seed}", score=3 + seed / 10, seed=seed, settings={TAU: 0.7, "optim.lr": 0.001})
    assert "tau.init=0.7 beats tau.init=0.5" in compare([sweep]).verdict
    assert "unlikely to be noise" in compare([sweep]).verdict
    single = tmp_path / "single"
    for tau in (1, 2):
        make_run(single, f"t{tau}", score=float(tau), settings={TAU: tau})
    assert "cannot be told" in compare([single]).verdict


def test_every_pair_is_tested_at_once_as_it_is_alone():
    scores = [Score((1.0, 2.0, 4.0)), None, Score((2.0,)), Score((3.0, 3.0)), Score((3.0, 3.0)), Score((5.0, 5.5))]
    found = welch_matrix(scores)
    for i, a in enumerate(scores):
        for j, b in enumerate(scores):
            assert found[i][j] == (welch(a, b) if a and b else None)
    assert found[3][4] is None  # no spread in either
    assert found[0][5] == pytest.approx(ttest_ind([1, 2, 4], [5, 5.5], equal_var=False).pvalue)


def test_a_seed_that_was_run_twice_is_one_run(sweep):
    make_run(sweep, "t0.5_s2_again", score=10.2, seed=2, settings={TAU: 0.5, "optim.lr": 0.001})
    (_, best), *_ = compare([sweep]).ranked
    assert (best.n, sorted(best.values)) == (3, [10.0, 10.2, 10.4])


# ---------------------------------------------------------------- what is compared


def test_a_choice_stands_for_what_it_decides(tmp_path):
    for name, n in (("soft", 0), ("rloo", 4)):
        settings = {SAMPLING: f"gsvae.{name}", **({"sampling.n_samples": n} if n else {}), TAU: 1.0}
        make_run(tmp_path, name, score=1.0, settings=settings, choices={"sampling": name, "tracking": name})
    found = compare([tmp_path])
    assert [group.label for group in found.groups] == ["sampling=rloo", "sampling=soft"]


def test_a_setting_swept_within_a_choice_is_shown_beside_it(tmp_path):
    for name in ("soft", "rloo"):
        for n in (2, 4):
            settings = {SAMPLING: name, "sampling.n_samples": n}
            make_run(tmp_path, f"{name}{n}", score=1.0, settings=settings, choices={"sampling": name})
    assert set(compare([tmp_path]).keys) == {"sampling", "sampling.n_samples"}


def test_only_finished_runs_are_ranked_and_test_images_do_not_choose(sweep):
    make_run(sweep, "bad", "diverged", score=0.0, settings={TAU: 9.0, "optim.lr": 0.001}, error="loss not finite")
    make_run(sweep, "half", "running", score=0.0, settings={TAU: 8.0, "optim.lr": 0.001})
    make_run(sweep, "test", score=99.0, settings={TAU: 7.0, "optim.lr": 0.001}, summary={"test/neg_elbo": 0.0})
    found = compare([sweep])
    assert found.metric == "val/neg_elbo"
    assert found.ranked[0][0].label == "tau.init=0.5"
    assert {9.0, 8.0}.isdisjoint(group.values[TAU] for group, _ in found.ranked)
    assert "bad: diverged: loss not finite" in text(sweep)
    assert "1 running" in text(sweep)


def test_without_validation_images_the_test_images_rank(tmp_path):
    for tau in (1, 2):
        run = make_run(tmp_path, f"t{tau}", score=0.0, settings={TAU: tau})
        (run / "summary.json").write_text(json.dumps({"test/neg_elbo": tau}))
    assert compare([tmp_path]).metric == "test/neg_elbo"


def test_runs_scored_on_different_images_are_not_comparable(sweep):
    assert compare([sweep]).warning is None
    make_run(sweep, "other", score=1.0, settings={TAU: 0.5}, summary={"protocol": "dynamic"})
    assert "dynamic" in compare([sweep]).warning
    assert "Not comparable" in text(sweep)
    assert compare([sweep]).verdict.endswith("see the warning.")


def test_another_split_of_the_data_is_warned_of(sweep):
    make_run(sweep, "a", score=1.0, seed=0, settings={TAU: 0.5, "data.n_val": 100}, choices={"data": "digits"})
    make_run(sweep, "b", score=1.0, seed=1, settings={TAU: 0.5, "data.n_val": 200}, choices={"data": "digits"})
    make_run(sweep / "apart", "x", score=1.0, settings={TAU: 0.5, "data.n_val": 100}, choices={"data": "digits"})
    make_run(sweep / "apart", "y", score=1.0, settings={TAU: 1.5, "data.n_val": 200}, choices={"data": "digits"})
    assert "data.n_val is 100, 200" in compare([sweep / "apart"]).warning


def test_finished_runs_without_the_metric_are_told_of(sweep):
    run = make_run(sweep, "bare", score=0.0, seed=0, settings={TAU: 3.0, "optim.lr": 0.001})
    (run / "summary.json").write_text('{"test/neg_elbo": 0.0}')
    assert 3.0 not in [group.values[TAU] for group, _ in compare([sweep]).ranked]
    assert "1 finished without val/neg_elbo" in text(sweep)


def test_no_run_counts_twice_and_sweeps_of_one_name_stay_apart(sweep, tmp_path):
    assert [score.n for _, score in compare([sweep, sweep / "t0.5_s0", sweep]).ranked] == [3, 3, 3]
    other = tmp_path / "elsewhere" / sweep.name
    make_run(other, "r", score=10.0, settings={TAU: 0.5, "optim.lr": 0.001})
    found = compare([sweep, other])
    assert sorted(score.n for _, score in found.ranked) == [1, 3, 3, 3]
    assert len({group.label for group, _ in found.ranked}) == 4


def test_runs_that_are_given_singly_are_grouped_over_seeds(sweep):
    found = compare(sorted(sweep.iterdir()))
    assert found.keys == [TAU]
    assert [score.n for _, score in found.ranked] == [3, 3, 3]


def test_several_sweeps_differ_by_their_names(sweep, tmp_path):
    other = tmp_path / "other"
    make_run(other, "r", score=5.0, settings={TAU: 0.5, "optim.lr": 0.001})
    found = compare([sweep, other])
    assert found.ranked[0][0].label == "sweep=other tau.init=0.5"
    assert len(found.groups) == 4


def test_another_metric_and_direction(sweep):
    assert compare([sweep], "test/neg_elbo", maximize=True).ranked[0][0].label == "tau.init=1.0"
    with pytest.raises(UserError, match="did you mean test/neg_elbo"):
        compare([sweep], "test/neg_elb")


# ---------------------------------------------------------------- files


def page_data(folder: Path) -> dict:
    page = (folder / "comparison.html").read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_the_sheet_has_every_run_with_its_numbers(sweep):
    make_run(sweep, "bad", "failed", settings={TAU: 9.0, "optim.lr": 0.001}, error='a, "b"\nc')
    update(sweep)
    rows = list(csv.DictReader((sweep / "summary.csv").open(newline="")))
    assert len(rows) == 10
    by_folder = {row["folder"]: row for row in rows}
    assert by_folder["bad"]["error"] == 'a, "b"\nc'
    assert by_folder["bad"]["val/neg_elbo"] == ""
    assert (float(by_folder["t1.0_s1"][TAU]), by_folder["t1.0_s1"]["seed"]) == (1.0, "1")
    assert float(by_folder["t1.0_s1"]["val/neg_elbo"]) == 12.5


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_narrow_terminal_costs_columns_but_no_digits(sweep, width):
    extra = {"test/iwae": 33.0, "codes/perplexity": 7.5, "codes/active": 4.0}
    for seed in range(2):
        settings = {TAU: 3.0, "optim.lr": 0.0001234567, "model.hidden": [512, 256, 128]}
        make_run(sweep, f"long_s{seed}", score=10.0 + seed, seed=seed, settings=settings, summary=extra)
    shown = text(sweep, width)
    assert "10.50 ± 0.50" in shown
    assert "11.17 ± 0.12" in shown
    assert "…" not in shown
    assert " n " in shown
    assert max(map(len, shown.splitlines())) <= width
    assert ("33.00 ± 0.00" in shown) == (width >= 100)


def test_the_page_loads_nothing_and_lets_no_text_become_code(sweep):
    evil = "<!--<script></script><script>alert(1)</script><img src=x onerror=alert(2)>"
    make_run(sweep, "evil", "failed", settings={TAU: evil, "optim.lr": 0.001}, error=evil)
    update(sweep)
    page = (sweep / "comparison.html").read_text()
    assert "<!--" not in re.sub(r"<script>.*?</script>", "", page, flags=re.S)  # it would hide the end of the data
    assert "alert(1)<" not in page
    assert any(run["error"] == evil for run in page_data(sweep)["runs"])
    ours = re.sub(r"<script>/\*\*.*?</script>", "", page, count=1, flags=re.S)  # without plotly
    assert len(ours) < len(page) / 10
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|fetch\(|innerHTML""", ours)


def test_the_page_knows_what_the_table_says(sweep):
    update(sweep)
    data = page_data(sweep)
    assert data["verdict"] == compare([sweep]).verdict
    group = next(group for group in data["groups"] if group["label"] == "tau.init=0.5")
    assert group["scores"]["val/neg_elbo"][:2] == [3, pytest.approx(sum(SCORES[0.5]) / 3)]
    assert group["curves"]["finished"]["train/loss"] == {
        "x": [0, 1, 2], "mean": [10, 9, 8], "low": [10, 9, 8], "high": [10, 9, 8], "per_epoch": 2.0
    }  # fmt: skip
    other = next(index for index, found in enumerate(data["groups"]) if found["label"] == "tau.init=2.0")
    p = ttest_ind(SCORES[0.5], SCORES[2.0], equal_var=False).pvalue
    assert group["p"][other] == pytest.approx(p, rel=5e-3)  # three digits


def test_runs_that_are_half_there_do_no_harm(sweep):
    (sweep / "empty").mkdir()
    (sweep / "torn").mkdir()
    (sweep / "torn" / "status.json").write_text('{"state": "run')
    bare = make_run(sweep, "bare", settings={TAU: 5.0})
    (bare / "history.jsonl").write_text('{"step": 1, "train/loss": 2.0}\n{"step": 2, "tra')
    odd = make_run(sweep, "odd", score=1.0, settings={TAU: 6.0}, summary={"val/neg_elbo": None, "test/iwae": None})
    (odd / "images" / "samples.png").write_bytes(b"no picture" * 20_000)
    (sweep / "sweep.json").write_text(json.dumps({"name": "named", "jobs": {"x": {"folder": "later", "name": "t=3"}}}))
    update(sweep)
    assert page_data(sweep)["states"] == {"finished": 11, "waiting": 1}
    assert page_data(sweep)["name"] == "named"


ODD = {
    "history.jsonl": [
        b"\xff\xfe",
        '{"step":1,"x":2}\n{"τ'.encode()[:-1],
        b"[1]\n3\nnull\n",
        b'{"step":null,"x":1}\n{"step":"a","x":1}\n',
        b'{"step":0,"x":NaN}\n{"step":1,"x":Infinity}\n',
        b"[" * 100_000,
    ],
    "summary.json": [
        b"\xff",
        b"[]",
        b'{"val/neg_elbo":NaN,"test/iwae":Infinity,"seconds":1e999}',
        b'{"val/neg_elbo":1' + b"0" * 400 + b"}",
        b'{"codes/kl_per_latent":5}',
        b'{"codes/kl_per_latent":[NaN,"a"],"val/neg_elbo":1}',
        b'{"protocol":["a"],"val/neg_elbo":true}',
    ],
    "status.json": [
        b"\xff",
        b"3",
        b'{"state":["?"],"name":null}',
        b'{"state":"finished","settings":[1],"choices":[2],"overrides":"x","error":3}',
        b'{"state":"finished","settings":{"tau.init":Infinity,"seed":null},"overrides":[1,null]}',
        b'{"state":"failed","error":3,"settings":{"tau.init":NaN,"seed":[1]}}',
        b'{"state":"failed","error":"\\n","settings":{"tau.init":"[/red]","seed":"x"},"choices":{"data":null}}',
        b'{"state":"finished","settings":{"tau.init":"[/red]"}}',
        b'{"state":"finished","settings":{"tau.init":0.5,"optim.lr":0.001,"seed":"x"}}',
    ],
    "../sweep.json": [b"{", b'{"jobs":[1]}', b'{"jobs":{"a":{"name":"x"},"b":3,"c":{"folder":1}},"name":null}'],
    "../.sweep/compare.lock": [b"12x", b"9" * 30, b"\n"],
    "images/samples.png": [b"", b"x" * 100_000],
}


@pytest.mark.parametrize("name", ODD)
def test_whatever_is_in_a_file_the_others_are_compared(name, sweep):
    folder = make_run(sweep, "odd", score=1.0, settings={TAU: 3.0, "optim.lr": 0.001})
    (sweep / ".sweep").mkdir()
    for content in ODD[name]:
        (folder / name).write_bytes(content)
        update(sweep)
        text(sweep)
        assert {run["name"] for run in page_data(sweep)["runs"]} >= {"t0.5_s0", "t2.0_s2"}, content
        (sweep / "comparison.html").unlink()


def test_long_histories_keep_their_kinds_of_rows_and_their_ends(sweep):
    rows = []
    for step in range(1, 1001):
        rows.append({"step": step, "epoch": step / 10, "train/loss": float(step), "train/kl": 1.0})
        if step % 2 == 0:
            rows.append({"step": step, "epoch": step / 10, "val/neg_elbo": float(-step), "val/kl": 2.0})
    (sweep / "t0.5_s0" / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(read_history(sweep / "t0.5_s0")) <= 300
    found = curves(read_sweep(sweep / "t0.5_s0").runs)
    for name, sign, first in (("train/loss", 1, 1), ("val/neg_elbo", -1, 2)):
        assert found[name]["x"][0] == first
        assert found[name]["x"][-1] == 1000
        assert 100 <= len(found[name]["x"]) <= 300
        assert found[name]["mean"] == [sign * x for x in found[name]["x"]]
        assert found[name]["per_epoch"] == 10


def test_runs_that_did_not_finish_are_in_no_mean_curve(sweep):
    bad = make_run(sweep, "bad", "diverged", seed=3, settings={TAU: 0.5, "optim.lr": 0.001})
    (bad / "history.jsonl").write_text("".join(f'{{"step": {s}, "epoch": 1, "train/loss": 1e9}}\n' for s in range(3)))
    update(sweep)
    group = next(group for group in page_data(sweep)["groups"] if group["label"] == "tau.init=0.5")
    assert group["curves"]["finished"]["train/loss"]["mean"] == [10, 9, 8]
    assert group["curves"]["diverged"]["train/loss"]["mean"] == [1e9] * 3


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser")
def test_a_browser_shows_the_page_without_an_error(sweep, tmp_path):
    make_run(sweep, "bad", "failed", settings={TAU: 0.5, "optim.lr": 0.001}, error="<b>why</b>")
    make_run(sweep, "link", score=99.0, settings={TAU: "<a href='x:y'><b>", "optim.lr": 0.001})
    update(sweep)
    address = (sweep / "comparison.html").as_uri() + "#hide.tau.init=0.5&hide.nothing=%E0%A4%A"
    options = [*BROWSER, f"--user-data-dir={tmp_path / 'browser'}"]
    done = subprocess.run(["chromium", *options, address], capture_output=True, text=True, check=True, timeout=60)
    assert "Uncaught" not in done.stderr
    assert "Of what is shown, tau.init=2.0 beats tau.init=1.0 by 1.77 nats" in done.stdout
    shown = re.search(r'id="ranking">(.*?)</table>', done.stdout, re.S)[1]
    assert shown.count("<tr") == 4  # the head and three groups
    assert not re.search(r"<(b|a) |<b>", done.stdout.split('<script type="application/json"')[0].split("</head>")[1])
    assert done.stdout.count("js-plotly-plot") >= 3


BROWSER = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--dump-dom",
           "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
           "--virtual-time-budget=5000"]  # fmt: skip


def page_in_browser(folder, tmp_path):
    """The page as the browser has made it."""
    update(folder)
    options = [*BROWSER, f"--user-data-dir={tmp_path / 'browser'}"]
    command = ["chromium", *options, (folder / "comparison.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "Uncaught" not in done.stderr
    return done.stdout.split("</head>")[1]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser")
def test_long_names_leave_room_for_the_plots(tmp_path):
    """Bars are called by the values alone, and the axis says of what."""
    keys = ["model.number_of_hidden_units", "optim.a_setting_with_a_long_name"]
    for number in (1.5, 2.5):
        settings = {keys[0]: [128, 64, number], keys[1]: "text"} if number == 1.5 else {keys[0]: 3, keys[1]: "other"}
        make_run(tmp_path / "s", f"r{number}", score=number, settings=settings, summary={"codes/perplexity": 3.0})
    shown = page_in_browser(tmp_path / "s", tmp_path)
    ticks = re.findall(r'class="ytick"[^>]*><text[^>]*>([^<]*)</text>', shown)
    assert "[128, 64, 1.5] · text" in [tick.removesuffix("&nbsp;") for tick in ticks]
    assert " · ".join(keys) in shown


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser")
def test_a_page_of_one_run_says_that_nothing_differs(tmp_path):
    make_run(tmp_path / "s", "r", score=1.0)
    shown = page_in_browser(tmp_path / "s", tmp_path)
    assert shown.count("The runs differ in nothing but their seed.</p>") == 2
    assert "Nothing to show yet.</p>" not in shown.partition('id="usage"')[0]


def test_processes_that_update_at_once_leave_a_whole_page_of_the_last_state(sweep):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        others = pool.map_async(update, [sweep] * 9, chunksize=1)
        make_run(sweep, "last", score=1.0, settings={TAU: 4.0, "optim.lr": 0.001})
        update(sweep)
        assert others.get(60) == [None] * 9
    assert len(page_data(sweep)["runs"]) == 10
    assert not list(sweep.glob("**/*.tmp"))


def test_an_update_asked_for_before_another_began_is_not_done_again(sweep, monkeypatch):
    written, first_is_in, go_on = [], threading.Event(), threading.Event()
    monkeypatch.setattr("gsvae.compare.write", lambda *_: (written.append(1), first_is_in.set(), go_on.wait(10)))
    threads = [threading.Thread(target=update, args=(sweep,)) for _ in range(4)]
    threads[0].start()
    first_is_in.wait(10)
    for thread in threads[1:]:
        thread.start()
    threading.Event().wait(0.2)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(written) == 2  # the first, and one for the three that asked while it was at it


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        update(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gsvae.compare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_command(sweep, tmp_path):
    done = run_cli(str(sweep), "--metric", "test/neg_elbo", "--out", str(tmp_path / "x.html"))
    assert done.returncode == 0, done.stderr
    assert re.search(r"0\.5 +│ +3 +│ +11\.17 ± 0\.12", done.stdout)
    assert (tmp_path / "x.html").is_file()
    assert not (sweep / "comparison.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["."], "no run in it"),
        (["S", "--metric", "x"], "--metric x"),
    ],
)
def test_mistakes_cost_one_line(arguments, words, sweep, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = run_cli(*[str(sweep) if a == "S" else a for a in arguments])
    assert done.returncode == 2
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr)
    assert words in done.stderr


def test_it_needs_no_torch():
    check = "import sys, gsvae.compare.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
