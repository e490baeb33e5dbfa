"""Learning with kernels: regression, classification, solvers, training for a time, hyperparameters."""
