"""Evaluation afterwards: information, probes, gap and diagnosis on codes made by hand, and the tool on real runs."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from command_line import RUN_PY, run_main, run_py
from enumeration import tiny_model, true_bounds
from sklearn.metrics import mutual_info_score
from wandb_server_fixture import PATIENCE, SERVER, Service, environment

from gsvae.data import Images, Omniglot
from gsvae.errors import UserError
from gsvae.evaluate import evaluate, main
from gsvae.evaluation import Evaluator, diagnose
from gsvae.evaluation.bounds import relaxed_reconstruction
from gsvae.evaluation.codes import UsageCounter
from gsvae.evaluation.encoding import encode
from gsvae.evaluation.examination import bits_per_dim
from gsvae.evaluation.gap import frozen, gap_over_tau
from gsvae.evaluation.information import entropy_of_counts, image_information, label_information
from gsvae.evaluation.probe import hindrance, nearest_class, one_hot_rows, probe
from gsvae.identity import numeric_settings, run_id
from gsvae.loaded import load_run
from gsvae.model import MLP
from gsvae.training.checkpoint import read_checkpoint

N, L, K, C = 600, 6, 5, 5


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def random_labels(n=N, classes=C, seed=0):
    return torch.randint(classes, (n,), generator=stream(seed))


def random_codes(n=N, seed=1):
    return torch.randint(K, (n, L), generator=stream(seed))


# ---------------------------------------------------------------- information


def test_information_of_a_table_counted_by_hand():
    """30 times (0, 0), 10 (0, 1), 20 (1, 1), 40 (2, 0): plug-in by the definition, corrections of 3, 2 and 4 values."""
    joint = {(0, 0): 30, (0, 1): 10, (1, 1): 20, (2, 0): 40}
    z = torch.tensor([z for (z, _), n in joint.items() for _ in range(n)])
    y = torch.tensor([y for (_, y), n in joint.items() for _ in range(n)])
    p_z, p_y = {0: 0.4, 1: 0.2, 2: 0.4}, {0: 0.7, 1: 0.3}
    plug_in = sum(n / 100 * math.log(n / 100 / (p_z[z] * p_y[y])) for (z, y), n in joint.items())
    assert plug_in == pytest.approx(mutual_info_score(z, y))
    (found,) = label_information(z.unsqueeze(1), y).tolist()
    assert found == pytest.approx(plug_in + (2 + 1 - 3) / 200)


def test_a_code_that_is_the_label_has_all_its_entropy_and_names_do_not_matter():
    labels = random_labels()
    found = label_information(torch.stack((labels, (labels + 2) % K), 1), 10 * labels - 7)
    counts = labels.bincount()
    plug_in = mutual_info_score(labels, labels)
    for value in found.tolist():
        assert value == pytest.approx(entropy_of_counts(counts).item())
        assert value == pytest.approx(plug_in + (C - 1) / (2 * N))


def test_independent_codes_have_no_information_where_the_uncorrected_estimate_has():
    draws = [(random_codes(seed=s), random_labels(seed=100 + s)) for s in range(20)]
    corrected = torch.stack([label_information(codes, labels) for codes, labels in draws])
    plug_in = sum(mutual_info_score(codes[:, 0], labels) for codes, labels in draws) / len(draws)
    assert plug_in > 0.009  # (K − 1)(C − 1) / 2N is 0.013
    assert abs(corrected.mean().item()) < 0.002


def test_image_information_is_the_kl_to_the_mean_posterior():
    logits = 2 * torch.randn(40, L, K, generator=stream(), dtype=torch.float64)
    counter = UsageCounter()
    counter.add(logits[None], torch.zeros(1, 40, L))
    (usage,) = counter.results()
    q = logits.softmax(-1)
    expected = (q * (q.log() - q.mean(0).log())).sum(-1).mean(0)
    torch.testing.assert_close(image_information(usage), expected)
    torch.testing.assert_close(usage.entropy_L, -(q * q.log()).sum(-1).mean(0))


def test_bits_per_dimension():
    assert bits_per_dim(784 * math.log(2), 784) == pytest.approx(1.0)
    assert bits_per_dim(100.0, 784) == pytest.approx(0.18402, abs=1e-5)


# ---------------------------------------------------------------- probes


def test_codes_that_encode_the_label_are_read_perfectly():
    train_y, test_y = random_labels(), random_labels(200, seed=5)
    train, test = random_codes(), random_codes(200, seed=6)
    train[:, 2], test[:, 2] = (train_y + 1) % K, (test_y + 1) % K
    found = probe(train, train_y, test, test_y, K)
    assert (found.accuracy, found.train_accuracy, found.nearest_class) == (1.0, 1.0, 1.0)
    assert 0.8 * math.log(C) < found.information <= entropy_of_counts(test_y.bincount()).item()
    assert found.chance < 0.35
    assert found.converged


def test_shuffled_labels_leave_chance():
    codes, labels = random_codes(4000), random_labels(4000)
    shuffled = labels[torch.randperm(4000, generator=stream(9))]
    codes[:, 0] = labels
    found = probe(codes[:3000], shuffled[:3000], codes[3000:], shuffled[3000:], K)
    for accuracy in (found.accuracy, found.nearest_class):
        assert abs(accuracy - 1 / C) < 4 * math.sqrt(0.2 * 0.8 / 1000)
    assert found.information < 0.01


def test_nearest_class_is_the_nearest_mean_and_takes_codes_that_never_vary():
    codes, labels = random_codes(), random_labels() * 3 + 1
    rows = torch.nn.functional.one_hot(codes, K).flatten(1).double()
    means = torch.stack([rows[labels == c].mean(0) for c in labels.unique()])
    expected = labels.unique()[torch.cdist(rows, means).argmin(1)]
    sparse = one_hot_rows(codes, K)
    assert (sparse.toarray() == rows.numpy()).all()
    assert (nearest_class(sparse, labels.numpy(), sparse) == expected.numpy()).all()
    constant = torch.zeros(N, L, dtype=torch.int64)
    assert probe(constant, labels, constant, labels, K).accuracy < 0.35


def labelled(labels):
    return Images(torch.zeros(len(labels), 6, dtype=torch.uint8), torch.tensor(labels))


def test_labels_that_cannot_be_probed_say_why():
    assert hindrance(labelled([0, 1]), labelled([1, 1]), shared_labels=True) is None
    assert "no labels" in str(hindrance(labelled([0, 0]), labelled([0]), shared_labels=True))
    assert "no training image has" in str(hindrance(labelled([0, 1]), labelled([2]), shared_labels=True))
    omniglot = Omniglot.shared_labels  # whose labels number the characters of other alphabets in each split
    assert "different classes" in str(hindrance(labelled([0, 1]), labelled([1]), shared_labels=omniglot))


# ---------------------------------------------------------------- the gap


def some_images(n=3, repeat=1):
    pixels = torch.randint(0, 256, (n, 6), generator=stream(1), dtype=torch.uint8).repeat(repeat, 1)
    return Images(pixels, torch.zeros(len(pixels), dtype=torch.int64))


def test_the_gap_vanishes_as_tau_does_and_grows_with_it():
    model, images = tiny_model(), some_images(repeat=500)
    gaps = gap_over_tau(model, images, [1e-4, 0.03, 0.3, 3.0], 0, 400, dynamic=False)
    sizes = [abs(gap.nats) for gap in gaps]
    assert sizes[0] < 1e-3
    assert sizes == sorted(sizes)
    assert sizes[-1] > 0.05
    assert len({gap.one_hot for gap in gaps}) == 1
    assert gaps[0].frozen > 0.99
    assert gaps[-1].frozen == 0


def test_both_sides_of_the_gap_have_the_means_they_should():
    model, images = tiny_model(), some_images(repeat=7000)
    (gap,) = gap_over_tau(model, images, [0.7], 0, 1000, dynamic=False)
    x_BD = images.pixels_ND.double() / 255
    exact = true_bounds(model, x_BD[:3])["reconstruction"].mean().item()
    with torch.no_grad():
        relaxed_N = relaxed_reconstruction(model, x_BD, model.encode(x_BD), 0.7, stream(3))
    noise = relaxed_N.std().item() / math.sqrt(len(relaxed_N))
    assert abs(gap.relaxed - relaxed_N.mean().item()) < 4 * math.sqrt(2) * noise
    assert abs(gap.one_hot - exact) < 0.03
    assert 0 < gap.error < 0.02


@pytest.mark.parametrize("tau", [0.05, 0.5])
def test_frozen_latents_are_those_without_a_jacobian(tau):
    scores = 3 * torch.randn(50, 2, 4, generator=stream(), dtype=torch.float64)
    y = (scores / tau).softmax(-1)
    jacobian = (torch.diag_embed(y) - y.unsqueeze(-1) * y.unsqueeze(-2)) / tau
    expected = jacobian.abs().amax((-1, -2)) < 1e-6
    assert torch.equal(frozen(y, tau), expected)
    assert torch.equal(frozen((scores.float() / tau).softmax(-1), tau), expected)
    assert 0 < expected.double().mean() < 1


# ---------------------------------------------------------------- diagnosis


def two_symbols(n=200):
    """Images of two one-hot symbols of four pixels, and a linear model whose codes are the symbols."""
    index = torch.randint(4, (n, 2), generator=stream(4))
    pixels = 255 * torch.nn.functional.one_hot(index, 4).flatten(1).to(torch.uint8)
    model = MLP(image_shape=(1, 2, 4), hidden=[], n_latent=2, n_cat=4)
    pixel_of = torch.tensor([[4 * latent + k for latent in range(2)] for k in range(4)]).flatten()  # of feature k·L + l
    with torch.no_grad():
        encoder, decoder = model.encoder[-1], model.decoder[-1]
        encoder.weight.copy_(4 * torch.eye(8)[pixel_of])
        encoder.bias.zero_()
        decoder.weight.copy_(8 * torch.eye(8)[pixel_of].T)
        decoder.bias.fill_(-4)
    return model, Images(pixels, index[:, 0])


def scores_of(model, images, tau=0.1):
    return Evaluator(1, 1, 1000).one(model, 0, images, tau)


def kinds(findings):
    return {finding.kind for finding in findings}


def test_a_healthy_model_gets_no_warning():
    model, images = two_symbols()
    assert diagnose(scores_of(model, images), train=scores_of(model, images), frozen=0.3) == []


def test_the_codes_are_what_they_should_be():
    """The hand-made model encodes the first symbol in its first latent."""
    model, images = two_symbols()
    index = encode(model, images, 0, 64, dynamic=False)
    assert (index[:, 0] == images.labels_N).double().mean() > 0.85


def test_a_constant_encoder_is_collapse():
    model, images = two_symbols()
    with torch.no_grad():
        model.encoder[-1].weight.zero_()
        for bias, expected in ((0.0, {"collapse"}), (50.0, {"collapse", "saturation", "dead codes"})):
            model.encoder[-1].bias[:2] = bias
            findings = diagnose(scores_of(model, images))
            assert kinds(findings) - {"soft-versus-hard gap"} == expected
    assert "training.beta_warmup" in str(findings[0])


def test_logits_a_thousand_times_as_large_are_saturation():
    model, images = two_symbols()
    with torch.no_grad():
        model.encoder[-1].weight *= 1000
    (finding,) = diagnose(scores_of(model, images))
    assert finding.kind == "saturation"
    assert "tau.init" in finding.advice


def test_the_other_warnings_each_fire_alone():
    model, images = two_symbols()
    healthy = scores_of(model, images)
    assert kinds(diagnose(healthy, frozen=0.6)) == {"saturation"}
    train = Evaluator(1, 1, 1000).one(model, 1, Images(images.pixels_ND[:1], images.labels_N[:1]), 0.1)
    worse = replace(healthy, neg_elbo=train.neg_elbo * 1.06, relaxed_loss=train.neg_elbo * 1.06)
    assert kinds(diagnose(worse, train=train)) == {"overfitting"}
    assert kinds(diagnose(replace(worse, neg_elbo=train.neg_elbo * 1.04), train=train)) == set()
    assert kinds(diagnose(replace(healthy, relaxed_loss=0.89 * healthy.neg_elbo))) == {"soft-versus-hard gap"}
    assert kinds(diagnose(replace(healthy, codes=replace(healthy.codes, dead=3)))) == {"dead codes"}
    for idle, expected in ((5, set()), (6, {"unused latents"}), (9, {"collapse"})):
        entropy_L = torch.tensor([math.log(4)] * idle + [0.5] * (10 - idle))
        usage = replace(healthy.codes, usage_LK=torch.full((10, 4), 0.25), entropy_L=entropy_L, kl_L=entropy_L)
        assert kinds(diagnose(replace(healthy, codes=usage))) == expected


# ---------------------------------------------------------------- the tool on real runs

DEBUG = ["experiment=debug", "training.epochs=6", "optim.lr=0.1", "seed=3", "tracking.images_every=0"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs with and without their score on the training images, and one with dynamic binarisation."""
    folder = tmp_path_factory.mktemp("runs")
    tracking = ["tracking.project=proj", "tracking.entity=team", "tracking.group=temps", "tracking.name=hot"]
    asked = {"with": ["evaluation.on_train=true"], "without": tracking}
    asked["dynamic"] = [*asked["with"], "data.binarize=dynamic", "evaluation.n_samples=2", "evaluation.max_rows=150"]
    for name, more in asked.items():
        done = run_py(*DEBUG, *more, f"hydra.run.dir={folder / name}")
        assert done.code == 0, done.err
    return folder


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("name", ["with", "dynamic"])
def test_afterwards_the_numbers_are_the_run_s_own(runs, name):
    known = summary(runs / name)
    best, last = (evaluate(load_run(runs / name, which, "cpu")).metrics() for which in ("best", "last"))
    same = ("train/neg_elbo", "val/neg_elbo", "val/kl", "test/neg_elbo", "test/reconstruction", "test/kl", "test/iwae",
            "codes/perplexity", "codes/active", "codes/dead")  # fmt: skip
    assert {key: best[key] for key in same} == pytest.approx({key: known[key] for key in same}, rel=1e-6)
    for split in ("train", "test"):
        assert last[f"{split}/neg_elbo"] == pytest.approx(known[f"{split}_last/neg_elbo"], rel=1e-6)
    assert best["test/bits_per_dim"] == pytest.approx(known["test/neg_elbo"] / (64 * math.log(2)), rel=1e-6)


