"""Layers of signals on the sphere: lifting, convolution, irreps, flattening; one per file."""
