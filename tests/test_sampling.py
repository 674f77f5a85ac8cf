"""Gradient estimators against enumeration, explicit Jacobians and their identities."""

import math

import pytest
import torch
import torch.nn.functional as F
from enumeration import all_codes, log_q, worst_z
from torch import Tensor
from torch.func import grad, vmap

from gsvae.objective import bernoulli_log_likelihood, categorical_kl
from gsvae.sampling import RLOO, Hard, ReinMax, Soft, StraightThrough
from gsvae.sampling.base import gumbel_from_uniform

B, L, K = 2, 2, 3
ONE_HOT = [Hard(), StraightThrough(), ReinMax(), RLOO(4)]
ALL = [Soft(), *ONE_HOT]


def named(sampler):
    return type(sampler).__name__


def gumbel(*shape, seed=0, dtype=torch.float64):
    u = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return gumbel_from_uniform(u)


class Decoder:
    """p(x|z) of a two-layer network, tanh inside, for ``B`` fixed binary images of four pixels."""

    def __init__(self, dtype=torch.float64):
        generator = torch.Generator().manual_seed(1)

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.params = {"W1": normal(L * K, 5), "W2": 2 * normal(5, 4), "b": normal(4)}
        self.logits_BLK = 1.5 * normal(B, L, K)
        self.x_BD = (normal(B, 4) > 0).to(dtype)

    def __call__(self, z, params=None):
        p = params or self.params
        pixel_logits = torch.tanh(z.flatten(-2) @ p["W1"]) @ p["W2"] + p["b"]
        return bernoulli_log_likelihood(pixel_logits, self.x_BD)

    def exact_gradient(self):
        """Of Σ_B E_q[−log p(x|z)], to the logits and to the decoder's parameters."""
        codes = all_codes(L, K).unsqueeze(1).expand(-1, B, -1, -1)

        def expectation(logits, params):
            return (log_q(logits).exp() * -self(codes, params)).sum()

        return grad(expectation, (0, 1))(self.logits_BLK, self.params)

    def gradients(self, sampler, noise_N, tau=1.0):
        """One estimate for each draw of noise, as :meth:`exact_gradient`."""

        def surrogate(logits, params, noise):
            estimate = sampler(logits, torch.tensor(tau, dtype=logits.dtype), noise, lambda z: self(z, params))
            return estimate.surrogate_B.sum()

        return vmap(grad(surrogate, (0, 1)), (None, None, 0))(self.logits_BLK, self.params, noise_N)


def estimate_one(sampler, logits_BLK, noise, log_likelihood, tau=1.0):
    """Gradient to the logits, the z that were decoded, and the estimate."""
    seen = []
    logits_BLK = logits_BLK.clone().requires_grad_()

    def spy(z):
        seen.append(z.detach().clone())
        return log_likelihood(z)

    estimate = sampler(logits_BLK, torch.tensor(tau, dtype=logits_BLK.dtype), noise, spy)
    (gradient,) = torch.autograd.grad(estimate.surrogate_B.sum(), logits_BLK)
    return gradient, torch.stack(seen), estimate


def noise_selecting(codes_NLK, logits_BLK):
    """Noise ``(N, B, L, K)`` with which argmax(logits + noise) is the code, for every image."""
    return 50 * codes_NLK.unsqueeze(1) - logits_BLK


# ---------------------------------------------------------------- unbiasedness


def test_rloo_is_unbiased_to_the_logits():
    decoder, sampler = Decoder(), RLOO(4)
    gradients, _ = decoder.gradients(sampler, gumbel(50_000, *sampler.noise_shape(B, L, K)))
    assert worst_z(gradients, decoder.exact_gradient()[0]) < 4