def test_scoring_the_training_images_changes_nothing_else(runs):
    on, off = (summary(runs / name) for name in ("with", "without"))
    mine = {"train/neg_elbo", "train_last/neg_elbo"}
    vary = {"seconds", "peak_memory_mb", "train/images_per_second", "warnings"}
    assert on.keys() - off.keys() == mine
    assert {k: on[k] for k in on.keys() - mine - vary} == {k: off[k] for k in off.keys() - vary}
    assert on["train/neg_elbo"] != on["train_last/neg_elbo"], "the best were the last: the test would show less"


def test_a_run_without_it_is_the_run_it_was_before_there_was_such_a_setting(runs):
    cfg = load_run(runs / "without", device="cpu").cfg
    younger = dict(numeric_settings(cfg))
    assert "evaluation.on_train" not in younger
    before = run_id(cfg)
    cfg.evaluation.on_train = True
    assert run_id(cfg) != before
    del cfg.evaluation.on_train
    assert run_id(cfg) == before


def test_warnings_are_in_the_summary_and_the_log_and_validations_warn_once(tmp_path):
    folder = tmp_path / "run"
    done = run_py(*DEBUG, "training.epochs=3", "optim.lr=1e-5", f"hydra.run.dir={folder}")
    assert done.code == 0, done.err
    (warning,) = summary(folder)["warnings"]
    assert warning.startswith("collapse: 4 of 4 latents know nothing")
    lines = (folder / "run.log").read_text().splitlines()
    assert sum("collapse:" in line and "WARNING" in line for line in lines) == 2
    assert sum("epoch 2: collapse:" in line for line in lines) == 1


