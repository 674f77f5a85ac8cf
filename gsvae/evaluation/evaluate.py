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
    """Means over a set of images, nats per image, all from one-hot codes but ``relaxed_loss``."""

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
        generator = torch.Generator(device).manual_seed(self.seed)
        dtype = model.prior_logits_LK.dtype
        usage = UsageCounter()
        sums = {"reconstruction": 0.0, "relaxed": 0.0, "iwae": 0.0}
        for x_BD in self.batches(images, dtype, generator):
            check()
            logits_BLK = model.encode(x_BD)
            usage.add(logits_BLK, kl_per_latent(model, logits_BLK))
            sampled = discrete_reconstruction(
                model, x_BD, logits_BLK, self.n_samples, generator, self.max_rows
            )
            sums["reconstruction"] += sampled.cpu().double().sum().item()
            relaxed = relaxed_reconstruction(model, x_BD, logits_BLK, tau, generator)
            sums["relaxed"] += relaxed.cpu().double().sum().item()
            if iwae:
                bound = iwae_bound(model, x_BD, logits_BLK, self.iwae_samples, generator, self.max_rows)
                sums["iwae"] += bound.cpu().double().sum().item()
        codes = usage.result()
        kl = codes.kl_L.sum().item()
        reconstruction, relaxed_reconstruction_mean = (sums[k] / len(images) for k in ("reconstruction", "relaxed"))
        return Scores(
            neg_elbo=reconstruction + kl,
            reconstruction=reconstruction,
            kl=kl,
            relaxed_loss=relaxed_reconstruction_mean + kl,
            iwae=sums["iwae"] / len(images) if iwae else None,
            codes=codes,
        )
