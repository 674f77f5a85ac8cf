"""Gradient estimators: one file each, all behind :class:`Sampler`."""

from gsvae.sampling.base import Estimate, LogLikelihood, Sampler
from gsvae.sampling.hard import Hard
from gsvae.sampling.reinmax import ReinMax
from gsvae.sampling.rloo import RLOO
from gsvae.sampling.soft import Soft
from gsvae.sampling.straight_through import StraightThrough

__all__ = ["RLOO", "Estimate", "Hard", "LogLikelihood", "ReinMax", "Sampler", "Soft", "StraightThrough"]
