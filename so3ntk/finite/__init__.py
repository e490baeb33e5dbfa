"""Finite networks: their empirical kernels and their training."""
