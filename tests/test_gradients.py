"""The gradient laboratory against enumeration, its command line, and the same numbers while a run trains."""

import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from command_line import Done, run_main, run_py
from enumeration import all_codes, log_q, tiny_model
from estimation import noise_selecting
from packing import Spec, history, in_two, trainer, weights
from torch import Tensor
from wandb_server_fixture import KEY, SERVER, Service, environment

from gsvae.config import options
from gsvae.errors import UserError
from gsvae.estimation.measure import Measurement, measure
from gsvae.estimation.moments import Fixed, Moments, jackknife
from gsvae.estimation.probe import Probe
from gsvae.estimation.problem import WRT, Problem
from gsvae.estimation.reference import exact, make_reference, sampled
from gsvae.evaluate import main as evaluate_main
from gsvae.gradients.__main__ import main
from gsvae.gradients.estimators import candidates
from gsvae.loaded import load_run
from gsvae.sampling import RLOO, Estimate, Hard, ReinMax, Sampler, Soft, StraightThrough
from gsvae.sampling.base import relaxation
from gsvae.training.checkpoint import read_checkpoint
from gsvae.training.streams import derive_seed

B, L, K = 7, 2, 3


def problem(wrt: str = "encoder", max_rows: int = 4000) -> Problem:
    x_BD = (torch.rand(B, 6, generator=torch.Generator().manual_seed(0)) > 0.5).double()
    return Problem(tiny_model().eval(), x_BD, wrt, max_rows)


def by_autograd(p: Problem) -> Tensor:
    """∇ Σ_z q(z|x) f(z), differentiated as it stands."""
    logits_BLK = p.model.encode(p.x_BD)
    f_NB = -p.log_likelihood(all_codes(L, K).unsqueeze(1))
    expectation_B = (log_q(logits_BLK).exp() * f_NB).sum(0)
    if p.wrt == "logits":
        (gradient_BLK,) = torch.autograd.grad(expectation_B.sum(), logits_BLK)
        return gradient_BLK.flatten() / B**0.5
    parts = torch.autograd.grad(expectation_B.mean(), list(p.model.encoder.parameters()))
    return torch.cat([part.flatten() for part in parts])


@dataclass(frozen=True)
class Truth:
    """Squared bias and variance by enumeration, relative to the squared gradient."""

    bias2: float
    variance: float


def enumerated(p: Problem, sampler: Sampler, tau: float) -> Truth:
    """Of estimators that see nothing but the code, or pairs of codes for RLOO(2), on ``wrt="logits"``.

    Images are drawn for independently, so that squared norms are means over them.
    """
    codes, q_NB = all_codes(L, K), log_q(p.logits_BLK).exp()
    noise = noise_selecting(codes, p.logits_BLK)
    if isinstance(sampler, RLOO):
        n = len(codes)
        first, second = torch.arange(n).repeat_interleave(n), torch.arange(n).repeat(n)
        noise, q_NB = torch.stack((noise[first], noise[second]), 1), q_NB[first] * q_NB[second]
    tau_ = torch.tensor(tau, dtype=torch.float64)
    draws = torch.stack([p._one(sampler, tau_, each) for each in noise]).flatten(2)
    mean_BP = torch.einsum("nbp,nb->bp", draws, q_NB)
    goal_BP = by_autograd(p).view(B, -1) * B**0.5
    variance = (q_NB * (draws - mean_BP).square().sum(-1)).sum(0).mean()
    norm2 = goal_BP.square().sum(-1).mean()
    bias2 = (mean_BP - goal_BP).square().sum(-1).mean()
    return Truth((bias2 / norm2).item(), (variance / norm2).item())


# ---------------------------------------------------------------- references


@pytest.mark.parametrize("wrt", WRT)
@pytest.mark.parametrize("max_rows", [4000, 7, 20])
def test_the_exact_reference_is_autograd_through_enumeration(wrt, max_rows):
    p = problem(wrt, max_rows)
    found = exact(p)
    torch.testing.assert_close(found.gradient.whole().mean, by_autograd(p), rtol=0, atol=1e-13)
    assert (found.codes, found.remaining) == (K**L, 0)


