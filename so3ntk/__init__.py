"""Exact infinite-width kernels (NNGP and NTK) of networks equivariant under SO(3).

What the kernels themselves need is imported at once; estimators, which bring scikit-learn, and sub-packages when they are
first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from so3ntk.basics.namesake import warn_of_namesake
from so3ntk.basics.version import __version__ as __version__
from so3ntk.engine.activations import (
    Abs,
    Activation,
    Cos,
    Elementwise,
    Erf,
    Exp,
    Gelu,
    Hermite,
    LayerNorm,
    LeakyRelu,
    Monomial,
    Polynomial,
    Products,
    Rbf,
    Relu,
    SigmoidLike,
    Sign,
    Sin,
)
from so3ntk.engine.fields import Fields
from so3ntk.engine.layers import Dense, FanInSum, FanOut, GroupPool, Identity, Layer, parallel
from so3ntk.engine.network import Kernels, Network, serial
from so3ntk.errors import (
    DamagedTileError,
    NotPositiveDefiniteError,
    PrecisionError,
    RidgePathWarning,
    StoreMismatchError,
)
from so3ntk.learning.augmentation import augment_dataset, augmented
from so3ntk.matrices.diagonal import kernel_diagonal
from so3ntk.matrices.estimate import Estimate, estimate
from so3ntk.matrices.gram import gram
from so3ntk.matrices.stored import StoredGram, open_gram
from so3ntk.sphere.calibration import QuadratureWarning
from so3ntk.sphere.haar import ExplicitGrid, ProductGrid, RotationGrid
from so3ntk.sphere.layers.flatten import Flatten
from so3ntk.sphere.layers.group_conv import GroupConv
from so3ntk.sphere.layers.irrep_pool import IrrepPool
from so3ntk.sphere.layers.lift import Lift
from so3ntk.sphere.map_fit import MapFit, fit_map
from so3ntk.sphere.positions import SphereGrid
from so3ntk.sphere.quadrature import AdaptiveGrid, LocalGrid
from so3ntk.sphere.rotations import random_rotations
from so3ntk.sphere.signals import SphereSignal, concatenate, rotate

if TYPE_CHECKING:
    from so3ntk import interop, molecules, plots, saving, spectra
    from so3ntk.finite import empirical, training
    from so3ntk.learning import hyperparameters, predict, solvers
    from so3ntk.learning.classifier import KernelClassifier
    from so3ntk.learning.distillation import distill
    from so3ntk.learning.hyperparameters import fit_hyperparameters
    from so3ntk.learning.inducing.classifier import InducingClassifier
    from so3ntk.learning.inducing.regressor import InducingRegressor
    from so3ntk.learning.regressor import KernelRegressor
    from so3ntk.learning.solvers import solve
    from so3ntk.learning.tensors import TensorKernelRegressor, irrep_grams
    from so3ntk.saving import load, save

#: What is imported when it is first asked for: sub-packages and modules, and names with the module that holds them.
_MODULES = {
    "empirical": "finite.empirical",
    "hyperparameters": "learning.hyperparameters",
    "interop": "interop",
    "molecules": "molecules",
    "plots": "plots",
    "predict": "learning.predict",
    "saving": "saving",
    "solvers": "learning.solvers",
    "spectra": "spectra",
    "testing": "testing",
    "training": "finite.training",
}
_LATER = {
    "InducingClassifier": "learning.inducing.classifier",
    "InducingRegressor": "learning.inducing.regressor",
    "KernelClassifier": "learning.classifier",
    "KernelRegressor": "learning.regressor",
    "TensorKernelRegressor": "learning.tensors",
    "distill": "learning.distillation",
    "fit_hyperparameters": "learning.hyperparameters",
    "irrep_grams": "learning.tensors",
    "load": "saving",
    "save": "saving",
    "solve": "learning.solvers",
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
    "Exp",
    "ExplicitGrid",
    "FanInSum",
    "FanOut",
    "Fields",
    "Flatten",
    "Gelu",
    "GroupConv",
    "GroupPool",
    "Hermite",
    "Identity",
    "InducingClassifier",
    "InducingRegressor",
    "IrrepPool",
    "KernelClassifier",
    "KernelRegressor",
    "Kernels",
    "Layer",
    "LayerNorm",
    "LeakyRelu",
    "Lift",
    "LocalGrid",
    "MapFit",
    "Monomial",
    "Network",
    "NotPositiveDefiniteError",
    "Polynomial",
    "PrecisionError",
    "ProductGrid",
    "Products",
    "QuadratureWarning",
    "Rbf",
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
    "distill",
    "empirical",
    "estimate",
    "fit_hyperparameters",
    "fit_map",
    "gram",
    "hyperparameters",
    "interop",
    "irrep_grams",
    "kernel_diagonal",
    "load",
    "molecules",
    "open_gram",
    "parallel",
    "plots",
    "predict",
    "random_rotations",
    "rotate",
    "save",
    "saving",
    "serial",
    "solve",
    "solvers",
    "spectra",
    "training",
]


warn_of_namesake()


def __getattr__(name: str) -> Any:
    """Names of ``_LATER`` and ``_MODULES``, which are imported now."""
    if name in _MODULES:
        value = importlib.import_module(f"so3ntk.{_MODULES[name]}")
    elif name in _LATER:
        value = getattr(importlib.import_module(f"so3ntk.{_LATER[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
