"""Functions on SO(3) between Wigner coefficients and values on a grid of rotations: which way, by measurement."""
