"""Molecules: the environments of their atoms as signals on the sphere, and data sets. Files need ase."""

from so3ntk.molecules.atom_sum import AtomSum
from so3ntk.molecules.baseline import CompositionBaseline
from so3ntk.molecules.coefficients import environment_coefficients
from so3ntk.molecules.data import MoleculeData, read_molecules
from so3ntk.molecules.environments import Environments, environments
from so3ntk.molecules.qm9 import load_qm9

__all__ = [
    "AtomSum",
    "CompositionBaseline",
    "Environments",
    "MoleculeData",
    "environment_coefficients",
    "environments",
    "load_qm9",
    "read_molecules",
]
