"""What a model does with its codes: perplexity, dead codes, active latents, KL and entropy of each latent."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gsvae.categories import log_softmax, softmax

__all__ = ["CodeUsage", "UsageCounter"]

ACTIVE_VARIANCE = 0.01  # of π over the images (active units, arXiv 1509.00519, on probabilities)
DEAD_SHARE = 0.01  # of the uniform share 1/K


@dataclass(frozen=True)
class CodeUsage:
    """Code usage over a set of images.

    Attributes:
        usage_LK: mean over images of q(z|x), the share of each code.
        kl_L: mean KL of each latent, nats per image.
        entropy_L: mean entropy of each latent's q(z|x), nats, from 0 (one-hot) to ln K.
        perplexity: exp H(usage) averaged over latents, from 1 (one code) to K (all codes alike).
        active: latents in which some code's probability varies over images by more than 0.01.
        dead: codes, of the L·K, whose share is below a hundredth of uniform.
    """

    usage_LK: Tensor
    kl_L: Tensor
    entropy_L: Tensor
    perplexity: float
    active: int
    dead: int


@dataclass
class UsageCounter:
    """Gathers the code usage of R models batch by batch, in float64."""

    n: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, logits_RBLK: Tensor, kl_RBL: Tensor) -> None:
        # Sums are taken on the device and added up in float64 on the host: MPS has no float64.
        pi = softmax(logits_RBLK)
        entropy_RBL = -(pi * log_softmax(logits_RBLK)).sum(-1)
        batch = {"p": pi.sum(1), "p2": pi.square().sum(1), "kl": kl_RBL.sum(1), "entropy": entropy_RBL.sum(1)}
        for name, value in batch.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.cpu().double()
        self.n += logits_RBLK.shape[1]

    def results(self) -> list[CodeUsage]:
        """One per model."""
        parts = zip(*(self.sums[name] / self.n for name in ("p", "p2", "kl", "entropy")), strict=True)
        return [self._result(*part) for part in parts]

    def _result(self, usage_LK: Tensor, square_LK: Tensor, kl_L: Tensor, entropy_L: Tensor) -> CodeUsage:
        variance_LK = square_LK - usage_LK.square()
        perplexity_L = torch.special.entr(usage_LK).sum(-1).exp()
        return CodeUsage(
            usage_LK=usage_LK,
            kl_L=kl_L,
            entropy_L=entropy_L,
            perplexity=perplexity_L.mean().item(),
            active=int((variance_LK.amax(-1) > ACTIVE_VARIANCE).sum()),
            dead=int((usage_LK < DEAD_SHARE / usage_LK.shape[-1]).sum()),
        )
