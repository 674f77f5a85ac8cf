"""Experiments and sweeps for variational autoencoders with categorical latents."""

__version__ = "0.1.0"
