"""The laboratory: bias and variance of gradient estimators at a run's checkpoint (``python -m gsvae.gradients``)."""
