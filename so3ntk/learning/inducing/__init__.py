"""Regression and classification with inducing inputs: for more inputs than a Gram matrix can be computed of."""
