"""Unbiased estimators against enumeration, and the bias of the others on the same draws."""

import math

import pytest
import torch
from enumeration import all_codes, log_q, worst_z
from estimation import (
    BIASED,
    ONE_HOT,
    UNBIASED,
    B,
    Decoder,
    K,
    L,
    estimate,
    gumbel,
    named,
    noise_selecting,
    relax,
)
from torch.func import grad

from gsvae.errors import UserError
from gsvae.model import MLP
from gsvae.objective import Objective
from gsvae.sampling import REBAR, RLOO, VIMCO, Exact, MuProp
from gsvae.sampling.base import conditional_gumbel


@pytest.mark.parametrize("tau", [0.4, 1.0])
@pytest.mark.parametrize("sampler", UNBIASED, ids=named)
def test_unbiased_to_the_logits(sampler, tau):
    decoder = Decoder()
    gradients, _ = decoder.gradients(sampler, gumbel(50_000, *sampler.noise_shape(B, L, K)), tau)
    assert worst_z(gradients, decoder.exact_gradient()[0]) < 4


@pytest.mark.parametrize("sampler", BIASED, ids=named)
def test_the_same_draws_show_the_bias_of_the_biased(sampler):
    decoder = Decoder()
    gradients, _ = decoder.gradients(sampler, gumbel(50_000, *sampler.noise_shape(B, L, K)))
    assert worst_z(gradients, decoder.exact_gradient()[0]) > 6


@pytest.mark.parametrize("sampler", [s for s in ONE_HOT if named(s) != "Decoupled"], ids=named)
def test_decoder_gradient_of_one_hot_samplers_is_unbiased(sampler):
    decoder = Decoder()
    _, gradients = decoder.gradients(sampler, gumbel(20_000, *sampler.noise_shape(B, L, K), seed=3), tau=0.7)
    _, exact = decoder.exact_gradient()
    for name, value in exact.items():
        assert worst_z(gradients[name], value) < 4, name


def mean_over_pairs(decoder, sampler):
    """E over all pairs of codes of the gradient to the logits of an estimator with two samples."""
    codes = all_codes(L, K)
    q_NB = log_q(decoder.logits_BLK).exp()
    noise = noise_selecting(codes, decoder.logits_BLK)
    total = torch.zeros_like(decoder.logits_BLK)
    for first in range(len(codes)):
        pairs = torch.stack((noise[first].expand_as(noise), noise), 1)
        gradients, _ = decoder.gradients(sampler, pairs)
        total += torch.einsum("nblk,nb->blk", gradients, q_NB * q_NB[first])
    return total


def test_rloo_is_exact_in_expectation_over_all_pairs_of_codes():
    decoder = Decoder()
    exact, _ = decoder.exact_gradient()
    torch.testing.assert_close(mean_over_pairs(decoder, RLOO(2)), exact, rtol=0, atol=1e-12)


def test_muprop_is_exact_in_expectation_over_all_codes():
    decoder = Decoder()
    q_NB = log_q(decoder.logits_BLK).exp()
    gradients, _ = decoder.gradients(MuProp(), noise_selecting(all_codes(L, K), decoder.logits_BLK))
    mean = torch.einsum("nblk,nb->blk", gradients, q_NB)
    torch.testing.assert_close(mean, decoder.exact_gradient()[0], rtol=0, atol=1e-12)


def test_enumeration_is_exact_for_logits_and_decoder():
    decoder = Decoder()
    gradients, to_decoder = decoder.gradients(Exact(), torch.zeros(1, *Exact().noise_shape(B, L, K)))
    exact, exact_to_decoder = decoder.exact_gradient()
    torch.testing.assert_close(gradients[0], exact, rtol=0, atol=1e-12)
    for name, value in exact_to_decoder.items():
        torch.testing.assert_close(to_decoder[name][0], value, rtol=0, atol=1e-12)


def test_enumeration_refuses_with_the_size():
    with pytest.raises(
        UserError, match=r"max_codes=4096: model.n_cat=100 and model.n_latent=200 make 100\^200 .* 10\^400;"
    ):
        Exact().noise_shape(B, 200, 100)
    assert Exact().noise_shape(B, 4, 8) == (0, 4, 8)