def test_enumeration_decodes_no_more_at_once_than_it_may():
    p, seen = problem(max_rows=20), []
    decode = p.model.decode
    p.model.decode = lambda z: (seen.append(z.shape[0]), decode(z))[1]
    exact(p)
    assert max(seen) * B <= 20
    assert sum(seen) == K**L


@pytest.mark.parametrize("wrt", WRT)
def test_a_sampled_reference_knows_how_far_off_it_is(wrt):
    p = problem(wrt)
    goal = exact(p)
    errors = []
    for seed in range(10):
        found = sampled(p, 200, seed)
        apart = (found.gradient.whole().mean - by_autograd(p)).square().sum().item()
        errors.append(apart / goal.norm2 / found.remaining)
        assert found.norm2 == pytest.approx(goal.norm2, rel=10 * found.remaining**0.5)
    assert 0.6 < sum(errors) / len(errors) < 1.6


def test_which_reference_is_taken(monkeypatch):
    p = problem()
    assert make_reference(p, 20, 0).kind == "exact"
    assert make_reference(p, 20, 0, "rloo").kind == "rloo"
    monkeypatch.setattr("gsvae.estimation.reference.MAX_CODES", K**L - 1)
    assert make_reference(p, 20, 0).kind == "rloo"
    with pytest.raises(UserError, match=r"3\^2 = 9 codes"):
        make_reference(p, 20, 0, "exact")


# ---------------------------------------------------------------- bias and variance


@pytest.mark.parametrize("tau", [0.6, 1.5])
@pytest.mark.parametrize("sampler", [StraightThrough(), ReinMax(), RLOO(2)], ids=lambda s: type(s).__name__)
def test_bias_and_variance_are_those_of_enumeration(sampler, tau):
    p = problem("logits")
    expected = enumerated(p, sampler, tau)
    found = measure(p, sampler, tau, 4000, 3, exact(p))
    assert abs(found.bias2 - expected.bias2) < 3.5 * found.bias2_se
    assert abs(found.variance - expected.variance) < 3.5 * found.variance_se
    assert found.variance_se < 0.05 * found.variance
    assert found.relative_error == pytest.approx(math.sqrt(found.bias2 + found.variance))
    assert found.is_biased == (not isinstance(sampler, RLOO))


def test_the_bias_of_an_unbiased_estimator_is_around_0_on_both_sides():
    p = problem()
    goal = exact(p)
    found = [measure(p, RLOO(4), 1.0, 100, seed, goal) for seed in range(30)]
    z = [m.bias2 / m.bias2_se for m in found]
    assert 5 < sum(value < 0 for value in z) < 25
    assert abs(sum(m.bias2 for m in found) / 30) < 3 * torch.tensor([m.bias2 for m in found]).std() / 30**0.5
    assert sum(m.is_biased for m in found) <= 4
    # Without the correction by V/N there would be:
    assert min(m.variance / m.draws for m in found) > 5 * abs(sum(m.bias2 for m in found) / 30)


def test_standard_errors_are_the_spread_over_repetitions():
    p = problem()
    for sampler in (StraightThrough(), RLOO(4)):
        found = [measure(p, sampler, 1.0, 100, seed, sampled(p, 40, 100 + seed)) for seed in range(40)]
        for name in ("bias2", "variance", "cosine"):
            values = torch.tensor([getattr(m, name) for m in found])
            claimed = torch.tensor([getattr(m, f"{name}_se") for m in found]).square().mean().sqrt()
            assert 0.6 < claimed / values.std() < 2.0, name


def test_a_sampled_reference_gives_the_same_as_the_exact_one():
    p = problem()
    for sampler in (Soft(), RLOO(4)):
        ours = measure(p, sampler, 1.0, 1000, 0, exact(p))
        theirs = measure(p, sampler, 1.0, 1000, 0, sampled(p, 100, 1))  # 0.001 of ‖g*‖² is left in it
        assert abs(ours.bias2 - theirs.bias2) < 3 * theirs.bias2_se
        assert ours.cosine == pytest.approx(theirs.cosine, abs=0.02)
        assert ours.variance == pytest.approx(theirs.variance, rel=0.1)


