"""Forces: covariances of energies and forces, their regressor, checks, and a calculator for ASE."""
