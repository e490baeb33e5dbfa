"""Exact infinite-width kernels (NNGP and NTK) of networks equivariant under SO(3)."""

from so3ntk import empirical, hyperparameters, predict, saving, solvers
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
from so3ntk.classifier import KernelClassifier
from so3ntk.diagonal import kernel_diagonal
from so3ntk.errors import (
    DamagedTileError,
    NotPositiveDefiniteError,
    PrecisionError,
    RidgePathWarning,
    StoreMismatchError,
)
from so3ntk.estimate import Estimate, estimate
from so3ntk.estimators import KernelRegressor
from so3ntk.fields import Fields
from so3ntk.gram import gram
from so3ntk.haar import ExplicitGrid, ProductGrid, RotationGrid
from so3ntk.hyperparameters import fit_hyperparameters
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
from so3ntk.saving import load, save
from so3ntk.solvers import solve
from so3ntk.sphere import SphereSignal, concatenate, rotate
from so3ntk.stored import StoredGram, open_gram
from so3ntk.tensors import TensorKernelRegressor, irrep_grams

__version__ = "0.1.0"