def test_the_variance_left_in_a_sampled_reference_is_no_bias():
    p = problem()
    goals = [sampled(p, 20, 100 + seed) for seed in range(60)]
    found = torch.tensor([measure(p, RLOO(8), 1.0, 200, seed, goal).bias2 for seed, goal in enumerate(goals)])
    left = sum(goal.remaining for goal in goals) / 60
    assert abs(found.mean()) < 3 * found.std() / 60**0.5 < 0.7 * left


def test_what_is_known_of_the_estimators_shows():
    """Colder relaxations have less bias and more variance; more samples of RLOO have less variance."""
    p = problem()
    goal = exact(p)

    def found(sampler: Sampler, tau: float = 1.0) -> Measurement:
        return measure(p, sampler, tau, 1000, 0, goal)

    for sampler in (Soft(), Hard()):
        cold, warm = found(sampler, 0.3), found(sampler, 2.0)
        assert cold.bias2 < warm.bias2
        assert cold.variance > warm.variance
    assert found(ReinMax()).bias2 < found(StraightThrough()).bias2
    two, eight = found(RLOO(2)), found(RLOO(8))
    assert two.variance > 4 * eight.variance
    assert two.cosine < eight.cosine < 1


def test_the_cosine_is_that_of_each_draw():
    p = problem()
    goal_P = by_autograd(p)
    draws_NP = torch.cat(list(p.draws(Hard(), 0.7, 50, 4)))
    expected = torch.nn.functional.cosine_similarity(draws_NP, goal_P.unsqueeze(0)).mean().item()
    assert measure(p, Hard(), 0.7, 50, 4, exact(p)).cosine == pytest.approx(expected, abs=1e-12)


class ExactSampler(Sampler):
    """Σ_z q f, without noise."""

    def noise_shape(self, B, L, K):
        return (0, L, K)

    def forward(self, logits_BLK, tau, noise, log_likelihood):
        surrogate_B = (log_q(logits_BLK).exp() * -log_likelihood(all_codes(L, K).unsqueeze(1))).sum(0)
        return Estimate(surrogate_B, surrogate_B.detach())


def test_an_exact_estimator_has_neither_bias_nor_variance():
    p = problem()
    found = measure(p, ExactSampler(), 1.0, 1000, 0, exact(p))
    assert found.variance == 0
    assert abs(found.bias2) < 1e-20
    assert not found.is_biased
    assert found.cosine == pytest.approx(1)
    assert found.draws == 4  # more would be the same


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize("wrt", WRT)
@pytest.mark.parametrize("sampler", [Soft(), RLOO(3)], ids=lambda s: type(s).__name__)
def test_draws_do_not_depend_on_how_many_are_made_at_once(wrt, sampler):
    whole = torch.cat(list(problem(wrt).draws(sampler, 0.7, 23, 5)))
    for max_rows in (1, 100, 160):
        parts = list(problem(wrt, max_rows).draws(sampler, 0.7, 23, 5))
        assert len(parts) > 1
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-13)
    assert not torch.equal(torch.cat(list(problem(wrt).draws(sampler, 0.7, 23, 6))), whole)


def test_a_draw_is_the_gradient_that_training_takes():
    p = problem()
    (draw,) = torch.cat(list(p.draws(Hard(), 0.7, 1, 8)))
    (noise,) = p.noise(Hard(), 1, torch.Generator().manual_seed(8))
    tau = torch.tensor(0.7, dtype=torch.float64)
    estimate = Hard()(p.model.encode(p.x_BD), tau, noise, p._log_likelihood)
    parts = torch.autograd.grad(estimate.surrogate_B.mean(), list(p.model.encoder.parameters()))
    torch.testing.assert_close(draw, torch.cat([part.flatten() for part in parts]), rtol=0, atol=1e-14)


class Stubborn(Sampler):
    """Soft, in a way that vmap cannot lift."""

    def forward(self, logits_BLK, tau, noise, log_likelihood):
        if noise.sum().item() == 0:
            raise ValueError
        return relaxation(((logits_BLK + noise) / tau).softmax(-1), log_likelihood)


