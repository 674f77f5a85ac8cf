"""Events of a run: the run folder first, W&B second."""

from gsvae.tracking.run_folder import RunFolder, read_status
from gsvae.tracking.tracker import Tracker
from gsvae.tracking.wandb_sink import WandbSettings

__all__ = ["RunFolder", "Tracker", "WandbSettings", "read_status"]
