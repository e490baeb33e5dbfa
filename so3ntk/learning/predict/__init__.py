"""Predictions of infinitely wide networks: gradient flow at any time, ensembles, Gaussian-process posteriors."""

from so3ntk.learning.predict.ensembles import Gaussian, ensemble, gp_posterior
from so3ntk.learning.predict.flow import gradient_flow
from so3ntk.learning.predict.training import ModeLosses, loss_curve, loss_per_mode, max_learning_rate

__all__ = [
    "Gaussian",
    "ModeLosses",
    "ensemble",
    "gp_posterior",
    "gradient_flow",
    "loss_curve",
    "loss_per_mode",
    "max_learning_rate",
]
