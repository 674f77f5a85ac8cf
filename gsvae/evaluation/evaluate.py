"""One-hot evaluation of models on a set of images.

Shapes: R models, B images, L latents, K categories, D pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsvae.data import Images
from gsvae.evaluation.bounds import (
    discrete_reconstruction,
    iwae_bound,
    kl_per_latent,
    relaxed_reconstruction,
)
from gsvae.evaluation.codes import CodeUsage, UsageCounter
from gsvae.evaluation.models import Alone, Models
from gsvae.evaluation.pixels import pixel_batches, streams
from gsvae.model import CategoricalVAE

__all__ = ["Evaluator", "Scores"]


@dataclass(frozen=True)
class Scores:
    """Means over a set of images, nats per image, all from one-hot codes but ``relaxed_loss``.

    Attributes:
        neg_elbo: the discrete −ELBO, ``reconstruction + kl``.
        reconstruction: −log p(x|z) of one-hot z ~ q(z|x).
        kl: analytic KL(q ‖ p), summed over the latents.
        relaxed_loss: −log p(x|y) of one Gumbel-Softmax sample y, plus ``kl``: what training with soft samples
            minimises, and no bound on anything.
        iwae: the importance-weighted bound, where it was asked for.
        codes: how the codes are used.
    """

    neg_elbo: float
    reconstruction: float
    kl: float
    relaxed_loss: float
    iwae: float | None
    codes: CodeUsage

    def metrics(self, split: str) -> dict[str, float]:
        """The scores under their metric names."""
        named = {
            f"{split}/neg_elbo": self.neg_elbo,
            f"{split}/reconstruction": self.reconstruction,
            f"{split}/kl": self.kl,
            f"{split}/relaxed_loss": self.relaxed_loss,
        }
        return named if self.iwae is None else named | {f"{split}/iwae": self.iwae}

    def code_metrics(self) -> dict[str, float]:
        """Code usage under its metric names."""
        codes = self.codes
        return {
            "codes/perplexity": codes.perplexity,
            "codes/active": float(codes.active),
            "codes/dead": float(codes.dead),
        }


@dataclass(frozen=True)
class Evaluator:
    """How models are evaluated.

    Attributes:
        n_samples: one-hot samples per image in the discrete −ELBO.
        iwae_samples: S of the importance-weighted bound.
        max_rows: images × samples of one model decoded at once; bounds the memory whatever S is.
        dynamic: binarise the images anew, as in training.
    """

    n_samples: int
    iwae_samples: int
    max_rows: int
    dynamic: bool = False

    def one(self, model: CategoricalVAE, seed: int, images: Images, tau: float, *, iwae: bool = False) -> Scores:
        """Score one model; see :meth:`__call__`."""
        return self(Alone(model), [seed], images, [tau], iwae=iwae)[0]

    @torch.no_grad()
    def __call__(
        self,
        models: Models,
        seeds: Sequence[int],
        images: Images,
        taus: Sequence[float],
        *,
        iwae: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> list[Scores]:
        """Score R models on ``images``.

        Args:
            seeds: of each model's own noise: the same model always scores the same.
            taus: temperatures of the relaxed losses.
            iwae: whether the importance-weighted bound is asked for.
            check: called between batches; may raise to stop.
        """
        device, dtype = images.pixels_ND.device, models.prior_logits_LK.dtype
        # A stream for each purpose: no score depends on which others are asked for.
        pixels, codes, relaxing, importance = (streams(seeds, purpose, device) for purpose in range(4))
        tau_R111 = torch.tensor(taus, dtype=dtype, device=device).view(-1, 1, 1, 1)
        usage = UsageCounter()
        parts: dict[str, list[Tensor]] = {"reconstruction": [], "relaxed": [], "iwae": []}
        for x_RBD in pixel_batches(images, dtype, pixels, self.max_rows, dynamic=self.dynamic):
            check()
            logits_RBLK = models.encode(x_RBD)
            usage.add(logits_RBLK, kl_per_latent(models, logits_RBLK))
            found = {
                "reconstruction": discrete_reconstruction(
                    models, x_RBD, logits_RBLK, self.n_samples, codes, self.max_rows
                ),
                "relaxed": relaxed_reconstruction(models, x_RBD, logits_RBLK, tau_R111, relaxing),
            }
            if iwae:
                found["iwae"] = iwae_bound(models, x_RBD, logits_RBLK, self.iwae_samples, importance, self.max_rows)
            for name, value_RB in found.items():
                parts[name].append(value_RB)
        means = {name: means_of(values) for name, values in parts.items() if values}
        return [
            Scores(
                neg_elbo=means["reconstruction"][r] + (kl := code_usage.kl_L.sum().item()),
                reconstruction=means["reconstruction"][r],
                kl=kl,
                relaxed_loss=means["relaxed"][r] + kl,
                iwae=means["iwae"][r] if iwae else None,
                codes=code_usage,
            )
            for r, code_usage in enumerate(usage.results())
        ]


def means_of(batches: Sequence[Tensor]) -> list[float]:
    """Means over the images of values ``(R, B)``, summed in float64 on the host: MPS has no float64."""
    value_RN = torch.cat(list(batches), dim=1).cpu().double()
    means: list[float] = value_RN.mean(1).tolist()
    return means
