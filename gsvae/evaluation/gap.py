"""The soft-versus-hard gap: how much better relaxed codes reconstruct than the one-hot codes they stand for.

Shapes: B images, L latents, K categories, T temperatures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsvae.categories import softmax
from gsvae.data import Images
from gsvae.evaluation.bounds import rand
from gsvae.evaluation.pixels import pixel_batches, streams
from gsvae.model import CategoricalVAE
from gsvae.objective import bernoulli_log_likelihood
from gsvae.sampling.base import gumbel_from_uniform, one_hot_argmax

__all__ = ["Gap", "gap_over_tau"]

NO_GRADIENT = 1e-6  # the largest entry of ∂y/∂logits below which a latent counts as frozen


@dataclass(frozen=True)
class Gap:
    """Relaxed against one-hot reconstruction at one temperature, means over images.

    The KL is the same for both, so this is also the difference of the discrete −ELBO and the relaxed loss.

    Attributes:
        tau: τ.
        relaxed: −log p(x|y) of the Gumbel-Softmax sample y, nats per image.
        one_hot: −log p(x|z) of z = one-hot argmax of the same logits and noise, a sample of q.
        error: standard error of ``nats`` over the images.
        frozen: share of latents, over images, that get no gradient through y (largest entry of its Jacobian to the
            logits below 1e-6).
    """

    tau: float
    relaxed: float
    one_hot: float
    error: float
    frozen: float

    @property
    def nats(self) -> float:
        """The gap, nats per image: positive where one-hot codes are worse. It vanishes as τ → 0."""
        return self.one_hot - self.relaxed


@torch.no_grad()
def gap_over_tau(
    model: CategoricalVAE, images: Images, taus: Sequence[float], seed: int, max_rows: int, *, dynamic: bool
) -> list[Gap]:
    """The gap at each temperature, with one sample per image and the same noise for all."""
    device, dtype = images.pixels_ND.device, model.prior_logits_LK.dtype
    pixels, (noise,) = streams([seed], 0, device), streams([seed], 4, device)
    hard: list[Tensor] = []
    soft: list[Tensor] = []
    frozen_T = torch.zeros(len(taus), dtype=torch.float64)
    for x_RBD in pixel_batches(images, dtype, pixels, max_rows, dynamic=dynamic):
        x_BD = x_RBD[0]
        logits_BLK = model.encode(x_BD)
        scores_BLK = logits_BLK + gumbel_from_uniform(rand(logits_BLK.shape, noise, device, dtype))
        hard.append(cost(model, one_hot_argmax(scores_BLK), x_BD))
        relaxed = [softmax(scores_BLK / tau) for tau in taus]
        soft.append(torch.stack([cost(model, y_BLK, x_BD) for y_BLK in relaxed]))
        frozen_T += torch.stack([frozen(y_BLK, tau).sum().cpu() for y_BLK, tau in zip(relaxed, taus, strict=True)])
    hard_N, soft_TN = torch.cat(hard), torch.cat(soft, dim=1)
    error_T = (hard_N - soft_TN).std(1) / len(hard_N) ** 0.5
    share_T = frozen_T / (len(hard_N) * model.n_latent)
    return [
        Gap(tau, soft_N.mean().item(), hard_N.mean().item(), error.item(), share.item())
        for tau, soft_N, error, share in zip(taus, soft_TN, error_T, share_T, strict=True)
    ]


def cost(model: CategoricalVAE, z_BLK: Tensor, x_BD: Tensor) -> Tensor:
    """−log p(x|z), ``(B,)``, float64 on the host: MPS has none."""
    return -bernoulli_log_likelihood(model.decode(z_BLK), x_BD).cpu().double()


def frozen(y_BLK: Tensor, tau: float) -> Tensor:
    """Whether a latent gets no gradient, ``(B, L)``: all entries of J(y)/τ, the largest y(1 − y)/τ, are tiny.

    1 − y is summed from the other categories, for in float32 it would be 0 or at least 6e-8.
    """
    largest_BL1, at_BL1 = y_BLK.max(-1, keepdim=True)
    rest_BL = y_BLK.scatter(-1, at_BL1, 0.0).sum(-1)
    return largest_BL1.squeeze(-1) * rest_BL / tau < NO_GRADIENT
