"""The one-hot code of every image of a set."""

import torch
from torch import Tensor

from gsvae.data import Images
from gsvae.evaluation.bounds import sample_codes
from gsvae.evaluation.pixels import pixel_batches, streams
from gsvae.model import CategoricalVAE

__all__ = ["encode"]


@torch.no_grad()
def encode(model: CategoricalVAE, images: Images, seed: int, max_rows: int, *, dynamic: bool) -> Tensor:
    """One sample z ~ q(z|x) for each image, as indices ``(N, L)`` on the host.

    With one sample per image in the Evaluator and the same seed, these are the codes that the discrete −ELBO is of.
    """
    device, dtype = images.pixels_ND.device, model.prior_logits_LK.dtype
    pixels, codes = (streams([seed], purpose, device) for purpose in range(2))
    found = [
        sample_codes(model.encode(x_RBD[0]).unsqueeze(0), 1, codes)[0, 0].cpu()
        for x_RBD in pixel_batches(images, dtype, pixels, max_rows, dynamic=dynamic)
    ]
    return torch.cat(found)