def test_what_it_prints_and_writes(runs, tmp_path):
    arguments = ["--tau", "0.2,1", "--iwae", "7", "--samples", "3", "--out", tmp_path, "--splits", "test,train"]
    done = run_main(main, runs / "with", "--device", "cpu", *arguments)
    assert done.code == 0, done.err
    for word in ("IWAE with 7 samples", "linear probe", "1 (training)", "soft versus hard"):
        assert word in done.out
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert [gap["tau"] for gap in found["gap"]] == [0.2, 1.0]
    assert found["scores"].keys() == {"train", "test"}
    assert found["metrics"]["gap/at_training_tau"] == found["gap"][1]["nats"] == found["metrics"]["gap/tau_1"]
    assert 0 < found["metrics"]["probe/accuracy"] <= 1
    assert len(found["latents"]["label_information"]) == 4
    assert (tmp_path / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation.json", "evaluation.png"}


def test_runs_of_a_folder_go_on_beyond_one_that_cannot_be_evaluated(runs, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    arguments = ["--out", tmp_path / "out", "--splits", "val", "--iwae", "0", "--checkpoint", "last"]
    done = run_main(main, bad, runs, "--device", "cpu", *arguments)
    assert done.code == 2
    assert done.err.startswith(f"error: {bad}: is not a run's folder")
    for name in ("with", "without", "dynamic"):
        found = json.loads((tmp_path / "out" / name / "evaluation_last.json").read_text())
        assert found["codes_of"] == "val"
        assert "test/neg_elbo" not in found["metrics"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["RUN", "--checkpoint", "no.pt"], "no.pt: there is no such checkpoint"),
        (["RUN", "--checkpoint", "DAMAGED"], "damaged.pt: damaged"),
        (["RUN", "--checkpoint", "OTHER"], "its weights do not fit"),
        (["RUN", "--device", "cuda:99"], "device=cuda:99: this machine has "),
        (["RUN", "--splits", "tset"], "argument --splits: tset: allowed are train, val, test"),
        (["RUN", "--tau", "0.5,0"], "argument --tau: 0.5,0: must be numbers above 0"),
        (["RUN", "--samples", "0"], "argument --samples: 0: must be a whole number, at least 1"),
        (["RUN", "--iwae", "x"], "argument --iwae: x: must be a whole number, at least 0"),
        (["RUN", "--iwaes", "3"], "unrecognized arguments: --iwaes"),
        ([], "the following arguments are required: RUN_FOLDER"),
    ],
)
def test_a_mistake_is_one_line(runs, tmp_path, arguments, said):
    best = runs / "with" / "checkpoints" / "best.pt"
    damaged, other = tmp_path / "damaged.pt", tmp_path / "other.pt"
    damaged.write_bytes(best.read_bytes()[:-2000])
    state = read_checkpoint(best)
    torch.save({**state, "config": state["config"].replace("n_cat: 4", "n_cat: 5")}, other)
    places = {"RUN": runs / "with", "DAMAGED": damaged, "OTHER": other}
    done = run_main(main, *(places.get(a, a) for a in arguments))
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_run_made_for_a_gpu_or_by_an_earlier_version_is_evaluated_here(runs, tmp_path):
    """tf32 and compiled code are left out on the CPU; settings that the run did not know have their defaults."""
    state = read_checkpoint(runs / "with" / "checkpoints" / "best.pt")
    config = state["config"].replace("precision: fp32", "precision: tf32").replace("compile: false", "compile: true")
    config = config.replace("  on_train: true\n", "").replace("device: auto", "device: cuda")
    assert config.count("tf32") == config.count("compile: true") == config.count("device: cuda") == 1
    assert "on_train" not in config
    torch.save({**state, "config": config}, tmp_path / "best.pt")
    run = load_run(runs / "with", str(tmp_path / "best.pt"), "cpu", data_root="elsewhere")
    assert run.cfg.data.root == "elsewhere"
    assert not run.objective.training
    found = evaluate(run, scored=("test",), iwae_on=())
    assert found.metrics()["test/neg_elbo"] == pytest.approx(summary(runs / "with")["test/neg_elbo"], rel=1e-6)


