"""Evaluation with true one-hot samples."""

from gsvae.evaluation.codes import CodeUsage
from gsvae.evaluation.diagnosis import COLLAPSE, SATURATION, Finding, diagnose
from gsvae.evaluation.evaluate import Evaluator, Scores
from gsvae.evaluation.models import Alone, Models, Stacked
from gsvae.evaluation.pictures import prior_samples, reconstructions, traversals

__all__ = [
    "COLLAPSE",
    "SATURATION",
    "Alone",
    "CodeUsage",
    "Evaluator",
    "Finding",
    "Models",
    "Scores",
    "Stacked",
    "diagnose",
    "prior_samples",
    "reconstructions",
    "traversals",
]
