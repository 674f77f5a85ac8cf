"""One-hot evaluation of a model on a set of images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gsvae.data import Images, binarize
from gsvae.evaluation.bounds import (
    discrete_reconstruction,
    iwae_bound,
    kl_per_latent,
    relaxed_reconstruction,
)
from gsvae.evaluation.codes import CodeUsage, UsageCounter
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
        max_rows: images × samples decoded at once; bounds the memory whatever S is.
        seed: of the evaluation's own noise: the same model always scores the same.
        dynamic: binarise the images anew, as in training.
    """

    n_samples: int
    iwae_samples: int
    max_rows: int
    seed: int
    dynamic: bool = False

    def batches(self, images: Images, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Tensor]:
        """Pixels ``(B, D)`` in [0, 1] of all images in their order."""
        for pixels in images.pixels_ND.split(min(1000, self.max_rows)):
            x_BD = pixels.to(dtype) / 255
            yield binarize(x_BD, generator) if self.dynamic else x_BD

    @torch.no_grad()
    def __call__(
        self,
        model: CategoricalVAE,
        images: Images,
        tau: float,
        *,
        iwae: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> Scores:
        """Score ``model`` on ``images``; ``tau`` is the temperature of the relaxed loss.

        ``check`` is called between batches and may raise to stop.
        """
        device = images.pixels_ND.device
        # A stream for each purpose: no score depends on which others are asked for.
        pixels, codes, relaxing, importance = (
            torch.Generator(device).manual_seed(self.seed + purpose) for purpose in range(4)
        )
        dtype = model.prior_logits_LK.dtype
        usage = UsageCounter()
        sums = {"reconstruction": 0.0, "relaxed": 0.0, "iwae": 0.0}
        for x_BD in self.batches(images, dtype, pixels):
            check()
            logits_BLK = model.encode(x_BD)
            usage.add(logits_BLK, kl_per_latent(model, logits_BLK))
            sums["reconstruction"] += total(
                discrete_reconstruction(model, x_BD, logits_BLK, self.n_samples, codes, self.max_rows)
            )
            sums["relaxed"] += total(relaxed_reconstruction(model, x_BD, logits_BLK, tau, relaxing))
            if iwae:
                sums["iwae"] += total(iwae_bound(model, x_BD, logits_BLK, self.iwae_samples, importance, self.max_rows))
        means = {name: value / len(images) for name, value in sums.items()}
        code_usage = usage.result()
        kl = code_usage.kl_L.sum().item()
        return Scores(
            neg_elbo=means["reconstruction"] + kl,
            reconstruction=means["reconstruction"],
            kl=kl,
            relaxed_loss=means["relaxed"] + kl,
            iwae=means["iwae"] if iwae else None,
            codes=code_usage,
        )


def total(value_B: Tensor) -> float:
    """Σ_B in float64 on the host: MPS has no float64."""
    return value_B.cpu().double().sum().item()
