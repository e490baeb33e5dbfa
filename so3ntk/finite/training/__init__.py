"""Training of finite networks: ensembles that follow ``so3ntk.predict`` as their width grows. Needs optax."""

from so3ntk.finite.training.trainer import Trained, train

__all__ = ["Trained", "train"]
