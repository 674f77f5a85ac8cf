"""What a model's codes look like: reconstructions, prior samples and traversals, as arrays of images in [0, 1]."""

import numpy as np
import torch
from torch import Tensor

from gsvae.data import Images
from gsvae.evaluation.bounds import kl_per_latent, one_hot, sample_codes
from gsvae.model import CategoricalVAE

__all__ = ["prior_samples", "reconstructions", "traversals"]


def as_images(model: CategoricalVAE, pixels: Tensor) -> np.ndarray:
    """``(..., D)`` in [0, 1] to a host array ``(..., H, W)``; several channels are averaged to grey."""
    channels, height, width = model.image_shape
    images = pixels.reshape(*pixels.shape[:-1], channels, height, width).mean(-3)
    return images.float().cpu().numpy()


def means(model: CategoricalVAE, index: Tensor) -> Tensor:
    """Mean pixels ``(..., D)`` of p(x|z) for one-hot codes with indices ``(..., L)``."""
    return model.decode(one_hot(index, model.n_cat, model.prior_logits_LK.dtype)).sigmoid()


@torch.no_grad()
def reconstructions(model: CategoricalVAE, images: Images, seed: int, n: int = 16) -> np.ndarray:
    """The first ``n`` inputs above the means of p(x|z) for one sampled one-hot z each, ``(2, n, H, W)``.

    Inputs of the dynamic protocol are shown, and encoded, as the grey values they are before binarisation.
    """
    x_BD = images.pixels_ND[:n].to(model.prior_logits_LK.dtype) / 255
    generator = torch.Generator(x_BD.device).manual_seed(seed)
    index_BL = sample_codes(model.encode(x_BD), 1, generator)[0]
    return as_images(model, torch.stack((x_BD, means(model, index_BL))))


@torch.no_grad()
def prior_samples(model: CategoricalVAE, seed: int, rows: int = 8, columns: int = 16) -> np.ndarray:
    """Means of p(x|z) for one-hot z from the prior, ``(rows, columns, H, W)``."""
    logits = model.prior_logits_LK.expand(rows * columns, -1, -1)
    generator = torch.Generator(logits.device).manual_seed(seed)
    index_BL = sample_codes(logits, 1, generator)[0]
    return as_images(model, means(model, index_BL).unflatten(0, (rows, columns)))


@torch.no_grad()
def traversals(
    model: CategoricalVAE, images: Images, n_latent: int = 10, n_cat: int = 16
) -> tuple[np.ndarray, list[int]]:
    """What each value of a latent does to the first image: means of p(x|z).

    Returns:
        ``(rows, columns, H, W)``: a row for each of the ``n_latent`` latents with the largest KL on that image, a
        column for each of its first ``n_cat`` values, the other latents at their likeliest; and the rows' latents.
    """
    x_BD = images.pixels_ND[:1].to(model.prior_logits_LK.dtype) / 255
    logits_BLK = model.encode(x_BD)
    latents = kl_per_latent(model, logits_BLK)[0].argsort(descending=True)[:n_latent].tolist()
    values = min(model.n_cat, n_cat)
    index_RCL = logits_BLK.argmax(-1)[0].repeat(len(latents), values, 1)
    for row, latent in enumerate(latents):
        index_RCL[row, :, latent] = torch.arange(values, device=index_RCL.device)
    return as_images(model, means(model, index_RCL)), latents