def test_a_checkpoint_without_settings_is_refused(runs, tmp_path):
    state = read_checkpoint(runs / "with" / "checkpoints" / "best.pt")
    torch.save({**state, "config": "seed: 0"}, tmp_path / "best.pt")
    with pytest.raises(UserError, match="has no settings of a run"):
        load_run(runs / "with", str(tmp_path / "best.pt"), "cpu")


# ---------------------------------------------------------------- W&B


def run_tool(env, *arguments):
    command = [sys.executable, "-m", "gsvae.evaluate", *map(str, arguments)]
    return subprocess.run(
        command, env=env, cwd=RUN_PY.parent, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )


QUICK = ["--device", "cpu", "--splits", "test", "--iwae", "0", "--wandb"]


@pytest.mark.slow
def test_it_is_a_wandb_run_beside_the_run(runs, tmp_path):
    if not SERVER.exists():
        pytest.skip("the stand-in service is not at ../shared/tools/wandb_server.py")
    with Service(tmp_path / "service") as service:
        done = run_tool(environment(service.url, tmp_path), runs / "without", *QUICK, "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        (path,) = service.folder.glob("team/proj/runs/*/run.json")
        run = json.loads(path.read_text())
        assert (run["group"], run["jobType"], run["name"]) == ("temps", "evaluation", "hot evaluation")
        assert run["state"] == "finished"
        found = json.loads((tmp_path / "evaluation.json").read_text())
        assert {key: run["summary"][key] for key in found["metrics"]} == pytest.approx(found["metrics"])
        assert run["config"]["run_id"] == json.loads((runs / "without" / "status.json").read_text())["run_id"]
        assert service.images(path.parent.name) == ["evaluation"]
        (table,) = path.parent.glob("files/media/table/gap/over_tau*.json")
        rows = json.loads(table.read_text())["data"]
        assert [row[0] for row in rows] == [gap["tau"] for gap in found["gap"]]


@pytest.mark.slow
def test_without_the_service_the_result_is_there_all_the_same(runs, tmp_path):
    done = run_tool(environment("http://127.0.0.1:9", tmp_path), runs / "without", *QUICK, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "W&B: no answer from http://127.0.0.1:9" in done.stdout
    assert (tmp_path / "evaluation.json").is_file()
