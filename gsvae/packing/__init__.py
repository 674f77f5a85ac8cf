"""A sweep's jobs trained as few computations: which of them fit together, and a Hydra launcher for that."""
