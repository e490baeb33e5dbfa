"""Classes of so3ntk that files name and whose constructors do not simply take their fields."""

from __future__ import annotations

from typing import Any

from scipy.spatial.transform import Rotation

from so3ntk.engine.network import Network, serial
from so3ntk.learning import solvers
from so3ntk.learning.ridge import Spectrum
from so3ntk.molecules.baseline import CompositionBaseline
from so3ntk.molecules.environments import Environments
from so3ntk.molecules.settings import EnvironmentSettings
from so3ntk.saving.registry import register
from so3ntk.sphere.haar import ExplicitGrid, ProductGrid
from so3ntk.sphere.positions import SphereGrid
from so3ntk.sphere.quadrature import AdaptiveGrid, LocalGrid
from so3ntk.sphere.signals import SphereSignal


def _network(layers: Any, quadrature: Any, rtol: Any) -> Network:
    return serial(*layers, quadrature=quadrature, rtol=rtol)


def _explicit_grid(angles: Any, weights: Any) -> ExplicitGrid:
    return ExplicitGrid(Rotation.from_euler("ZYZ", angles), weights)


def _as_dict(settings: EnvironmentSettings | None) -> dict[str, Any] | None:
    return None if settings is None else settings._asdict()


def _environments(signal: Any, molecule: Any, numbers: Any, settings: Any = None) -> Environments:
    """settings: files that were written before environments knew theirs have none."""
    return Environments(signal, molecule, numbers, None if settings is None else EnvironmentSettings(**settings))


def _baseline(elements: Any, values: Any) -> CompositionBaseline:
    made = CompositionBaseline()
    made.elements, made.values = elements, values
    return made


for _cls in (SphereSignal, ProductGrid, AdaptiveGrid, LocalGrid, SphereGrid, Spectrum, solvers.Cholesky, solvers.Eigen,
             solvers.BlockedCholesky, solvers.ConjugateGradients, solvers.Nystrom, solvers.JaxMG):  # fmt: skip
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
