"""A sampler that does something at one of its calls; tests copy it beside the runs they start."""

import os
import signal
import time
from pathlib import Path

import torch

from gsvae.sampling import Soft
from gsvae.sampling.base import Estimate

CHOOSE = ["sampling=custom", "sampling._target_=faulty.Faulty", "allow_targets=[faulty]"]


class Faulty(Soft):
    """``does``: nothing, raise, kill (its process), diverge or slow; not any more once there is a file ``mended``."""

    def __init__(self, does: str = "nothing", at: int = 20) -> None:
        super().__init__()
        self.does, self.at, self.calls = does, at, 0

    def forward(self, logits_BLK, tau, noise, log_likelihood) -> Estimate:
        self.calls += 1
        estimate = super().forward(logits_BLK, tau, noise, log_likelihood)
        if Path("mended").exists():
            return estimate
        if self.does == "slow":
            time.sleep(0.02)
        if self.calls == self.at:
            if self.does == "raise":
                raise RuntimeError("broken on purpose")
            if self.does == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.does == "diverge":
                return Estimate(estimate.surrogate_B * torch.nan, estimate.reconstruction_B * torch.nan)
        return estimate


class OneFails(Faulty):
    """Raises in the runs of a pack whose temperature is high, and not any more once there is a file ``mended``."""

    def forward(self, logits_BLK, tau, noise, log_likelihood) -> Estimate:
        self.calls += 1
        if self.calls == self.at and float(tau) > 1.5 and not Path("mended").exists():
            raise RuntimeError("broken on purpose")
        return Soft.forward(self, logits_BLK, tau, noise, log_likelihood)
