"""Code usage on posteriors made by hand, and the pictures of codes."""

import math

import numpy as np
import pytest
import torch
from enumeration import tiny_model

from gsvae.data import Images
from gsvae.evaluation import prior_samples, reconstructions, traversals
from gsvae.evaluation.bounds import kl_per_latent
from gsvae.evaluation.codes import UsageCounter
from gsvae.objective import categorical_kl

N, L, K = 60, 3, 4


def usage_of(probabilities_NLK, batch=N):
    """Usage counted over batches; the prior is uniform."""
    counter = UsageCounter()
    for p in probabilities_NLK.split(batch):
        logits = p.log().clamp(min=-1e4)
        counter.add(logits[None], categorical_kl(logits, torch.zeros(p.shape[1:], dtype=p.dtype))[None])
    return counter.results()[0]


def constant(row):
    return torch.tensor(row, dtype=torch.float64).expand(N, L, K)


def cycling():
    """Each image one certain code, all codes equally often, the latents out of step."""
    index = torch.arange(N).unsqueeze(1) + torch.arange(L)
    return torch.nn.functional.one_hot(index % K, K).double()


def test_uniform_posteriors_use_all_codes_and_say_nothing():
    usage = usage_of(constant([0.25] * 4))
    assert usage.perplexity == pytest.approx(K)
    assert (usage.dead, usage.active) == (0, 0)
    torch.testing.assert_close(usage.kl_L, torch.zeros(L, dtype=torch.float64))


def test_one_constant_code_is_collapse():
    usage = usage_of(constant([0.0, 1, 0, 0]))
    assert usage.perplexity == pytest.approx(1)
    assert (usage.dead, usage.active) == (L * (K - 1), 0)
    torch.testing.assert_close(usage.kl_L, torch.full((L,), math.log(K), dtype=torch.float64))


def test_certain_codes_that_vary_over_images_are_the_best_use():
    usage = usage_of(cycling())
    assert usage.perplexity == pytest.approx(K)
    assert (usage.dead, usage.active) == (0, L)
    torch.testing.assert_close(usage.usage_LK, torch.full((L, K), 1 / K, dtype=torch.float64))
    torch.testing.assert_close(usage.kl_L, torch.full((L,), math.log(K), dtype=torch.float64))


def test_latents_are_told_apart():
    p = torch.stack((cycling()[:, 0], constant([0.0, 1, 0, 0])[:, 1], constant([0.5, 0.5, 0, 0])[:, 2]), 1)
    usage = usage_of(p)
    assert usage.active == 1
    assert usage.dead == 3 + 2
    assert usage.perplexity == pytest.approx((4 + 1 + 2) / 3)
    expected = torch.tensor([math.log(4), math.log(4), math.log(2)], dtype=torch.float64)
    torch.testing.assert_close(usage.kl_L, expected)


@pytest.mark.parametrize(("swing", "active"), [(0.09, 0), (0.11, L)])
def test_active_means_a_variance_of_pi_above_a_hundredth(swing, active):
    high = torch.tensor([0.3 + swing, 0.3 - swing, 0.2, 0.2], dtype=torch.float64)
    low = torch.tensor([0.3 - swing, 0.3 + swing, 0.2, 0.2], dtype=torch.float64)
    p = torch.stack((high, low)).repeat(N // 2, 1).unsqueeze(1).expand(N, L, K)
    assert usage_of(p).active == active


@pytest.mark.parametrize(("share", "dead"), [(0.0024, L), (0.0026, 0)])
def test_dead_means_a_share_below_a_hundredth_of_uniform(share, dead):
    assert usage_of(constant([share, (1 - share) / 3, (1 - share) / 3, (1 - share) / 3])).dead == dead


@pytest.mark.parametrize("batch", [1, 7, 59])
def test_batches_do_not_matter(batch):
    logits = 3 * torch.randn(N, L, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, split = usage_of(logits.softmax(-1)), usage_of(logits.softmax(-1), batch)
    torch.testing.assert_close(split.usage_LK, whole.usage_LK)
    torch.testing.assert_close(split.kl_L, whole.kl_L)
    assert split.perplexity == pytest.approx(whole.perplexity)
    assert (split.active, split.dead) == (whole.active, whole.dead)


# ---------------------------------------------------------------- pictures


@pytest.fixture
def images():
    pixels = torch.randint(0, 256, (5, 6), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    return Images(pixels, torch.zeros(5, dtype=torch.int64))


def decoded(model, codes):
    with torch.no_grad():
        return model.decode(codes).sigmoid().unflatten(-1, (2, 3)).float().numpy()


def test_reconstructions_show_the_inputs_above_one_hot_reconstructions(images):
    model = tiny_model()
    grid = reconstructions(model, images, seed=0, n=4)
    assert grid.shape == (2, 4, 2, 3)
    np.testing.assert_allclose(grid[0].reshape(4, 6), images.pixels_ND[:4].numpy() / 255, rtol=1e-6)
    every_code = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    vertices = decoded(model, torch.nn.functional.one_hot(every_code, 3).double())
    for picture in grid[1]:
        assert np.abs(vertices - picture).max((1, 2)).min() < 1e-6, "not the image of a one-hot code"
    np.testing.assert_array_equal(grid, reconstructions(model, images, seed=0, n=4))


def test_prior_samples_follow_the_prior():
    model = tiny_model(prior="learned")
    with torch.no_grad():
        model.prior_logits_LK.copy_(torch.tensor([[0.0, 1000, 0], [0, 0, 1000]]))
    grid = prior_samples(model, seed=0, rows=2, columns=3)
    only = decoded(model, torch.tensor([[0.0, 1, 0], [0, 0, 1]], dtype=torch.float64))
    assert grid.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(grid, np.broadcast_to(only, grid.shape), rtol=1e-6)


def test_traversals_change_one_latent_at_a_time_most_informative_first(images):
    model = tiny_model()
    grid, latents = traversals(model, images, n_cat=16)
    assert grid.shape == (2, 3, 2, 3)
    with torch.no_grad():
        logits = model.encode(images.pixels_ND[:1].double() / 255)
    kl = kl_per_latent(model, logits)[0]
    assert kl[latents[0]] >= kl[latents[1]]
    for row, latent in enumerate(latents):
        for value in range(3):
            index = logits.argmax(-1)[0].clone()
            index[latent] = value
            expected = decoded(model, torch.nn.functional.one_hot(index, 3).double())
            np.testing.assert_allclose(grid[row, value], expected, rtol=1e-6)
