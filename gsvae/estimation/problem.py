"""The gradient to be estimated, for a fixed model and fixed images, and draws of estimators of it as vectors.

Shapes: n draws, B images, L latents, K categories, D pixels, P numbers of a gradient.
"""

import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import grad, vmap

from gsvae.data import Images, binarize
from gsvae.model import CategoricalVAE
from gsvae.objective import bernoulli_log_likelihood
from gsvae.sampling import Sampler
from gsvae.sampling.base import gumbel_from_uniform

__all__ = ["WRT", "Problem", "fixed_pixels"]

log = logging.getLogger(__name__)

WRT = ("encoder", "logits")
NUMBERS_AT_ONCE = 1 << 23  # of the gradients that are in memory at once, 64 MiB in float64


class Problem:
    """∇ E_q[−log p(x|z)] for a model and images, without the KL, which is analytic and the same for all estimators.

    As a vector of P numbers it is one of two:

    - ``encoder``: the gradient of the mean over the images to all parameters that the logits depend on, as an
      optimiser sees it;
    - ``logits``: each image's gradient to its own logits, one behind the other and divided by √B, so that a squared
      norm is the mean over the images of their squared norms.

    Args:
        model: in the mode in which it is to be measured; it must not change meanwhile.
        x_BD: pixels in [0, 1].
        max_rows: codes decoded at once, of all images and draws together; bounds the memory.
    """

    def __init__(self, model: CategoricalVAE, x_BD: Tensor, wrt: str = "encoder", max_rows: int = 4000) -> None:
        self.model, self.x_BD, self.wrt, self.max_rows = model, x_BD, wrt, max_rows
        with torch.enable_grad():
            self._graph_BLK = model.encode(x_BD)
            parameters = [p for p in model.parameters() if p.requires_grad]
            found = torch.autograd.grad(self._graph_BLK.sum(), parameters, retain_graph=True, allow_unused=True)
        self._parameters = [p for p, g in zip(parameters, found, strict=True) if g is not None]
        self.logits_BLK = self._graph_BLK.detach()

    @property
    def size(self) -> int:
        """P."""
        return self.logits_BLK.numel() if self.wrt == "logits" else sum(p.numel() for p in self._parameters)

    @torch.no_grad()
    def log_likelihood(self, z: Tensor) -> Tensor:
        """log p(x|z), ``(..., B)``, nats, without gradient."""
        return self._log_likelihood(z)

    def _log_likelihood(self, z: Tensor) -> Tensor:
        return bernoulli_log_likelihood(self.model.decode(z), self.x_BD)

    def vectors(self, gradients_nBLK: Tensor, *, lifted: bool = True) -> Tensor:
        """Gradients of each image's term to its logits, as vectors ``(n, P)``."""
        B = len(self.x_BD)
        if self.wrt == "logits":
            return (gradients_nBLK / B**0.5).reshape(len(gradients_nBLK), -1)
        if lifted and len(gradients_nBLK) > 1:
            parts = torch.autograd.grad(
                self._graph_BLK, self._parameters, gradients_nBLK / B, retain_graph=True, is_grads_batched=True
            )
            return torch.cat([part.flatten(1) for part in parts], 1)
        return torch.stack([self._vector(gradient_BLK / B) for gradient_BLK in gradients_nBLK])

    def _vector(self, gradient_BLK: Tensor) -> Tensor:
        parts = torch.autograd.grad(self._graph_BLK, self._parameters, gradient_BLK, retain_graph=True)
        return torch.cat([part.flatten() for part in parts])

    # ---------------------------------------------------------------- draws of an estimator

    def decoder_calls(self, sampler: Sampler) -> int:
        """Codes that one estimate has decoded for each image, counted."""
        calls = 0

        def counting(z: Tensor) -> Tensor:
            nonlocal calls
            calls += z.shape[:-3].numel()
            return self._log_likelihood(z)

        tau = torch.ones((), dtype=self.x_BD.dtype, device=self.x_BD.device)
        with torch.no_grad():
            sampler(self.logits_BLK, tau, self.noise(sampler, 1, seeded_on(self.x_BD.device, 0))[0], counting)
        return calls

    def noise(self, sampler: Sampler, n: int, generator: torch.Generator) -> Tensor:
        """Gumbel noise ``(n, ...)`` of n draws, the same however many are drawn at once."""
        *leading, L, K = sampler.noise_shape(*self.logits_BLK.shape)
        like = self.x_BD  # in memory as the logits lie: K before L
        parts = [
            torch.rand((*leading, K, L), generator=generator, device=like.device, dtype=like.dtype) for _ in range(n)
        ]
        return gumbel_from_uniform(torch.stack(parts)).transpose(-1, -2)

    def draws(
        self, sampler: Sampler, tau: float, n: int, seed: int, check: Callable[[], None] = lambda: None
    ) -> Iterator[Tensor]:
        """n independent estimates, some ``(m, P)`` at a time; what they are does not depend on how many at a time.

        Args:
            seed: of the noise; a sampler always gets the same for the same.
            check: called between the parts; may raise to stop.
        """
        generator = seeded_on(self.x_BD.device, seed)
        tau_ = torch.tensor(tau, dtype=self.x_BD.dtype, device=self.x_BD.device)
        rows = len(self.x_BD) * self.decoder_calls(sampler)
        at_once = max(1, min(self.max_rows // rows, NUMBERS_AT_ONCE // self.size))
        done = 0
        while done < n:
            check()
            noise = self.noise(sampler, min(at_once, n - done), generator)
            done += len(noise)
            if at_once > 1:
                try:
                    yield self.vectors(self._lifted(sampler, tau_, noise))
                    continue
                except RuntimeError as error:  # what torch raises for code that cannot be lifted
                    reason = str(error).partition("\n")[0]
                    log.warning("%s: its draws are made one by one: %s", type(sampler).__name__, reason)
                    at_once = 1
            for each in noise:
                yield self.vectors(self._one(sampler, tau_, each).unsqueeze(0), lifted=False)

    def _lifted(self, sampler: Sampler, tau: Tensor, noise_n: Tensor) -> Tensor:
        """Gradients ``(n, B, L, K)`` of the estimates to the logits, drawn together."""

        def surrogate(logits_BLK: Tensor, noise: Tensor) -> Tensor:
            return sampler(logits_BLK, tau, noise, self._log_likelihood).surrogate_B.sum()

        with torch.no_grad():  # of the decoder's parameters; inside, grad() has its own
            found: Tensor = vmap(grad(surrogate), (None, 0))(self.logits_BLK, noise_n)
        return found

    def _one(self, sampler: Sampler, tau: Tensor, noise: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = self.logits_BLK.clone().requires_grad_()
            surrogate_B = sampler(leaf, tau, noise, self._log_likelihood).surrogate_B
            return torch.autograd.grad(surrogate_B.sum(), leaf)[0]


def seeded_on(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def fixed_pixels(images: Images, n: int, dtype: torch.dtype, seed: int, *, dynamic: bool) -> Tensor:
    """The first n images as pixels ``(B, D)`` in [0, 1], where they are resampled in training once and for all."""
    x_BD = images.pixels_ND[:n].to(dtype) / 255
    if not dynamic:
        return x_BD
    u_BD = torch.rand(x_BD.shape, generator=seeded_on(x_BD.device, seed), device=x_BD.device, dtype=dtype)
    return binarize(x_BD, u_BD)
