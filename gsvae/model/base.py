"""What every categorical VAE is: an encoder to logits, a decoder from codes, and a prior over the codes."""

import math

import torch
from torch import Tensor, nn

__all__ = ["CategoricalVAE"]


class CategoricalVAE(nn.Module):
    """A VAE whose latent is L categorical variables with K categories each and whose pixels are Bernoulli.

    A subclass sets ``self.encoder``, a module ``(B, D) -> (B, L·K)`` whose last layer is linear (a ReLU there would
    forbid negative logits), and ``self.decoder``, a module ``(N, L·K) -> (N, D)`` to the pixels' logits. It is
    written for one run; packing lifts it.

    Args:
        image_shape: ``(C, H, W)`` of the data.
        n_latent: L.
        n_cat: K.
        prior: ``uniform``, or ``learned`` (L × K free logits, independent variables).
        init_bias: whether :meth:`start_at_mean` is to be called with the data's mean image.
    """

    encoder: nn.Module
    decoder: nn.Module
    prior_logits_LK: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_latent: int,
        n_cat: int,
        prior: str = "uniform",
        init_bias: bool = True,
    ) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.n_pixels = math.prod(image_shape)
        self.n_latent = n_latent
        self.n_cat = n_cat
        self.init_bias = init_bias
        prior_logits_LK = torch.zeros(n_latent, n_cat)
        if prior == "learned":
            self.prior_logits_LK = nn.Parameter(prior_logits_LK)
        else:
            self.register_buffer("prior_logits_LK", prior_logits_LK)

    def encode(self, x_BD: Tensor) -> Tensor:
        """Logits ``(B, L, K)`` of q(z|x) for pixels ``(B, D)`` in [0, 1]."""
        return self.encoder(x_BD).unflatten(-1, (self.n_cat, self.n_latent)).transpose(-1, -2)

    def decode(self, z: Tensor) -> Tensor:
        """Bernoulli logits ``(..., D)`` of p(x|z) for codes ``(..., L, K)``."""
        leading = z.shape[:-2]
        pixels_ND = self.decoder(z.transpose(-1, -2).reshape(-1, self.n_cat * self.n_latent))
        return pixels_ND.reshape(*leading, self.n_pixels)

    def output_bias(self) -> nn.Parameter | None:
        """The bias of the decoder's last layer, one per pixel or one per channel; None where there is none."""
        layers = [layer for layer in self.decoder.modules() if any(True for _ in layer.parameters(recurse=False))]
        bias = getattr(layers[-1], "bias", None) if layers else None
        fits = isinstance(bias, nn.Parameter) and bias.numel() in (self.n_pixels, self.image_shape[0])
        return bias if fits else None

    @torch.no_grad()
    def start_at_mean(self, mean_D: Tensor) -> None:
        """Set the output bias to the log-odds of the mean image ``(D,)``, kept within ±4.6 (p in [0.01, 0.99])."""
        bias = self.output_bias()
        if bias is None:
            return
        mean = mean_D.clamp(0.01, 0.99)
        if bias.numel() != self.n_pixels:  # a convolution: one bias per channel
            mean = mean.view(bias.numel(), -1).mean(1)
        bias.copy_(torch.logit(mean).to(bias.dtype))
