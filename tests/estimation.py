"""Estimators of the gradient to logits and decoder, on problems small enough to enumerate."""

import torch
from enumeration import all_codes, log_q
from torch import Tensor
from torch.func import grad, vmap

from gsvae.objective import bernoulli_log_likelihood
from gsvae.sampling import (
    GST,
    REBAR,
    RELAX,
    RLOO,
    VIMCO,
    ZGR,
    BoundSampler,
    Decoupled,
    Exact,
    GumbelRao,
    Hard,
    MuProp,
    ReinMax,
    Soft,
    StraightThrough,
)
from gsvae.sampling.base import gumbel_from_uniform
from gsvae.sampling.base import log_q as log_q_of

B, L, K = 2, 2, 3


def relax() -> RELAX:
    """With a network that is not 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        sampler = RELAX(L, K, hidden=7, eta=0.8)
        for p in sampler.net[-1].parameters():
            torch.nn.init.normal_(p)
    return sampler


BIASED = [Soft(), Hard(), StraightThrough(), ReinMax(), ZGR(), GST(), GumbelRao(5), Decoupled(0.7)]
UNBIASED = [RLOO(4), MuProp(), REBAR(0.7), REBAR(adaptive=False), relax()]
ONE_HOT = [*BIASED[1:], *UNBIASED]
ALL = [*BIASED, *UNBIASED, VIMCO(3), Exact()]


def named(sampler) -> str:
    return type(sampler).__name__


def gumbel(*shape, seed=0, dtype=torch.float64) -> Tensor:
    u = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return gumbel_from_uniform(u)


def estimate(sampler, logits_BLK, tau, noise, log_likelihood):
    """The estimate of any sampler, with a uniform prior."""
    tau = torch.tensor(tau, dtype=logits_BLK.dtype)
    if isinstance(sampler, BoundSampler):
        prior = torch.zeros_like(logits_BLK)
        return sampler.bound(logits_BLK, noise, log_likelihood, lambda z: log_q_of(z, prior) - log_q_of(z, logits_BLK))
    return sampler(logits_BLK, tau, noise, log_likelihood)


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

        sampler.to(noise_N.dtype)

        def surrogate(logits, params, noise):
            return estimate(sampler, logits, tau, noise, lambda z: self(z, params)).surrogate_B.sum()

        return vmap(grad(surrogate, (0, 1)), (None, None, 0))(self.logits_BLK, self.params, noise_N)


def estimate_one(sampler, logits_BLK, noise, log_likelihood, tau=1.0):
    """Gradient to the logits, the z that were decoded first, and the estimate."""
    seen = []
    sampler.to(logits_BLK.dtype)
    logits_BLK = logits_BLK.clone().requires_grad_()

    def spy(z):
        if not seen:  # later ones are those of control variates
            seen.append(z.detach().clone())
        return log_likelihood(z)

    found = estimate(sampler, logits_BLK, tau, noise, spy)
    (gradient,) = torch.autograd.grad(found.surrogate_B.sum(), logits_BLK)
    return gradient, seen[0], found


def noise_selecting(codes_NLK, logits_BLK):
    """Noise ``(N, B, L, K)`` with which argmax(logits + noise) is the code, for every image."""
    return 50 * codes_NLK.unsqueeze(1) - logits_BLK


def mean_over_codes(sampler, logits_BLK, f):
    """E over all codes of the estimator's gradient, and the exact gradient of E_q f; f takes ``(..., L, K)``.

    For estimators that know the noise through the code alone.
    """
    codes = all_codes(*logits_BLK.shape[1:])
    q_NB = log_q(logits_BLK).exp()
    mean = torch.zeros_like(logits_BLK)
    for q_B, noise in zip(q_NB, noise_selecting(codes, logits_BLK)):
        gradient, _, _ = estimate_one(sampler, logits_BLK, noise, lambda z: -f(z))
        mean += q_B[:, None, None] * gradient
    leaf = logits_BLK.clone().requires_grad_()
    expectation = (log_q(leaf).exp() * f(codes).unsqueeze(1)).sum()
    return mean, torch.autograd.grad(expectation, leaf)[0]
