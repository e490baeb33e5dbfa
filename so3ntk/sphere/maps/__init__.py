"""Signals from maps and images as people have them: coefficients out of arrays, on the host in float64."""
