"""Molecules: the environments of their atoms as signals on the sphere, and data sets. Files need ase."""

from typing import TYPE_CHECKING

from so3ntk.molecules.atom_sum import AtomSum
from so3ntk.molecules.baseline import CompositionBaseline
from so3ntk.molecules.coefficients import environment_coefficients
from so3ntk.molecules.datasets.data import MoleculeData, read_molecules
from so3ntk.molecules.datasets.forces import ForceData, read_forces
from so3ntk.molecules.datasets.frames import Frames
from so3ntk.molecules.datasets.qm9 import load_qm9
from so3ntk.molecules.datasets.reading import read_frames
from so3ntk.molecules.environments import Environments, environments
from so3ntk.molecules.forces.consistency import check_forces
from so3ntk.molecules.forces.defaults import force_network
from so3ntk.molecules.forces.regressor import EnergyForceRegressor
from so3ntk.molecules.lazy import LazyEnvironments
from so3ntk.molecules.radial import Powers, Shells

if TYPE_CHECKING:
    from so3ntk.molecules.forces.calculator import Calculator

__all__ = [
    "AtomSum",
    "Calculator",
    "CompositionBaseline",
    "EnergyForceRegressor",
    "Environments",
    "ForceData",
    "Frames",
    "LazyEnvironments",
    "MoleculeData",
    "Powers",
    "Shells",
    "check_forces",
    "environment_coefficients",
    "environments",
    "force_network",
    "load_qm9",
    "read_forces",
    "read_frames",
    "read_molecules",
]


def __getattr__(name: str):
    """``Calculator``, which is a class of ase's, when first asked for: nothing else here needs ase at import."""
    if name == "Calculator":
        from so3ntk.molecules.forces.calculator import Calculator

        return Calculator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