def test_a_sampler_that_cannot_be_lifted_is_drawn_from_one_by_one(caplog):
    p = problem()
    ours, theirs = (torch.cat(list(p.draws(s, 0.7, 9, 5))) for s in (Stubborn(), Soft()))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    (line,) = caplog.messages
    assert "Stubborn: its draws are made one by one" in line


def test_decoder_calls_are_counted():
    p = problem()
    counts = {type(s).__name__: p.decoder_calls(s) for s in (Soft(), ReinMax(), RLOO(5), ExactSampler())}
    assert counts == {"Soft": 1, "ReinMax": 1, "RLOO": 5, "ExactSampler": K**L}


def test_moments_are_those_of_all_draws_and_of_all_but_a_group():
    draws_NP = 1e4 + torch.randn(53, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = Moments(53, 5, torch.device("cpu"))
    for part in draws_NP.split(7):
        moments.add(part)
    assert moments.n_groups == 10
    kept = torch.ones(53, dtype=torch.bool)
    kept[5:10] = False  # the second of ten
    for found, rows in ((moments.whole(), draws_NP), (moments.without(1), draws_NP[kept])):
        assert found.n == len(rows)
        torch.testing.assert_close(found.mean, rows.mean(0))
        assert found.variance == pytest.approx(rows.var(0).sum().item(), rel=1e-9)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    draws_NP = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = Moments(1000, 1, torch.device("cpu"))
    moments.add(draws_NP)
    fixed = Fixed(torch.ones(1, dtype=torch.float64))
    value, error = jackknife(lambda m, r: (m.mean - r.mean).item(), moments, fixed)
    assert value == pytest.approx(draws_NP.mean().item() - 1)
    groups = draws_NP.view(10, 100).mean(1)
    assert error == pytest.approx(groups.std().item() / 10**0.5)


# ---------------------------------------------------------------- during training

SPECS = [Spec(0, lr=1e-2), Spec(1, lr=2e-2)]


def make(folder, specs, *, probe=True, lifted=True, sampler=Hard, **more):
    """A trainer whose estimators are measured every other epoch of three and a bit."""
    made = trainer(
        specs, sampler, torch.optim.Adam, folder, steps=33, dtype=torch.float32, dynamic=True, lifted=lifted, **more
    )
    if probe:
        made.probe = Probe(every=2, images=made.splits.val, n_images=8, draws=10, max_rows=60, dynamic=True)
    return made


@pytest.mark.parametrize(("size", "lifted"), [(1, True), (2, True), (2, False)])
def test_measuring_changes_no_other_number(size, lifted, tmp_path):
    plain = make(tmp_path / "plain", SPECS[:size], probe=False, lifted=lifted)
    measured = make(tmp_path / "measured", SPECS[:size], lifted=lifted)
    for each in (plain, measured):
        each.fit()
    for r, spec in enumerate(SPECS[:size]):
        for name, value in weights(plain, r).items():
            assert torch.equal(weights(measured, r)[name], value), name
        rows = history(tmp_path / "measured" / str(spec.seed))
        ours = [row for row in rows if "gradient/bias2" in row]
        assert [row for row in rows if row not in ours] == history(tmp_path / "plain" / str(spec.seed))
        assert [row["step"] for row in ours] == [20, 33]  # the second epoch's end, and the last step
        names = {"gradient/bias2", "gradient/variance", "gradient/cosine", "gradient/relative_error"}
        assert all(row.keys() - {"step", "epoch"} == names for row in ours)
        final = measured.runs[r].outcome["metrics"]
        assert {name: final[name] for name in names} == {name: ours[-1][name] for name in names}


def test_a_run_is_measured_the_same_alone_and_in_a_pack(tmp_path):
    alone = make(tmp_path / "alone", SPECS[1:])
    pack = make(tmp_path / "pack", SPECS)
    for each in (alone, pack):
        each.fit()
    ours, theirs = (
        [row for row in history(tmp_path / name / "1") if "gradient/bias2" in row] for name in ("alone", "pack")
    )
    assert len(ours) == 2
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-3)


