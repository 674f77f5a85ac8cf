"""Evaluation with true one-hot samples."""

from gsvae.evaluation.codes import CodeUsage
from gsvae.evaluation.evaluate import Evaluator, Scores
from gsvae.evaluation.pictures import prior_samples, reconstructions, traversals

__all__ = ["CodeUsage", "Evaluator", "Scores", "prior_samples", "reconstructions", "traversals"]
