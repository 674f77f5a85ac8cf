"""What gsvae's Hydra sweepers do with a command line."""

import sys
from collections.abc import Sequence
from typing import Any

from gsvae.overrides import key_of
from gsvae.sweep.driver import Driver
from gsvae.sweep.grid import points

__all__ = ["asked_for", "grid"]


def grid(sweeper: Any, arguments: Sequence[str]) -> None:
    """Run every point of the grid that a command line spans."""
    loader = sweeper.hydra_context.config_loader
    spanned = points(asked_for(sweeper, arguments), list(sweeper.config.sweep.zip), loader)
    driver = Driver(sweeper.hydra_context, sweeper.task_function, sweeper.config)
    jobs = driver.plan(spanned)
    driver.open()
    if len(jobs) < len(spanned):
        driver.words.say(f"{len(spanned) - len(jobs)} of {len(spanned)} combinations repeat others: each is run once")
    with driver.signals:
        driver.run(jobs)
    sys.exit(driver.end())


def asked_for(sweeper: Any, arguments: Sequence[str]) -> list[str]:
    """The study's settings, the sweeper's own and the command line's, of which the later count."""
    from_study = study_settings(sweeper.config.sweep.study) if sweeper.config.sweep.study else []
    given = [*from_study, *(f"{key}={text}" for key, text in sweeper.params.items())]
    typed = {key_of(argument) for argument in arguments}
    kept = [override for override in given if key_of(override) not in typed]
    return [*kept, *(a for a in arguments if not key_of(a).startswith("sweep."))]


def study_settings(name: str) -> list[str]:
    """A study's settings with their values, from its file in ``sweeps/``."""
    from gsvae.studies import read_study

    return [f"{key}={text}" for key, text in read_study(name).items()]
