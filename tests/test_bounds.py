"""The objective and the bounds on log p(x) against enumeration."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from enumeration import all_codes, log_q, log_q_of, tiny_model, true_bounds, worst_z

from gsvae.data import Images
from gsvae.evaluation import Alone, Evaluator, bounds, evaluate
from gsvae.evaluation.bounds import (
    discrete_reconstruction,
    iwae_bound,
    relaxed_reconstruction,
    sample_codes,
)
from gsvae.evaluation.pixels import pixel_batches
from gsvae.objective import Objective, bernoulli_log_likelihood, categorical_kl
from gsvae.sampling import REBAR, RLOO, Exact, Hard, MuProp, ReinMax, Soft, StraightThrough
from gsvae.sampling.base import gumbel_from_uniform

SAMPLERS = [Soft(), Hard(), StraightThrough(), ReinMax(), RLOO(3), MuProp(), REBAR().double(), Exact()]


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(n=3, seed=1):
    return torch.randint(0, 256, (n, 6), generator=stream(seed), dtype=torch.uint8)


def images(n=3, seed=1):
    return Images(pixels(n, seed), torch.zeros(n, dtype=torch.int64))


def x_and_logits(model):
    x_BD = pixels().double() / 255
    return x_BD, model.encode(x_BD).detach()


# ---------------------------------------------------------------- the objective


@pytest.mark.parametrize("learned", [False, True])
def test_kl_and_its_gradients_agree_with_enumeration(learned):
    logits = (2 * torch.randn(2, 2, 3, generator=stream(), dtype=torch.float64)).requires_grad_()
    prior = torch.randn(2, 3, generator=stream(2), dtype=torch.float64) * learned
    prior.requires_grad_()
    analytic_B = categorical_kl(logits, prior).sum(-1)
    log_p = log_q_of(all_codes(2, 3), prior.unsqueeze(0))
    enumerated_B = (log_q(logits).exp() * (log_q(logits) - log_p)).sum(0)
    torch.testing.assert_close(analytic_B, enumerated_B)
    for leaf in (logits, prior):
        ours, theirs = (torch.autograd.grad(v.sum(), leaf, retain_graph=True)[0] for v in (analytic_B, enumerated_B))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_kl_of_a_latent_lies_between_0_and_ln_k_under_the_uniform_prior():
    logits = torch.tensor([[[0.0, 0, 0], [1000, 0, 0]]])
    torch.testing.assert_close(categorical_kl(logits, torch.zeros(2, 3))[0], torch.tensor([0, math.log(3)]))


def test_bernoulli_log_likelihood_is_torch_s_for_binary_and_grey_pixels():
    pixel_logits = 3 * torch.randn(4, 2, 6, generator=stream(), dtype=torch.float64)
    distribution = torch.distributions.Bernoulli(logits=pixel_logits, validate_args=False)
    grey = torch.rand(2, 6, generator=stream(1), dtype=torch.float64)
    for x in (grey, grey.round()):
        ours = bernoulli_log_likelihood(pixel_logits, x)
        assert ours.shape == (4, 2)
        torch.testing.assert_close(ours, distribution.log_prob(x.expand(4, 2, 6)).sum(-1))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_loss_is_reconstruction_plus_beta_kl_in_value_and_gradient(sampler):
    model = tiny_model(prior="learned")
    objective = Objective(model, sampler)
    x_BD, _ = x_and_logits(model)
    noise = gumbel_from_uniform(torch.rand(*sampler.noise_shape(3, 2, 3), generator=stream(), dtype=torch.float64))

    def run(beta):
        terms = objective(x_BD, noise, torch.tensor(0.8).double(), torch.tensor(beta).double())
        gradients = torch.autograd.grad(terms.loss, list(model.parameters()), allow_unused=True)
        return terms, [torch.zeros(()) if g is None else g for g in gradients]

    (at_0, gradient_0), (at_2, gradient_2) = run(0.0), run(2.0)
    kl = categorical_kl(model.encode(x_BD), model.prior_logits_LK).sum(-1).mean()
    kl_gradient = torch.autograd.grad(kl, list(model.parameters()), allow_unused=True)
    for terms, beta in ((at_0, 0.0), (at_2, 2.0)):
        torch.testing.assert_close(terms.kl, kl.detach())
        torch.testing.assert_close(terms.loss.detach(), terms.reconstruction + beta * kl.detach())
        assert not terms.reconstruction.requires_grad
        assert not terms.kl.requires_grad
    torch.testing.assert_close(at_0.reconstruction, at_2.reconstruction)
    for g_0, g_2, g_kl in zip(gradient_0, gradient_2, kl_gradient):
        torch.testing.assert_close((g_2 - g_0) / 2, g_0 * 0 if g_kl is None else g_kl, rtol=0, atol=1e-10)
    assert any(g.abs().max() > 1e-3 for g in gradient_0)


def test_mean_over_the_batch_not_sum():
    model = tiny_model()
    x_BD = pixels(1).double() / 255
    noise = gumbel_from_uniform(torch.rand(1, 2, 3, generator=stream(), dtype=torch.float64))
    one, four = (
        Objective(model, Hard())(
            x_BD.repeat(n, 1), noise.repeat(n, 1, 1), torch.tensor(1.0).double(), torch.tensor(1.0).double()
        )
        for n in (1, 4)
    )
    for ours, theirs in zip(one, four):
        torch.testing.assert_close(ours, theirs)


# ---------------------------------------------------------------- sampling codes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sampled_codes_follow_q(dtype):
    logits = (2 * torch.randn(2, 2, 3, generator=stream(3))).to(dtype)
    index_SBL = sample_codes(logits, 200_000, stream())
    assert index_SBL.shape == (200_000, 2, 2)
    codes = torch.nn.functional.one_hot(index_SBL, 3).double()
    exact = log_q(logits.double()).exp()
    for b in range(2):
        joint = torch.einsum("nlk,zlk->nz", codes[:, b], all_codes(2, 3)).eq(2).double()
        assert worst_z(joint, exact[:, b]) < 4


NEVER = -2000.0  # its probability underflows in every precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("u", [0.0, 1e-30, 0.3, 0.5, 0.9999, 1 - 2**-53, None])
def test_codes_of_probability_zero_are_never_drawn(u, dtype, monkeypatch):
    rows = [
        [NEVER, 0, NEVER, 0.3, NEVER],
        [0, NEVER, NEVER, NEVER, NEVER],
        [NEVER, NEVER, NEVER, NEVER, 0],
        [NEVER, 60, NEVER, 60, NEVER],
    ]
    if u is not None:
        monkeypatch.setattr(
            torch, "rand", lambda shape, dtype, **_: torch.full(shape, u, dtype=dtype).clamp(max=1 - 2**-53)
        )
    logits = torch.tensor([rows], dtype=dtype)
    drawn = sample_codes(logits, 10_000, stream())
    assert (logits.expand(10_000, -1, -1, -1).gather(-1, drawn.unsqueeze(-1)) > NEVER).all()


def test_a_tiny_probability_is_kept_to_its_share_in_float32(monkeypatch):
    p = torch.tensor([0.3, 1e-10, 0.7 - 1e-10], dtype=torch.float64)
    logits = p.log().float().view(1, 1, 3)
    edge = logits.double().softmax(-1)[0, 0, 0].item()
    u = edge + torch.tensor([-1e-10, 0.5e-10, 2e-10], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda shape, dtype, **_: u.to(dtype).view(shape))
    assert sample_codes(logits, 3, stream()).flatten().tolist() == [0, 1, 2]


# ---------------------------------------------------------------- the bounds


def many(model, bound, n, seed=0, **kwargs):
    """``n`` independent values of a bound for each of the images, ``(n, B)``."""
    x_BD, logits = x_and_logits(model)
    with torch.no_grad():
        values = bound(
            model, x_BD.repeat(n, 1), logits.repeat(n, 1, 1), generator=stream(seed), max_rows=10**6, **kwargs
        )
    return values.view(n, -1)


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_discrete_reconstruction_has_the_enumerated_mean(prior):
    model = tiny_model(prior)
    exact = true_bounds(model, x_and_logits(model)[0])
    for n_samples in (1, 3):
        values = many(model, discrete_reconstruction, 20_000, n_samples=n_samples)
        assert worst_z(values, exact["reconstruction"]) < 4


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_iwae_with_one_sample_is_the_negative_elbo(prior):
    model = tiny_model(prior)
    exact = true_bounds(model, x_and_logits(model)[0])
    assert worst_z(many(model, iwae_bound, 50_000, n_samples=1), exact["neg_elbo"]) < 4


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_iwae_with_two_samples_has_the_mean_over_all_pairs_of_codes(prior):
    model = tiny_model(prior)
    x_BD, logits = x_and_logits(model)
    codes = all_codes(2, 3)
    with torch.no_grad():
        log_x = bernoulli_log_likelihood(model.decode(codes).unsqueeze(1).expand(-1, 3, -1), x_BD)
    log_posterior = log_q(logits)
    log_w = log_x + log_q_of(codes, model.prior_logits_LK.detach().unsqueeze(0)) - log_posterior
    exact = torch.zeros(3, dtype=torch.float64)
    for i, j in product(range(9), repeat=2):
        bound = math.log(2) - torch.logaddexp(log_w[i], log_w[j])
        exact += (log_posterior[i] + log_posterior[j]).exp() * bound
    assert worst_z(many(model, iwae_bound, 50_000, n_samples=2), exact) < 4


def test_iwae_tightens_with_s_from_the_elbo_to_the_likelihood():
    model = tiny_model()
    exact = true_bounds(model, x_and_logits(model)[0])
    assert (exact["neg_elbo"] - exact["nll"] > 0.3).all(), "the model leaves no gap to see"
    mean, error = {}, {}
    for s in (1, 2, 5, 25, 125):
        values = many(model, iwae_bound, 100_000 // s, seed=s, n_samples=s)
        mean[s], error[s] = values.mean(0), values.std(0) / math.sqrt(len(values))
        assert (mean[s] > exact["nll"] - 4 * error[s]).all()
        assert (mean[s] < exact["neg_elbo"] + 4 * error[s]).all()
    for looser, tighter in ((1, 2), (2, 5), (5, 25), (25, 125)):
        assert (mean[tighter] < mean[looser]).all()
    x_BD, logits = x_and_logits(model)
    with torch.no_grad():
        large = iwae_bound(model, x_BD, logits, 300_000, stream(), 10**6)
    standard_error = (exact["variance"] / 300_000).sqrt()
    assert (standard_error < 0.02).all()
    assert ((large - exact["nll"]).abs() < 4 * standard_error).all()


def test_relaxed_reconstruction_is_that_of_one_gumbel_softmax_sample():
    model = tiny_model()
    x_BD, logits = x_and_logits(model)
    with torch.no_grad():
        ours = relaxed_reconstruction(model, x_BD, logits, 0.6, stream(5))
        u = torch.rand(logits.shape, generator=stream(5), dtype=torch.float64)
        y = ((logits - torch.log(-torch.log(u))) / 0.6).softmax(-1)
        pixel_logits = model.decode(y)
        theirs = -torch.distributions.Bernoulli(logits=pixel_logits, validate_args=False).log_prob(x_BD).sum(-1)
    torch.testing.assert_close(ours, theirs)


# ---------------------------------------------------------------- chunks


@pytest.fixture
def decoded_rows(monkeypatch):
    """Rows of each call of ``decode``."""
    from gsvae.model import CategoricalVAE

    rows = []
    decode = CategoricalVAE.decode

    def spy(self, z):
        rows.append(z[..., 0, 0].numel())
        return decode(self, z)

    monkeypatch.setattr(CategoricalVAE, "decode", spy)
    return rows


@pytest.mark.parametrize("max_rows", [3, 4, 10, 33, 300, 10**6])
@pytest.mark.parametrize("bound", [discrete_reconstruction, iwae_bound])
def test_chunks_change_neither_value_nor_number_of_samples(bound, max_rows, monkeypatch, decoded_rows):
    model = tiny_model()
    x_BD, logits = x_and_logits(model)
    n_samples = 11
    table = sample_codes(logits, n_samples, stream())
    taken = []

    def next_rows(logits_BLK, n, generator):
        taken.append(n)
        return table[sum(taken[:-1]) : sum(taken)]

    monkeypatch.setattr(bounds, "sample_codes", next_rows)
    with torch.no_grad():
        ours = bound(model, x_BD, logits, n_samples, stream(), max_rows)
    assert max(decoded_rows) <= max_rows
    assert sum(decoded_rows) == n_samples * len(x_BD)
    codes = torch.nn.functional.one_hot(table, 3).double()
    with torch.no_grad():
        log_x = bernoulli_log_likelihood(model.decode(codes), x_BD)
    log_w = log_x - 2 * math.log(3) - torch.einsum("sblk,blk->sb", codes, logits.log_softmax(-1))
    expected = {discrete_reconstruction: -log_x.mean(0), iwae_bound: math.log(n_samples) - log_w.logsumexp(0)}
    torch.testing.assert_close(ours, expected[bound], rtol=0, atol=1e-12)


def test_iwae_survives_weights_far_below_the_smallest_float():
    model = tiny_model()
    x_BD, logits = x_and_logits(model)
    with torch.no_grad():
        model.decoder[-1].bias.fill_(-3000.0)
        bound = iwae_bound(model, torch.ones_like(x_BD), logits, 20, stream(), 7)
    assert bound.isfinite().all()
    assert (bound > 10_000).all()


# ---------------------------------------------------------------- the evaluator

EVALUATOR = Evaluator(n_samples=2, iwae_samples=7, max_rows=10)


def test_the_same_seed_scores_the_same_and_another_does_not():
    model, held = tiny_model(), images(25)
    first, again = (EVALUATOR.one(model, 3, held, 1.0, iwae=True).metrics("test") for _ in range(2))
    assert first == again
    other = EVALUATOR.one(model, 4, held, 1.0, iwae=True).metrics("test")
    assert other["test/kl"] == first["test/kl"]
    assert all(other[name] != first[name] for name in first.keys() - {"test/kl"})
    assert set(first) == {f"test/{n}" for n in ("neg_elbo", "reconstruction", "kl", "relaxed_loss", "iwae")}


@pytest.mark.parametrize("dynamic", [False, True])
def test_no_score_depends_on_which_others_are_asked_for(dynamic):
    model, held = tiny_model(), images(25)
    evaluator = replace(EVALUATOR, dynamic=dynamic)
    without = evaluator.one(model, 3, held, 1.0)
    assert without.iwae is None
    assert "val/iwae" not in without.metrics("val")
    for s in (3, 8):
        scores = replace(evaluator, iwae_samples=s).one(model, 3, held, 1.0, iwae=True)
        assert without.metrics("val").items() <= scores.metrics("val").items()


def test_scores_converge_to_enumeration():
    model, held = tiny_model("learned"), images(25)
    exact = true_bounds(model, held.pixels_ND.double() / 255)
    scores = Evaluator(4000, 4000, 50_000).one(model, 0, held, 1.0, iwae=True)
    assert scores.kl == pytest.approx(exact["kl"].mean().item(), abs=1e-10)
    assert scores.reconstruction == pytest.approx(exact["reconstruction"].mean().item(), abs=0.03)
    assert scores.neg_elbo == pytest.approx(scores.reconstruction + scores.kl, abs=1e-12)
    standard_error = math.sqrt(exact["variance"].sum() / 4000) / 25
    assert standard_error < 0.03
    assert scores.iwae == pytest.approx(exact["nll"].mean().item(), abs=4 * standard_error)
    assert scores.codes.kl_L.sum().item() == pytest.approx(scores.kl)


def test_relaxed_loss_is_the_relaxed_reconstruction_plus_the_same_kl(monkeypatch):
    taus = []

    def known(model, x_BD, logits_BLK, tau, generator):
        taus.append(tau.item())
        return x_BD.sum(-1)

    monkeypatch.setattr(evaluate, "relaxed_reconstruction", known)
    held = images(25)
    scores = EVALUATOR.one(tiny_model(), 3, held, 0.37)
    assert scores.relaxed_loss - scores.kl == pytest.approx(held.pixels_ND.sum().item() / 255 / 25)
    assert set(taus) == {0.37}


@pytest.mark.parametrize("max_rows", [1, 7, 10, 1000])
def test_no_more_than_max_rows_are_decoded_at_once(max_rows, decoded_rows):
    replace(EVALUATOR, max_rows=max_rows).one(tiny_model(), 3, images(25), 1.0, iwae=True)
    assert max(decoded_rows) <= max_rows
    assert sum(decoded_rows) == 25 * (2 + 1 + 7)


def test_dynamic_evaluation_binarises_the_images_and_repeats_itself():
    evaluator = replace(EVALUATOR, dynamic=True)
    held = images(25)

    def pixels(evaluator):
        batches = pixel_batches(held, torch.float64, [stream()], evaluator.max_rows, dynamic=evaluator.dynamic)
        return torch.cat(list(batches), dim=1)[0]

    seen = pixels(evaluator)
    assert set(seen.unique().tolist()) == {0.0, 1.0}
    grey = pixels(EVALUATOR)
    torch.testing.assert_close(grey, held.pixels_ND.double() / 255)
    first, again = (evaluator.one(tiny_model(), 3, held, 1.0, iwae=True).metrics("val") for _ in range(2))
    assert first == again


def test_evaluation_can_be_stopped_between_batches():
    calls = []

    def stop_at_third():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EVALUATOR(Alone(tiny_model()), [3], images(25), [1.0], check=stop_at_third)
