"""Sweeps: jobs planned, run by any Hydra launcher, gone on with, and told of."""
