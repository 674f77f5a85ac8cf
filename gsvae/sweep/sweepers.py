"""What gsvae's Hydra sweepers do with a command line."""

import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from gsvae.overrides import key_of
from gsvae.studies import Study, read_study
from gsvae.sweep.driver import Driver
from gsvae.sweep.grid import only, points

__all__ = ["asked_for", "grid", "study_of"]


def grid(sweeper: Any, arguments: Sequence[str]) -> None:
    """Run every point of the grid that a command line spans."""
    loader, settings = sweeper.hydra_context.config_loader, sweeper.config.sweep
    study = study_of(sweeper)
    spanned = points(asked_for(sweeper, arguments, study), list(settings.zip), loader, study.rows)
    wanted = OmegaConf.to_object(settings.only) if OmegaConf.is_config(settings.only) else settings.only
    spanned = only(spanned, wanted)
    driver = Driver(sweeper.hydra_context, sweeper.task_function, sweeper.config)
    jobs = driver.plan(spanned)
    driver.open()
    if len(jobs) < len(spanned):
        driver.words.say(f"{len(spanned) - len(jobs)} of {len(spanned)} combinations repeat others: each is run once")
    with driver.signals:
        driver.run(jobs)
    sys.exit(driver.end())


def study_of(sweeper: Any) -> Study:
    """The study that is asked for; an empty one if none is."""
    name = sweeper.config.sweep.study
    return read_study(name) if name else Study({})


def asked_for(sweeper: Any, arguments: Sequence[str], study: Study) -> list[str]:
    """The study's settings, the sweeper's own and the command line's, of which the later count."""
    given = [f"{key}={text}" for key, text in [*study.settings.items(), *sweeper.params.items()]]
    typed = {key_of(argument): argument for argument in arguments if not key_of(argument).startswith("sweep.")}
    # what is typed takes the place of what it replaces: of a study's seeds, the first comes first for all
    kept = [typed.pop(key_of(override), override) for override in given]
    return [*kept, *typed.values()]
