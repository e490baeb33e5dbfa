"""Exact infinite-width kernels (NNGP and NTK) of networks equivariant under SO(3).

What the kernels themselves need is imported at once; estimators, which bring scikit-learn, and sub-packages when they are
first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from so3ntk.activations import (
    Abs,
    Activation,
    Cos,
    Elementwise,
    Erf,
    Gelu,
    LeakyRelu,
    Monomial,
    Relu,
    SigmoidLike,
    Sign,
    Sin,
)
from so3ntk.augmentation import augment_dataset, augmented
from so3ntk.calibration import QuadratureWarning
from so3ntk.diagonal import kernel_diagonal
from so3ntk.errors import (
    DamagedTileError,
    NotPositiveDefiniteError,
    PrecisionError,
    RidgePathWarning,
    StoreMismatchError,
)
from so3ntk.estimate import Estimate, estimate
from so3ntk.fields import Fields
from so3ntk.gram import gram
from so3ntk.haar import ExplicitGrid, ProductGrid, RotationGrid
from so3ntk.layers import (
    Dense,
    FanInSum,
    FanOut,
    Flatten,
    GroupConv,
    GroupPool,
    Identity,
    IrrepPool,
    Layer,
    Lift,
    parallel,
)
from so3ntk.network import Kernels, Network, serial
from so3ntk.positions import SphereGrid
from so3ntk.quadrature import AdaptiveGrid, LocalGrid
from so3ntk.rotations import random_rotations
from so3ntk.sphere import SphereSignal, concatenate, rotate
from so3ntk.stored import StoredGram, open_gram

if TYPE_CHECKING:
    from so3ntk import empirical, hyperparameters, interop, molecules, predict, saving, solvers, training
    from so3ntk.classifier import KernelClassifier
    from so3ntk.estimators import KernelRegressor
    from so3ntk.hyperparameters import fit_hyperparameters
    from so3ntk.saving import load, save
    from so3ntk.solvers import solve
    from so3ntk.tensors import TensorKernelRegressor, irrep_grams

__version__ = "0.1.0"

#: What is imported when it is first asked for: sub-packages, and names with the module that holds them.
_PACKAGES = ("empirical", "hyperparameters", "interop", "molecules", "predict", "saving", "solvers", "training")
_LATER = {
    "KernelClassifier": "classifier",
    "KernelRegressor": "estimators",
    "TensorKernelRegressor": "tensors",
    "fit_hyperparameters": "hyperparameters",
    "irrep_grams": "tensors",
    "load": "saving",
    "save": "saving",
    "solve": "solvers",
}

__all__ = [
    "Abs",
    "Activation",
    "AdaptiveGrid",
    "Cos",
    "DamagedTileError",
    "Dense",
    "Elementwise",
    "Erf",
    "Estimate",
    "ExplicitGrid",
    "FanInSum",
    "FanOut",
    "Fields",
    "Flatten",
    "Gelu",
    "GroupConv",
    "GroupPool",
    "Identity",
    "IrrepPool",
    "KernelClassifier",
    "KernelRegressor",
    "Kernels",
    "Layer",
    "LeakyRelu",
    "Lift",
    "LocalGrid",
    "Monomial",
    "Network",
    "NotPositiveDefiniteError",
    "PrecisionError",
    "ProductGrid",
    "QuadratureWarning",
    "Relu",
    "RidgePathWarning",
    "RotationGrid",
    "SigmoidLike",
    "Sign",
    "Sin",
    "SphereGrid",
    "SphereSignal",
    "StoreMismatchError",
    "StoredGram",
    "TensorKernelRegressor",
    "augment_dataset",
    "augmented",
    "concatenate",
    "empirical",
    "estimate",
    "fit_hyperparameters",
    "gram",
    "hyperparameters",
    "interop",
    "irrep_grams",
    "kernel_diagonal",
    "load",
    "molecules",
    "open_gram",
    "parallel",
    "predict",
    "random_rotations",
    "rotate",
    "save",
    "saving",
    "serial",
    "solve",
    "solvers",
    "training",
]


def __getattr__(name: str) -> Any:
    """Names of ``_LATER`` and ``_PACKAGES``, which are imported now."""
    if name in _PACKAGES:
        return importlib.import_module(f"so3ntk.{name}")
    if name in _LATER:
        value = globals()[name] = getattr(importlib.import_module(f"so3ntk.{_LATER[name]}"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
