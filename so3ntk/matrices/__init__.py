"""Matrices of kernels: computed by tiles, stored, shared among workers; their cost and their diagonal."""