# ---------------------------------------------------------------- VIMCO, of another bound


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_vimco_is_exact_in_expectation_for_the_bound_of_two_samples(beta):
    """To encoder, decoder and prior, through the whole objective, over all pairs of codes."""
    torch.manual_seed(0)
    model = MLP(image_shape=(1, 2, 3), hidden=[5], n_latent=L, n_cat=K, prior="learned").double()
    for p in model.parameters():
        p.data = torch.randn_like(p)
    x_BD = (torch.rand(B, 6) > 0.5).double()
    objective, codes, one = Objective(model, VIMCO(2)).double(), all_codes(L, K), torch.tensor(1.0).double()
    logits_BLK = model.encode(x_BD)
    q_NB = log_q(logits_BLK.detach()).exp()
    noise = noise_selecting(codes, logits_BLK.detach())

    log_x_NB = torch.distributions.Bernoulli(logits=model.decode(codes).unsqueeze(1)).log_prob(x_BD).sum(-1)
    ratio_NB = log_q(model.prior_logits_LK.unsqueeze(0)) - log_q(logits_BLK)
    log_w_NB = log_x_NB + beta * ratio_NB
    pairs_NNB = torch.logaddexp(log_w_NB.unsqueeze(1), log_w_NB.unsqueeze(0)) - math.log(2)
    log_q_NB = log_q(logits_BLK)
    bound = ((log_q_NB.unsqueeze(1) + log_q_NB.unsqueeze(0)).exp() * pairs_NNB).sum((0, 1)).mean()
    exact = torch.autograd.grad(-bound, list(model.parameters()), retain_graph=True)

    found = [torch.zeros_like(p) for p in model.parameters()]
    total = 0.0
    for image in range(B):  # its pairs of codes, the other images' being the same for both
        for first in range(len(codes)):
            for second in range(len(codes)):
                share = q_NB[first, image] * q_NB[second, image]
                terms = objective(x_BD[image : image + 1], noise[[first, second], image : image + 1], one, beta * one)
                total += share * terms.loss.item() / B
                for mean, part in zip(found, torch.autograd.grad(terms.loss, list(model.parameters()))):
                    mean += share * part / B
    assert total == pytest.approx(-bound.item(), abs=1e-12)
    for mean, value in zip(found, exact, strict=True):
        torch.testing.assert_close(mean, value, rtol=0, atol=1e-11)


# ---------------------------------------------------------------- the control variates of REBAR and RELAX


def test_conditional_noise_keeps_the_code_and_gives_back_the_joint_distribution():
    n = 100_000
    log_pi = Decoder().logits_BLK[0].log_softmax(-1).expand(n, L, K)
    first, second = gumbel(2, n, L, K, seed=6)
    sample = torch.nn.functional.one_hot((log_pi + first).argmax(-1), K).double()
    given = conditional_gumbel(log_pi, sample, second)
    assert torch.equal(given.argmax(-1), sample.argmax(-1))
    noise = given - log_pi  # without the condition, standard Gumbel again
    for point in (-1.0, 0.0, 1.0, 3.0):
        expected = torch.tensor(-point).double().exp().neg().exp()
        assert worst_z((noise < point).double(), expected) < 4.5
    pairs = (given[:, 0] - given[:, 0].roll(1, -1)).sign()
    expected = (log_pi[0, 0].exp() / (log_pi[0, 0].exp() + log_pi[0, 0].exp().roll(1))) * 2 - 1
    assert worst_z(pairs, expected) < 4


@pytest.mark.parametrize("sampler", [REBAR(0.7), relax()], ids=named)
def test_what_is_learned_descends_the_variance_of_the_gradient(sampler):
    decoder, noise, tau = Decoder(), gumbel(2, B, L, K, seed=8), 0.6
    sampler.double()

    code = torch.nn.functional.one_hot((decoder.logits_BLK + noise[0]).argmax(-1), K).double()
    score_BLK = code - decoder.logits_BLK.softmax(-1)
    without = (decoder(code).square() * score_BLK.square().sum((-1, -2))).mean()

    def variance():
        leaf = decoder.logits_BLK.clone().requires_grad_()
        surrogate_B = estimate(sampler, leaf, tau, noise, decoder).surrogate_B
        (gradient,) = torch.autograd.grad(surrogate_B.sum(), leaf)
        return (gradient.square().sum((-1, -2)).mean() / without).item()

    leaf = decoder.logits_BLK.clone().requires_grad_()
    mean = estimate(sampler, leaf, tau, noise, decoder).surrogate_B.mean()
    slopes = torch.autograd.grad(mean, list(sampler.parameters()))
    for p, slope in zip(sampler.parameters(), slopes, strict=True):
        flat, step = p.data.view(-1), 1e-5
        for i in range(0, len(flat), 5):
            before = flat[i].item()
            flat[i] = before + step
            above = variance()
            flat[i] = before - step
            below = variance()
            flat[i] = before
            assert slope.reshape(-1)[i].item() == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("sampler", [MuProp(), REBAR(0.7), relax()], ids=named)
def test_the_decoder_learns_from_the_one_hot_code_alone(sampler):
    decoder, noise = Decoder(), gumbel(3, *sampler.noise_shape(B, L, K), seed=9)
    _, found = decoder.gradients(sampler, noise, tau=0.5)
    for n, draw in enumerate(noise):
        first = draw if draw.dim() == 3 else draw[0]
        code = torch.nn.functional.one_hot((decoder.logits_BLK + first).argmax(-1), K).double()
        exact = grad(lambda params, code=code: -decoder(code, params).sum())(decoder.params)
        for name, value in exact.items():
            torch.testing.assert_close(found[name][n], value, rtol=0, atol=1e-12)


def test_rebar_has_less_variance_than_reinforce():
    decoder = Decoder()

    def variance(sampler, tau=0.5):
        gradients, _ = decoder.gradients(sampler, gumbel(20_000, *sampler.noise_shape(B, L, K)), tau)
        return gradients.var(0).sum().item()

    assert variance(REBAR(1.0)) < 0.5 * variance(REBAR(1e-9))
