"""What a model does with its codes: perplexity, dead codes, active latents, KL of each latent."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gsvae.categories import softmax

__all__ = ["CodeUsage", "UsageCounter"]

ACTIVE_VARIANCE = 0.01  # of π over the images (active units, arXiv 1509.00519, on probabilities)
DEAD_SHARE = 0.01  # of the uniform share 1/K


@dataclass(frozen=True)
class CodeUsage:
    """Code usage over a set of images.

    Attributes:
        usage_LK: mean over images of q(z|x), the share of each code.
        kl_L: mean KL of each latent, nats per image.
        perplexity: exp H(usage) averaged over latents, from 1 (one code) to K (all codes alike).
        active: latents in which some code's probability varies over images by more than 0.01.
        dead: codes, of the L·K, whose share is below a hundredth of uniform.
    """

    usage_LK: Tensor
    kl_L: Tensor
    perplexity: float
    active: int
    dead: int


@dataclass
class UsageCounter:
    """Gathers code usage batch by batch, in float64."""

    n: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, logits_BLK: Tensor, kl_BL: Tensor) -> None:
        # Sums are taken on the device and added up in float64 on the host: MPS has no float64.
        pi = softmax(logits_BLK)
        batch = {"p": pi.sum(0), "p2": pi.square().sum(0), "kl": kl_BL.sum(0)}
        for name, value in batch.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.cpu().double()
        self.n += len(logits_BLK)

    def result(self) -> CodeUsage:
        usage_LK = self.sums["p"] / self.n
        variance_LK = self.sums["p2"] / self.n - usage_LK.square()
        perplexity_L = torch.special.entr(usage_LK).sum(-1).exp()
        return CodeUsage(
            usage_LK=usage_LK,
            kl_L=self.sums["kl"] / self.n,
            perplexity=perplexity_L.mean().item(),
            active=int((variance_LK.amax(-1) > ACTIVE_VARIANCE).sum()),
            dead=int((usage_LK < DEAD_SHARE / usage_LK.shape[-1]).sum()),
        )
