"""The one entry point: ``python run.py [group=option ...] [key=value ...]``; ``--help`` explains."""

import hydra
from omegaconf import DictConfig

from gsvae.cli import main, task


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def run(cfg: DictConfig) -> float | None:
    return task(cfg)


if __name__ == "__main__":
    main(run)