def test_rloo_is_exact_in_expectation_over_all_pairs_of_codes():
    decoder, codes = Decoder(), all_codes(L, K)
    q_NB = log_q(decoder.logits_BLK).exp()
    noise = noise_selecting(codes, decoder.logits_BLK)
    total = torch.zeros_like(decoder.logits_BLK)
    for first in range(len(codes)):
        pairs = torch.stack((noise[first].expand_as(noise), noise), 1)
        gradients, _ = decoder.gradients(RLOO(2), pairs)
        total += torch.einsum("nblk,nb->blk", gradients, q_NB * q_NB[first])
    torch.testing.assert_close(total, decoder.exact_gradient()[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampler", ONE_HOT, ids=named)
def test_decoder_gradient_of_one_hot_samplers_is_unbiased(sampler):
    decoder = Decoder()
    _, gradients = decoder.gradients(sampler, gumbel(20_000, *sampler.noise_shape(B, L, K), seed=3), tau=0.7)
    _, exact = decoder.exact_gradient()
    for name, value in exact.items():
        assert worst_z(gradients[name], value) < 4, name


@pytest.mark.parametrize("sampler", [Soft(), Hard(), StraightThrough(), ReinMax()], ids=named)
def test_the_same_draws_show_the_bias_of_the_biased(sampler):
    decoder = Decoder()
    gradients, _ = decoder.gradients(sampler, gumbel(50_000, B, L, K))
    assert worst_z(gradients, decoder.exact_gradient()[0]) > 6


# ---------------------------------------------------------------- where the biased ones are exact


def mean_over_codes(sampler, logits_BLK, f):
    """E over all codes of the estimator's gradient, and the exact gradient of E_q f; f takes ``(..., L, K)``."""
    codes = all_codes(*logits_BLK.shape[1:])
    q_NB = log_q(logits_BLK).exp()
    mean = torch.zeros_like(logits_BLK)
    for q_B, noise in zip(q_NB, noise_selecting(codes, logits_BLK)):
        gradient, _, _ = estimate_one(sampler, logits_BLK, noise, lambda z: -f(z))
        mean += q_B[:, None, None] * gradient
    leaf = logits_BLK.clone().requires_grad_()
    expectation = (log_q(leaf).exp() * f(codes).unsqueeze(1)).sum()
    return mean, torch.autograd.grad(expectation, leaf)[0]


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


@pytest.mark.parametrize(("n_latent", "n_cat"), [(1, 2), (1, 5), (2, 3)])
def test_reinmax_at_tau_1_is_exact_for_quadratic_f(n_latent, n_cat):
    mean, exact = mean_over_codes(ReinMax(), random_logits(n_latent, n_cat), quadratic)
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


FORMULAS = [
    (Soft(), expected_soft),
    (Hard(), expected_soft),
    (StraightThrough(), expected_straight_through),
    (ReinMax(), expected_reinmax),
    (RLOO(3), expected_rloo),
]


@pytest.mark.parametrize("tau", [0.3, 1.0, 1.7])
@pytest.mark.parametrize(("sampler", "formula"), FORMULAS, ids=[named(sampler) for sampler, _ in FORMULAS])
def test_gradient_is_the_formula_of_the_table(sampler, formula, tau):
    decoder = Decoder()
    for seed in range(5):
        noise = gumbel(*sampler.noise_shape(B, L, K), seed=seed)
        gradient, (z,), _ = estimate_one(sampler, decoder.logits_BLK, noise, decoder, tau)
        expected = formula(decoder.logits_BLK, noise, tau, z, slope_at(z, decoder))
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


def test_reinmax_at_tau_1_is_zgr():
    decoder = Decoder()
    pi = decoder.logits_BLK.softmax(-1)
    for seed in range(20):
        gradient, (D,), _ = estimate_one(ReinMax(), decoder.logits_BLK, gumbel(B, L, K, seed=seed), decoder, tau=1.0)
        g = slope_at(D, decoder)
        g_D = (g * D).sum(-1, keepdim=True)
        zgr = 0.5 * (pi * (g - g_D) + D * (g_D - (pi * g).sum(-1, keepdim=True)))
        torch.testing.assert_close(gradient, zgr, rtol=0, atol=1e-13)


# ---------------------------------------------------------------- forward


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sampler", ONE_HOT, ids=named)
def test_what_is_decoded_is_one_hot_to_the_last_bit(sampler, dtype):
    decoder = Decoder(dtype)
    for seed in range(10):
        noise = gumbel(*sampler.noise_shape(B, L, K), seed=seed, dtype=dtype)
        _, (z,), estimate = estimate_one(sampler, decoder.logits_BLK, noise, decoder, tau=0.3)
        assert z.dtype == dtype
        assert torch.equal(z, F.one_hot((decoder.logits_BLK + noise).argmax(-1), K).to(dtype))
        expected = -decoder(z).mean(0) if z.dim() == 4 else -decoder(z)
        torch.testing.assert_close(estimate.reconstruction_B, expected)
        torch.testing.assert_close(estimate.surrogate_B.detach(), expected)
        assert not estimate.reconstruction_B.requires_grad


def test_soft_decodes_the_relaxed_sample_and_approaches_one_hot():
    decoder, noise = Decoder(), gumbel(B, L, K)
    perturbed = decoder.logits_BLK + noise
    gaps = []
    for tau in (1.0, 0.1, 0.01, 0.001):
        _, (z,), _ = estimate_one(Soft(), decoder.logits_BLK, noise, decoder, tau)
        torch.testing.assert_close(z, (perturbed / tau).softmax(-1))
        gaps.append((z - F.one_hot(perturbed.argmax(-1), K)).abs().max().item())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-12 < 0.05 < gaps[0]


@pytest.mark.parametrize("sampler", ONE_HOT, ids=named)
def test_codes_are_drawn_from_the_softmax(sampler):
    n = 200_000
    logits_LK = Decoder().logits_BLK[0]
    drawn = []

    def remember(z):
        drawn.append(z.detach())
        return z.sum((-1, -2))

    sampler(logits_LK.expand(n, L, K), torch.tensor(0.5), gumbel(*sampler.noise_shape(n, L, K)), remember)
    codes = drawn[0].flatten(0, -3)
    joint_N = torch.einsum("nlk,zlk->nz", codes, all_codes(L, K)).eq(L).double()
    assert worst_z(joint_N, log_q(logits_LK.unsqueeze(0)).exp()[:, 0]) < 4


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
