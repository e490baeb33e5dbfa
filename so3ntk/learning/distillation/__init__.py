"""Distillation: few inputs on which kernel ridge regression is nearly as good as on all of a data set. Needs optax."""

from so3ntk.learning.distillation.run import distill
from so3ntk.learning.distillation.support import Distilled

__all__ = ["Distilled", "distill"]
