"""SO(3) and O(3) acting on signals on the sphere: samples, rotations, quadratures, geometries, layers."""
