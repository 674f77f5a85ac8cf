"""Bias and variance of gradient estimators: the mathematics, for training and for the laboratory."""