def test_what_is_logged_is_the_measurement_of_the_weights_as_they_are(tmp_path):
    made = make(tmp_path, SPECS[:1])
    made.fit()
    row = [row for row in history(tmp_path / "0") if "gradient/bias2" in row][-1]
    seeds: list[tuple[int, int]] = []
    made.probe = lambda *args: seeds.append(args[2]) or {}
    made._measure(made.lanes[0], [0])
    assert seeds == [(derive_seed(0, "gradients"), derive_seed(0, "gradients/reference"))]
    again = make(tmp_path / "again", SPECS[:1]).probe(made.lanes[0].pack.module, SPECS[0].tau(32), seeds[0])
    assert {k: v for k, v in row.items() if k not in ("step", "epoch")} == again


@pytest.mark.parametrize(("size", "lifted"), [(1, True), (2, True), (2, False)])
def test_interrupted_while_measuring_and_resumed_equals_uninterrupted(size, lifted, tmp_path):
    specs = SPECS[:size]
    whole = make(tmp_path / "whole", specs, lifted=lifted)
    looks, measuring = [], []
    whole.interrupt.check = lambda: looks.append(len(looks))
    measure_run = whole._measure_run

    def spied(*args):
        begun = len(looks)
        measure_run(*args)
        measuring.extend(range(begun, len(looks)))

    whole._measure_run = spied
    whole.fit()
    assert len(measuring) > 4 * size
    for n_checks in sorted({measuring[0], measuring[len(measuring) // 3], measuring[-1]}):
        folder = tmp_path / f"cut{n_checks}"
        rest = in_two(partial(make, folder, specs, lifted=lifted), n_checks)
        for r, spec in enumerate(specs):
            run = str(spec.seed)
            assert history(folder / run) == history(tmp_path / "whole" / run), n_checks
            assert all(torch.equal(weights(rest, r)[k], v) for k, v in weights(whole, r).items())


class Fragile(Hard):
    """Fails where a gradient is measured: on eight images."""

    def forward(self, logits_BLK, tau, noise, log_likelihood):
        if len(logits_BLK) == 8:
            raise ValueError("eight")
        return super().forward(logits_BLK, tau, noise, log_likelihood)


def test_a_measurement_that_fails_is_its_runs_alone(tmp_path):
    made = make(tmp_path, SPECS, sampler=Fragile)
    made.fit()
    assert [run.outcome["state"] for run in made.runs] == ["failed", "failed"]
    assert "eight" in made.runs[0].outcome["error"]
    assert history(tmp_path / "0")[-1]["step"] < 20  # nothing of the epoch at whose end it was


# ---------------------------------------------------------------- the command line

QUICK = ("--draws", "20", "--images", "10")


def lab(*arguments: object) -> Done:
    """``python -m gsvae.gradients`` inside this process."""
    return run_main(main, *arguments)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of seconds with RLOO of other than the usual settings, measured while it trained."""
    folder = tmp_path_factory.mktemp("run")
    done = run_py(
        "experiment=debug", "training.epochs=2", "model.n_latent=2", "model.n_cat=3", "sampling=rloo",
        "sampling.n_samples=3", "evaluation.gradient_every=1", "evaluation.gradient_draws=10",
        "evaluation.gradient_images=5", "tracking.group=g", f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder


def test_a_run_logs_its_estimator(run):
    rows = [row for row in history(run) if "gradient/bias2" in row]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert json.loads((run / "summary.json").read_text())["gradient/cosine"] == rows[-1]["gradient/cosine"]


def test_the_laboratory_writes_table_files_and_figure(run, tmp_path):
    said = lab(run, *QUICK, "--tau", "0.5,1", "--estimators", "soft,rloo(n_samples=2),own", "--out", tmp_path)
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "gradients.json").read_text())
    assert [(row["estimator"], row["decoder_calls"]) for row in found["rows"] if row["tau"] in (1.0, None)] == [
        ("soft", 1),
        ("rloo(n_samples=2)", 2),
        ("rloo(n_samples=3)", 3),
    ]
    assert found["reference"] == "exact, by enumeration of 9 codes"
    assert found["step"] > 0
    assert all(row["draws"] == 20 and row["seconds"] > 0 for row in found["rows"])
    assert (tmp_path / "gradients.csv").read_text().count("\n") == len(found["rows"]) + 1
    assert (tmp_path / "gradients.png").read_bytes()[1:4] == b"PNG"
    for word in ("soft", "rloo(n_samples=3)", "τ", "±", "9 codes"):
        assert word in said.out
    again = lab(run, *QUICK, "--tau", "0.5,1", "--estimators", "soft", "--out", tmp_path / "again")
    assert again.code == 0
    rows = json.loads((tmp_path / "again" / "gradients.json").read_text())["rows"]
    assert [row["bias2"] for row in rows] == [row["bias2"] for row in found["rows"] if row["estimator"] == "soft"]


def test_all_estimators_but_those_of_another_bound(run, tmp_path):
    said = lab(run, "--draws", 10, "--images", 4, "--tau", 1, "--wrt", "logits", "--out", tmp_path)
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "gradients.json").read_text())
    names = {row["estimator"] for row in found["rows"]}
    assert names == {*options("sampling"), "rloo(n_samples=3)"} - {"custom", "vimco"}
    assert found["left_out"].keys() == {"vimco"}
    assert "vimco: left out, it estimates the gradient of another bound" in said.out
    for row in found["rows"]:
        assert row["weights"] == ("untrained" if row["estimator"] in ("relax", "rebar") else ""), row["estimator"]
        if row["estimator"] == "exact":
            assert (row["variance"], row["is_biased"]) == (0, False)


def test_several_runs_and_a_sampled_reference(run, tmp_path):
    said = lab(run, run, *QUICK, "--estimators", "soft", "--tau", 1, "--checkpoint", "last", "--out", tmp_path,
               "--split", "val", "--reference", "rloo", "--reference-draws", 10)  # fmt: skip
    assert said.code == 0, said.err
    found = json.loads((tmp_path / run.name / "gradients.json").read_text())
    assert found["checkpoint"].endswith("last.pt")
    assert found["reference"].startswith("RLOO with 160 codes per image")
    assert found["reference_remaining_variance"] > 0


def test_an_estimator_with_parameters_has_its_trained_ones_where_it_is_the_runs_own(tmp_path):
    folder = tmp_path / "run"
    small = ("model.n_latent=2", "model.n_cat=3", "training.epochs=2")
    assert run_py("experiment=debug", *small, "sampling=relax", f"hydra.run.dir={folder}").code == 0
    path = folder / "checkpoints" / "best.pt"
    state = read_checkpoint(path)
    sampler = load_run(folder).objective.sampler
    held = {key: value for key, value in state["weights"].items() if key.startswith("sampler.")}
    assert held
    (own,) = candidates(load_run(folder).cfg, sampler, ["relax"])
    assert (own.weights, own.sampler) == ("trained", sampler)
    assert all(torch.equal(value, held[f"sampler.{name}"]) for name, value in own.sampler.state_dict().items())
    (other,) = candidates(load_run(folder).cfg, sampler, ["relax(hidden=7)"])
    assert other.weights == "untrained"


def test_training_refuses_to_measure_an_estimator_of_another_bound(tmp_path):
    folder = tmp_path / "run"
    done = run_py("experiment=debug", "sampling=vimco", "evaluation.gradient_every=1", f"hydra.run.dir={folder}")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert "evaluation.gradient_every=1: must be 0 with sampling._target_=gsvae.sampling.VIMCO" in line
    assert "another bound" in line
    assert not (folder / "history.jsonl").exists()


MISTAKES = {
    "--estimators sofft": ["--estimators sofft", "allowed are", "did you mean soft?"],
    "--estimators rloo(n_sample=3)": ["--estimators rloo(n_sample=3)", "did you mean sampling.n_samples?"],
    "--estimators rloo(n_samples=1)": ["sampling.n_samples=1", "at least 2"],
    "--estimators rloo(n_samples=two)": ["sampling.n_samples=two", "integer"],
    "--estimators ,": ["expected names"],
    "--tau 0.5,0": ["--tau: 0.5,0", "above 0"],
    "--tau -1": ["--tau: -1", "above 0"],
    "--tau warm": ["--tau: warm", "numbers above 0"],
    "--estimators vimco": ["--estimators vimco", "another bound"],
    "--draws 9": ["--draws: 9", "at least 10"],
    "--images 0": ["--images: 0", "at least 1"],
    "--draws many": ["--draws: many", "whole number"],
    "--split tests": ["--split", "invalid choice"],
    "--checkpoint newest.pt": ["newest.pt: there is no such checkpoint"],
    "--device tpu": ["device=tpu", "cpu"],
    "--data-root nowhere --split val --checkpoint best --seed -1": ["--seed: -1", "at least 0"],
}


@pytest.mark.parametrize("flags", MISTAKES)
def test_a_mistake_costs_one_line(flags, run):
    said = lab(run, *flags.split())
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", said.err), said.err
    for word in MISTAKES[flags]:
        assert word in said.err


def test_no_run_no_checkpoint_too_many_codes(run, tmp_path, monkeypatch):
    said = lab(tmp_path)
    assert said.code == 2
    assert said.err.startswith(f"error: {tmp_path}: is not a run's folder")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.pt").write_bytes(b"no checkpoint")
    said = lab(tmp_path)
    assert said.code == 2
    assert re.fullmatch(rf"error: {tmp_path}/checkpoints/best.pt: damaged [^\n]+\n", said.err)
    monkeypatch.setattr("gsvae.estimation.reference.MAX_CODES", 8)
    said = lab(run, "--reference", "exact", "--estimators", "soft", "--out", tmp_path)
    assert said.code == 2
    assert "3^2 = 9 codes" in said.err
    assert not (tmp_path / "gradients.json").exists()


def test_settings_of_the_measurement_are_no_part_of_a_runs_id():
    from gsvae.identity import numeric_settings

    assert "evaluation.n_samples" in numeric_settings({"evaluation": {"n_samples": 1, "gradient_every": 1}})
    assert "evaluation.gradient_every" not in numeric_settings({"evaluation": {"gradient_every": 1}})


@pytest.mark.slow
def test_everything_arrives_at_wandb(run, tmp_path):
    if not SERVER.is_file():
        pytest.skip("the stand-in service is not at ../shared/tools/wandb_server.py")
    with Service(tmp_path / "service") as service:
        command = [sys.executable, "-m", "gsvae.gradients", run, *QUICK, "--tau", "0.5,1", "--estimators", "soft,rloo",
                   "--out", tmp_path / "out", "--wandb"]  # fmt: skip
        env = environment(service.url, tmp_path, PYTHONPATH=str(Path(__file__).parents[1]))
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        assert KEY not in done.stdout + done.stderr
        (path,) = service.folder.glob("*/gsvae/runs/*-gradients-*/run.json")
        record = json.loads(path.read_text())
        found = json.loads((tmp_path / "out" / "gradients.json").read_text())
        soft = next(row for row in found["rows"] if row["tau"] == 0.5)
        assert record["summary"]["gradient/soft/tau=0.5/bias2"] == soft["bias2"]
        assert (record["jobType"], record["group"]) == ("gradients", "g")
        assert record["config"]["gradients"]["reference"] == found["reference"]
        assert record["config"]["gradients"]["settings"]["draws"] == 20
        assert service.images(path.parent.name) == ["gradients"]
        (table,) = path.parent.glob("files/media/table/gradients_*.json")
        sent = json.loads(table.read_text())
        assert [row[sent["columns"].index("variance")] for row in sent["data"]] == [
            r["variance"] for r in found["rows"]
        ]


def test_without_a_login_online_is_refused_before_anything_is_measured(run, tmp_path, monkeypatch):
    def refuse(mode):
        raise UserError(f"tracking.mode={mode}: not logged in")

    monkeypatch.setattr("gsvae.tracking.wandb_service.choose_mode", refuse)
    state = read_checkpoint(run / "checkpoints" / "best.pt")
    config, changed = re.subn(r"(tracking:\n  mode: )\w+", r"\1online", state["config"])
    assert changed == 1
    torch.save({**state, "config": config}, tmp_path / "online.pt")
    for tool in (main, evaluate_main):
        said = run_main(tool, run, "--checkpoint", tmp_path / "online.pt", "--out", tmp_path / "out", "--wandb")
        assert (said.code, said.err) == (2, "error: tracking.mode=online: not logged in\n")
        assert not (tmp_path / "out").exists()
