"""Gradient estimators against explicit Jacobians and their identities."""

import math

import pytest
import torch
import torch.nn.functional as F
from enumeration import all_codes, log_q, worst_z
from estimation import ALL, ONE_HOT, B, Decoder, K, L, estimate_one, gumbel, mean_over_codes, named
from torch import Tensor

from gsvae.objective import categorical_kl
from gsvae.sampling import GST, RLOO, ZGR, Decoupled, GumbelRao, Hard, ReinMax, Soft, StraightThrough
from gsvae.sampling.base import gumbel_from_uniform

# ---------------------------------------------------------------- where the biased ones are exact


def random_logits(n_latent, n_cat):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(B, n_latent, n_cat, generator=generator, dtype=torch.float64)


def multilinear(z):
    """Linear in each latent given the other."""
    T = torch.randn(K, K, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    return torch.einsum("...i,ij,...j->...", z[..., 0, :], T, z[..., 1, :]) + 3 * z[..., 0, 1]


def quadratic(z):
    flat = z.flatten(-2)
    n, generator = flat.shape[-1], torch.Generator().manual_seed(9)
    A = torch.randn(n, n, generator=generator, dtype=torch.float64)
    return torch.einsum("...i,ij,...j->...", flat, A, flat) + 2 * flat[..., 0]


def cubic(z):
    return quadratic(z) * (1 + z.flatten(-2)[..., 1])


def test_straight_through_at_tau_1_is_exact_for_f_linear_in_each_latent():
    mean, exact = mean_over_codes(StraightThrough(), random_logits(L, K), multilinear)
    torch.testing.assert_close(mean, exact, rtol=0, atol=1e-12)


def test_straight_through_is_biased_for_quadratic_f():
    mean, exact = mean_over_codes(StraightThrough(), random_logits(1, 4), quadratic)
    assert (mean - exact).abs().max() > 0.01


@pytest.mark.parametrize("sampler", [ReinMax(), ZGR()], ids=named)
@pytest.mark.parametrize(("n_latent", "n_cat"), [(1, 2), (1, 5), (2, 3)])
def test_reinmax_at_tau_1_and_zgr_are_exact_for_quadratic_f(n_latent, n_cat, sampler):
    mean, exact = mean_over_codes(sampler, random_logits(n_latent, n_cat), quadratic)
    torch.testing.assert_close(mean, exact, rtol=0, atol=1e-12)


def test_reinmax_is_biased_for_cubic_f():
    mean, exact = mean_over_codes(ReinMax(), random_logits(1, 4), cubic)
    assert (mean - exact).abs().max() > 0.01


# ---------------------------------------------------------------- the formulas


def jacobian_times(p: Tensor, g: Tensor) -> Tensor:
    """J(p) g with J = diag(p) − p pᵀ written out."""
    J = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    return (J @ g.unsqueeze(-1)).squeeze(-1)


def slope_at(z, log_likelihood):
    """g = ∂f/∂D at z."""
    z = z.clone().requires_grad_()
    return torch.autograd.grad(-log_likelihood(z).sum(), z)[0]


def expected_soft(theta, noise, tau, D, g):
    return jacobian_times(((theta + noise) / tau).softmax(-1), g) / tau


def expected_straight_through(theta, noise, tau, D, g):
    return jacobian_times((theta / tau).softmax(-1), g) / tau


def expected_reinmax(theta, noise, tau, D, g):
    m = 0.5 * ((theta / tau).softmax(-1) + D)
    return 2 * jacobian_times(m, g) - 0.5 * jacobian_times(theta.softmax(-1), g)


def expected_rloo(theta, noise, tau, D_MBLK, _):
    f_MB = -Decoder()(D_MBLK)
    score = D_MBLK - theta.softmax(-1)
    return ((f_MB - f_MB.mean(0))[..., None, None] * score).sum(0) / (len(f_MB) - 1)


def expected_gumbel_rao(theta, noise, tau, D, g):
    """The conditional draws written out with exponentials (arXiv 2010.04838)."""
    E, pi = (-noise[1:]).exp(), theta.softmax(-1)
    E_i = (E * D).sum(-1, keepdim=True)
    S = torch.where(D > 0, -E_i.log(), -(E / pi + E_i).log())
    S = torch.cat((theta + noise[:1], S))
    return jacobian_times((S / tau).softmax(-1), g.expand_as(S)).mean(0) / tau


def expected_gst(theta, noise, tau, D, g):
    top = theta.max(-1, keepdim=True).values
    m = torch.where(D > 0, top - theta, -(theta - top + 1.0).clamp(min=0))
    return jacobian_times(((theta + m) / tau).softmax(-1), g) / tau


def expected_zgr(theta, noise, tau, D, g):
    pi, g_D = theta.softmax(-1), (g * D).sum(-1, keepdim=True)
    return 0.5 * (pi * (g - g_D) + D * (g_D - (pi * g).sum(-1, keepdim=True)))


def expected_decoupled(theta, noise, tau, D, g):
    return jacobian_times(((theta + 0.7 * noise) / tau).softmax(-1), g) / tau


FORMULAS = [
    (Soft(), expected_soft),
    (Hard(), expected_soft),
    (StraightThrough(), expected_straight_through),
    (ReinMax(), expected_reinmax),
    (RLOO(3), expected_rloo),
    (GumbelRao(4), expected_gumbel_rao),
    (GST(1.0), expected_gst),
    (ZGR(), expected_zgr),
    (Decoupled(0.7), expected_decoupled),
]


@pytest.mark.parametrize("tau", [0.3, 1.0, 1.7])
@pytest.mark.parametrize(("sampler", "formula"), FORMULAS, ids=[named(sampler) for sampler, _ in FORMULAS])
def test_gradient_is_the_formula_of_the_table(sampler, formula, tau):
    decoder = Decoder()
    for seed in range(5):
        noise = gumbel(*sampler.noise_shape(B, L, K), seed=seed)
        gradient, z, _ = estimate_one(sampler, decoder.logits_BLK, noise, decoder, tau)
        expected = formula(decoder.logits_BLK, noise, tau, z, slope_at(z, decoder))
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


# ---------------------------------------------------------------- one estimator as another


def test_reinmax_at_tau_1_is_zgr():
    decoder = Decoder()
    for seed in range(20):
        noise = gumbel(B, L, K, seed=seed)
        gradient, _, _ = estimate_one(ReinMax(), decoder.logits_BLK, noise, decoder, tau=1.0)
        zgr, _, _ = estimate_one(ZGR(), decoder.logits_BLK, noise, decoder, tau=0.3)
        torch.testing.assert_close(gradient, zgr, rtol=0, atol=1e-13)


@pytest.mark.parametrize("other", [GumbelRao(1), Decoupled(1.0)], ids=named)
def test_with_one_draw_or_one_temperature_it_is_hard(other):
    decoder = Decoder()
    for seed in range(10):
        noise = gumbel(B, L, K, seed=seed)
        gradient, D, _ = estimate_one(Hard(), decoder.logits_BLK, noise, decoder, tau=0.6)
        found, code, _ = estimate_one(
            other, decoder.logits_BLK, noise.view(other.noise_shape(B, L, K)), decoder, tau=0.6
        )
        assert torch.equal(code, D)
        torch.testing.assert_close(found, gradient, rtol=0, atol=1e-12)


def test_gumbel_rao_has_the_mean_of_hard_and_less_variance():
    decoder, n, tau = Decoder(), 100_000, 0.5
    hard, _ = decoder.gradients(Hard(), gumbel(n, B, L, K, seed=1), tau)
    rao, _ = decoder.gradients(GumbelRao(10), gumbel(n, 10, B, L, K, seed=2), tau)
    assert worst_z(hard - rao, torch.zeros_like(hard[0])) < 4
    assert rao.var(0).sum() < 0.8 * hard.var(0).sum()


def test_zgr_is_gumbel_rao_at_zero_temperature_given_the_code():
    decoder, n = Decoder(), 100_000
    noise = gumbel(n, 2, B, L, K, seed=3)
    noise[:, 0] = noise[0, 0]  # the same code each time
    both, _ = decoder.gradients(GumbelRao(2), noise, tau=0.01)
    first, D, _ = estimate_one(GumbelRao(1), decoder.logits_BLK, noise[0, :1], decoder, tau=0.01)
    zgr, code, _ = estimate_one(ZGR(), decoder.logits_BLK, noise[0, 0], decoder)
    assert torch.equal(D, code)
    assert worst_z(2 * both - first, zgr) < 4


# ---------------------------------------------------------------- forward


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sampler", ONE_HOT, ids=named)
def test_what_is_decoded_is_one_hot_to_the_last_bit(sampler, dtype):
    decoder = Decoder(dtype)
    for seed in range(10):
        noise = gumbel(*sampler.noise_shape(B, L, K), seed=seed, dtype=dtype)
        _, z, estimate = estimate_one(sampler, decoder.logits_BLK, noise, decoder, tau=0.3)
        assert z.dtype == dtype
        own = noise if isinstance(sampler, RLOO) or noise.dim() == 3 else noise[0]
        weight = sampler.tau_forward if isinstance(sampler, Decoupled) else 1.0
        assert torch.equal(z, F.one_hot((decoder.logits_BLK + weight * own).argmax(-1), K).to(dtype))
        expected = -decoder(z).mean(0) if z.dim() == 4 else -decoder(z)
        torch.testing.assert_close(estimate.reconstruction_B, expected)
        torch.testing.assert_close(estimate.surrogate_B.detach(), expected)
        assert not estimate.reconstruction_B.requires_grad


def test_soft_decodes_the_relaxed_sample_and_approaches_one_hot():
    decoder, noise = Decoder(), gumbel(B, L, K)
    perturbed = decoder.logits_BLK + noise
    gaps = []
    for tau in (1.0, 0.1, 0.01, 0.001):
        _, z, _ = estimate_one(Soft(), decoder.logits_BLK, noise, decoder, tau)
        torch.testing.assert_close(z, (perturbed / tau).softmax(-1))
        gaps.append((z - F.one_hot(perturbed.argmax(-1), K)).abs().max().item())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-12 < 0.05 < gaps[0]


@pytest.mark.parametrize("sampler", ONE_HOT, ids=named)
def test_codes_are_drawn_from_the_softmax(sampler):
    n = 200_000
    logits_LK = Decoder().logits_BLK[0]
    noise = gumbel(*sampler.noise_shape(n, L, K))
    _, codes, _ = estimate_one(sampler, logits_LK.expand(n, L, K), noise, lambda z: z.sum((-1, -2)), tau=0.5)
    codes = codes.flatten(0, -3)
    joint_N = torch.einsum("nlk,zlk->nz", codes, all_codes(L, K)).eq(L).double()
    forward = sampler.tau_forward if isinstance(sampler, Decoupled) else 1.0
    assert worst_z(joint_N, log_q(logits_LK.unsqueeze(0) / forward).exp()[:, 0]) < 4


# ---------------------------------------------------------------- extremes


@pytest.mark.parametrize("sampler", ALL, ids=named)
@pytest.mark.parametrize("tau", [0.05, 1.0])
def test_values_and_gradients_stay_finite_in_float32(sampler, tau):
    decoder = Decoder(torch.float32)
    extreme = [[60.0, -60, 0], [-60, -60, 60], [60, 60, -60], [0, 0, 0], [-60, 60, 60], [-60, -60, -60]]
    shape = sampler.noise_shape(B, L, K)
    noises = [gumbel(*shape, dtype=torch.float32, seed=s) for s in range(4)]
    noises += [gumbel_from_uniform(torch.full(shape, u)) for u in (0.0, 1.0)]
    for logits in torch.tensor(extreme).view(3, 1, L, K).expand(3, B, L, K):
        for noise in noises:
            gradient, z, estimate = estimate_one(sampler, logits, noise, decoder, tau)
            for value in (gradient, z, *estimate):
                assert value.isfinite().all()
        leaf = logits.clone().requires_grad_()
        kl = categorical_kl(leaf, torch.zeros(L, K))
        (gradient,) = torch.autograd.grad(kl.sum(), leaf)
        assert kl.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gumbel_noise_is_finite_at_both_ends_and_rises(dtype):
    tiny = torch.finfo(dtype).tiny
    u = torch.tensor([0.0, tiny, 1e-9, 1e-3, 0.5, 0.999, 1 - torch.finfo(dtype).eps / 2, 1.0], dtype=dtype)
    noise = gumbel_from_uniform(u.clone())
    assert noise.isfinite().all()
    assert (noise.diff() >= 0).all()
    middle = u[3:6].double()
    torch.testing.assert_close(noise[3:6].double(), -torch.log(-torch.log(middle)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gumbel_noise_has_the_right_distribution(dtype):
    n = 400_000
    noise = gumbel(n, dtype=dtype, seed=4).double()
    assert noise.mean().item() == pytest.approx(0.5772156649, abs=4 * math.pi / math.sqrt(6 * n))
    # The kurtosis of a Gumbel variable is 5.4, so the variance of its variance is 4.4 σ⁴ / n.
    variance = math.pi**2 / 6
    assert noise.var().item() == pytest.approx(variance, abs=4 * variance * math.sqrt(4.4 / n))
    for point in (-1.0, 0.0, 1.0, 3.0):
        share, expected = (noise < point).double().mean().item(), math.exp(-math.exp(-point))
        assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / n))
