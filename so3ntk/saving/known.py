"""Classes of so3ntk that files name and whose constructors do not simply take their fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from so3ntk.engine.layers.base import Layer
from so3ntk.engine.network import Network, serial
from so3ntk.engine.quadrature import Quadrature
from so3ntk.learning import solvers
from so3ntk.learning.feature_ridge import Posterior
from so3ntk.learning.inducing.dense import DensePosterior
from so3ntk.learning.inducing.tensors import BlockPosterior
from so3ntk.learning.inducing.whitening import Whitening
from so3ntk.learning.ridge import Spectrum
from so3ntk.molecules.baseline import CompositionBaseline
from so3ntk.molecules.environments import Environments
from so3ntk.molecules.radial import Shells
from so3ntk.molecules.settings import EnvironmentSettings
from so3ntk.saving.registry import register
from so3ntk.sphere.haar import ExplicitGrid, ProductGrid
from so3ntk.sphere.positions import SphereGrid
from so3ntk.sphere.quadrature import AdaptiveGrid, LocalGrid
from so3ntk.sphere.signals import SphereSignal


def _network(layers: Sequence[Layer], quadrature: Quadrature | None, rtol: float) -> Network:
    return serial(*layers, quadrature=quadrature, rtol=rtol)


def _explicit_grid(angles: np.ndarray, weights: np.ndarray | None) -> ExplicitGrid:
    return ExplicitGrid(Rotation.from_euler("ZYZ", angles), weights)


def _as_dict(settings: EnvironmentSettings | None) -> dict[str, Any] | None:
    """Without shells as files were written before there were any."""
    if settings is None:
        return None
    fields = settings._asdict()
    return fields if settings.radial is not None else {name: fields[name] for name in fields if name != "radial"}


def _environments(
    signal: SphereSignal, molecule: np.ndarray, numbers: np.ndarray, settings: dict[str, Any] | None = None
) -> Environments:
    """settings: files that were written before environments knew theirs have none."""
    return Environments(signal, molecule, numbers, None if settings is None else EnvironmentSettings(**settings))


def _baseline(elements: tuple[int, ...], values: np.ndarray) -> CompositionBaseline:
    made = CompositionBaseline()
    made.elements, made.values = elements, values
    return made


for _cls in (SphereSignal, ProductGrid, AdaptiveGrid, LocalGrid, SphereGrid, Spectrum, solvers.Cholesky, solvers.Eigen,
             solvers.BlockedCholesky, solvers.ConjugateGradients, solvers.Nystrom, solvers.JaxMG, Shells, Posterior,
             DensePosterior, Whitening, BlockPosterior):  # fmt: skip
    register(_cls, f"so3ntk.{_cls.__name__}")
register(Network, "so3ntk.Network", build=_network)
register(
    Environments,
    "so3ntk.Environments",
    lambda x: {"signal": x.signal, "molecule": x.molecule, "numbers": x.numbers, "settings": _as_dict(x.settings)},
    _environments,
)
register(
    ExplicitGrid,
    "so3ntk.ExplicitGrid",
    lambda grid: {"angles": grid.representatives, "weights": grid.representative_weights},
    _explicit_grid,
)
register(
    CompositionBaseline,
    "so3ntk.CompositionBaseline",
    lambda baseline: {"elements": baseline.elements, "values": baseline.values},
    _baseline,
)
