"""What a latent knows of the label and of the image, in nats.

Shapes: N images, L latents, K categories, C classes.
"""

import torch
from torch import Tensor

from gsvae.evaluation.codes import CodeUsage

__all__ = ["entropy_of_counts", "image_information", "label_information"]


def label_information(index_NL: Tensor, labels_N: Tensor) -> Tensor:
    """Mutual information I(z_l; y) of each latent's sampled code and the label, nats, ``(L,)``.

    H(z) + H(y) − H(z, y) from counts, each entropy with the Miller–Madow correction (see
    :func:`entropy_of_counts`). The corrected estimate scatters around 0 where there is nothing to know, so it can be
    a little below it.
    """
    classes_N = labels_N.unique(return_inverse=True)[1]
    n_classes = int(classes_N.max()) + 1
    entropy_y = entropy_of_counts(classes_N.bincount())
    found = []
    for code_N in index_NL.T:
        joint = (code_N * n_classes + classes_N).bincount()
        found.append(entropy_of_counts(code_N.bincount()) + entropy_y - entropy_of_counts(joint))
    return torch.stack(found)


def entropy_of_counts(counts: Tensor) -> Tensor:
    """Entropy in nats of what was counted, float64: that of the shares plus (m − 1)/2N, m the values that occur.

    The correction takes away the bias of first order in 1/N (Miller, 1955; Paninski, Neural Computation 15, 2003).
    """
    seen = counts[counts > 0].double()
    n = seen.sum()
    return torch.special.entr(seen / n).sum() + (len(seen) - 1) / (2 * n)


def image_information(codes: CodeUsage) -> Tensor:
    """Mutual information I(x; z_l) of image and latent under the encoder, nats, ``(L,)``: H(mean q) − mean H(q).

    It is the part of the latent's KL that tells images apart; the rest, KL(mean q ‖ p), all images share.
    """
    return torch.special.entr(codes.usage_LK).sum(-1) - codes.entropy_L
