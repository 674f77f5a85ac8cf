"""Bias and variance of gradient estimators: the laboratory, and the same numbers during training.

``problem``, ``moments``, ``reference``, ``measure`` and ``probe`` are pure mathematics, which training imports; the
others put them to a run folder, and import the rest of the project.
"""
