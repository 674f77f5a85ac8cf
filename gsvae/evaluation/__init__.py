"""Evaluation with true one-hot samples."""

from gsvae.evaluation.codes import CodeUsage
from gsvae.evaluation.evaluate import Evaluator, Scores
from gsvae.evaluation.models import Alone, Models, Stacked
from gsvae.evaluation.pictures import prior_samples, reconstructions, traversals

__all__ = [
    "Alone",
    "CodeUsage",
    "Evaluator",
    "Models",
    "Scores",
    "Stacked",
    "prior_samples",
    "reconstructions",
    "traversals",
]
