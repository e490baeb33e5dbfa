"""Bridges to other libraries, each imported only on request: ``import so3ntk.interop.neural_tangents``."""
