r"""Energies and forces of molecules from one Gaussian process: a potential energy surface with its gradient.

Energies are E = baseline + f, f a Gaussian process of covariance s^2 k(M, M'), and forces F = -dE/dR follow the
covariances of ``force_kernels``. With y the energies less the baseline, then the forces, of the training molecules,

.. math:: \alpha = (K + \Lambda)^{-1} y, \qquad \Lambda = \mathrm{diag}(\lambda_E, \dots, \lambda_F, \dots),

predictions are K_* alpha: the forces of a fit to energies alone are the derivative of its energies.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from so3ntk.basics.arguments import check_flag, is_number
from so3ntk.basics.arrays import ArrayLike
from so3ntk.basics.caller import warn
from so3ntk.basics.double import double_precision
from so3ntk.engine.activations import Erf, Products, Sign
from so3ntk.engine.layers import Dense, GroupPool
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.network import Network, check_kernel_name, serial
from so3ntk.engine.plan import make_plan, parts_of, split_at_reduction
from so3ntk.learning.ridge import warn_if_flat
from so3ntk.molecules.atom_sum import AtomSum
from so3ntk.molecules.baseline import CompositionBaseline
from so3ntk.molecules.datasets.targets import check_energies, check_molecules, join_forces
from so3ntk.molecules.elements import SYMBOLS
from so3ntk.molecules.environments import environments
from so3ntk.molecules.forces.consistency import check_distances
from so3ntk.molecules.forces.consistency import check_forces as check_consistency
from so3ntk.molecules.forces.displacements import Moving, moving_environments
from so3ntk.molecules.forces.kernels import Side, energy_force_gram
from so3ntk.molecules.forces.moments import Potential, weights_of
from so3ntk.molecules.forces.noise import (
    Targets,
    choose_noises,
    composition_basis,
    factorise,
    relative_candidates,
    solve,
)
from so3ntk.molecules.radial import Shells
from so3ntk.sphere.haar import ProductGrid
from so3ntk.sphere.layers.lift import Lift

if TYPE_CHECKING:
    from ase import Atoms

#: Molecules of one block of predictions.
BLOCK = 16
#: The name by which ``force_data`` has it.
check_forces = join_forces


class Prediction(NamedTuple):
    """Energies (n,), forces, a list of (atoms, 3) arrays, and standard deviations of both, or None."""

    energies: Float[np.ndarray, " n"]
    forces: list[Float[np.ndarray, "atoms 3"]]
    energy_std: Float[np.ndarray, " n"] | None = None
    force_std: list[Float[np.ndarray, "atoms 3"]] | None = None


#: The environments for forces: ``environments(atoms, **FORCE_ENVIRONMENTS)``.
#: Chosen by the forces of training molecules that are left out (benchmarks/RESULTS.md); the scale makes the median variance of
#: QM9's atoms one.
FORCE_ENVIRONMENTS: dict[str, Any] = {"radial": Shells(width=0.1, growth=0.3, decay=2.0, scale=6.1), "bandlimit": 4}


class EnergyForceRegressor(BaseEstimator):
    r"""Gaussian-process regression of molecular energies and forces with the kernel of a network.

    net: a network that ends with ``AtomSum``; None is ``force_network()``. kernel: "ntk" or "nngp".
    environment: the settings of ``environments``; None is ``FORCE_ENVIRONMENTS``, with the elements of the training molecules as species.
    energy_noise, force_noise: variances :math:`\lambda_E, \lambda_F` in units of the kernel (of its second derivative,
    per square Angstrom). What is None is chosen from 10^-10 to 1 times the mean of K's diagonal by the errors of the first
    ``selection`` training molecules, each left out with its forces, and doubled, with a warning, until the covariance of all
    is positive definite. baseline: True for an energy of each element, without a penalty and in the same fit; other references are
    subtracted before. progress: a bar for each matrix, in a log a line a minute.

    Energies are in any unit, positions in Angstrom, forces in that unit per Angstrom. Kernels and solves are in float64
    whatever JAX is set to. Memory: two matrices of 8 N^2 bytes while fitting, one after, N = molecules + 3 atoms where
    forces are fitted; further that of ``moving_environments`` and ``energy_force_gram``.

    After ``fit``: ``energy_noise_``, ``force_noise_`` (None without forces), ``amplitude_`` s, ``baseline_``,
    ``dual_coef_``, ``factor_`` (Cholesky, lower), ``atoms_`` and ``moving_`` (the training molecules), ``species_``, and ``weights_``,
    the potential as weights of features where kernels are inner products of some, else None: then a prediction does not depend on how many training molecules there are.
    """

    def __init__(
        self,
        net: Network | None = None,
        kernel: str = "ntk",
        environment: Mapping[str, Any] | None = None,
        energy_noise: float | None = None,
        force_noise: float | None = None,
        selection: int = 60,
        baseline: bool = True,
        progress: bool = False,
    ):
        self.net = net
        self.kernel = kernel
        self.environment = environment
        self.energy_noise = energy_noise
        self.force_noise = force_noise
        self.selection = selection
        self.baseline = baseline
        self.progress = progress

    def fit(
        self, atoms: Sequence[Atoms], energies: ArrayLike, forces: np.ndarray | Sequence | None = None
    ) -> EnergyForceRegressor:
        """Fit to molecules, energies (n,) and forces, a list of (atoms, 3) or all in one array; None: energies alone.

        Raises ValueError and TypeError for wrong molecules, shapes, values, networks and noises,
        NotPositiveDefiniteError if the covariance with its noise is not. Warns for the NTK of activations with a kink, and
        for signs and units that do not go together (``so3ntk.molecules.check_forces``).
        """
        where = type(self).__name__
        atoms = check_molecules(atoms, where)
        self._check_parameters(forces is not None)
        energies = check_energies(energies, len(atoms), where)
        forces = None if forces is None else join_forces(forces, atoms, where)
        if forces is None:
            check_distances(atoms, where)
        else:
            check_consistency(atoms, energies, forces, where)
        self.baseline_ = CompositionBaseline().fit(atoms, energies) if self.baseline else None
        residual = energies - (self.baseline_.predict(atoms) if self.baseline_ else 0.0)
        y = residual if forces is None else np.concatenate([residual, forces.ravel()])
        self.atoms_ = [molecule.copy() for molecule in atoms]  # as they are now, whatever becomes of them
        self.species_ = elements_of(atoms)
        self.moving_ = moving_environments(atoms, self.settings)
        self.with_forces_ = forces is not None
        gram = self._gram(Side(self.moving_, self.with_forces_), None)
        targets = Targets(
            y, self.moving_.sizes, composition_basis(atoms) if self.baseline else np.zeros((len(atoms), 0))
        )
        chosen = self._noises(gram, targets)
        given = (self.energy_noise, self.force_noise)
        self.factor_, noises = factorise(gram, len(atoms), chosen, [g is None for g in given], where)
        if noises != chosen:
            warn(
                f"{where}: with the noises {chosen}, chosen on the first {self.selection} molecules, the covariance of all "
                f"{len(atoms)} is not positive definite (errors of the rotation grid add up), so they were raised to "
                f"{noises}. A finer grid avoids it, as quadrature=ProductGrid(24) of the network, or a larger selection."
            )
        self.energy_noise_, self.force_noise_ = noises[0], noises[1] if self.with_forces_ else None
        self.dual_coef_, composition, self.amplitude_ = solve(self.factor_, targets)
        if self.baseline_:
            self.baseline_.add(atoms, targets.basis @ composition)
        self.weights_ = self.weights()
        return self

    def predict(self, atoms: Sequence[Atoms], return_std: bool = False) -> Prediction:
        r"""Energies and forces of molecules; with ``return_std`` also the posterior's standard deviations.

        .. math:: s\,\bigl(K_{**} - K_* (K + \Lambda)^{-1} K_*^T\bigr)^{1/2}, \qquad s^2 = y^T \alpha / \nu,

        those of the energy surface, without noise and without the baseline's own; nu is N less the number of independent elements
        with a baseline: NaN where that fits all energies. Without deviations a molecule costs a fraction: one direction of each
        training molecule then stands for all of its coordinates.
        Raises NotFittedError before ``fit``, ValueError for wrong molecules and elements that no training molecule had.
        """
        check_is_fitted(self)
        where = f"{type(self).__name__}.predict"
        atoms = check_molecules(atoms, where)
        self._check_elements(atoms, where)
        if return_std:
            warn_if_flat(np.atleast_1d(self.amplitude_), where)
        if return_std and not hasattr(self, "factor_"):
            raise ValueError(
                f"{where}: return_std needs the Cholesky factor of the covariance, which was left out of the saved file. Save "
                "the fitted model with spectrum=True."
            )
        means, deviations = [], []
        for start in range(0, len(atoms), BLOCK):
            moving = moving_environments(atoms[start : start + BLOCK], self.settings)
            if return_std:
                cross = self._cross(moving)
                means.append((moving, cross @ self.dual_coef_))
                deviations.append((moving, self._deviations(atoms[start : start + BLOCK], cross)))
            else:
                means.append((moving, self._means(moving)))
        energies, forces = _split(means)
        if self.baseline_:
            energies = energies + self.baseline_.predict(atoms)
        return Prediction(energies, forces, *(_split(deviations) if return_std else (None, None)))

    @property
    def network_(self) -> Network:
        """The network given, or ``force_network()``."""
        return force_network() if self.net is None else self.net

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the environments: given, or ``FORCE_ENVIRONMENTS`` with the elements of the training molecules."""
        if self.environment is not None:
            return self.environment
        return {**FORCE_ENVIRONMENTS, "species": self.species_}

    def cross_kernel(self, atoms: Sequence[Atoms]) -> Float[np.ndarray, "rows N"]:
        """K_*: the covariances of molecules' energies, then forces, with what was fitted."""
        check_is_fitted(self)
        return self._cross(
            moving_environments(check_molecules(atoms, f"{type(self).__name__}.cross_kernel"), self.settings)
        )

    def _cross(self, moving: Moving) -> np.ndarray:
        return self._gram(Side(moving), Side(self.moving_, self.with_forces_))

    def _gram(self, x1: Side, x2: Side | None) -> np.ndarray:
        return energy_force_gram(self.network_, x1, x2, self.kernel, progress=self.progress)

    def weights(self) -> Potential | None:
        """The potential as one vector for each kind of atoms, where kernels are inner products of features; else None."""
        with double_precision():
            plan = make_plan(
                self.network_.layers, self.network_.quadrature, self.network_.rtol, self.moving_.environments, None
            )
        if plan.features is None:
            return None
        return Potential(
            plan.features, weights_of(plan.features, self.kernel, self.moving_, plan.rows.kind, self.dual_coef_)
        )

    def _means(self, moving: Moving) -> np.ndarray:
        """K_* alpha. The forces' part is one force along alpha for each training molecule."""
        if self.weights_ is not None:
            kind = parts_of(split_at_reduction(self.network_.layers)[1], moving.environments).kind
            return self.weights_(moving, np.asarray(kind))
        n = len(self.moving_.environments)
        alpha = self.dual_coef_[:n]
        if not self.with_forces_:
            return self._gram(Side(moving), Side(self.moving_, forces=False)) @ alpha
        cross = self._gram(Side(moving), Side(self.moving_, velocities=self.dual_coef_[n:].reshape(-1, 3)))
        return cross[:, :n] @ alpha + cross[:, n:].sum(axis=1)

    def _deviations(self, atoms: Sequence[Atoms], cross: np.ndarray) -> np.ndarray:
        white = scipy.linalg.solve_triangular(self.factor_, cross.T, lower=True)
        own = [np.diag(self._gram(Side(moving_environments([molecule], self.settings)), None)) for molecule in atoms]
        prior = np.concatenate([[d[0] for d in own], *(d[1:] for d in own)])
        return self.amplitude_ * np.sqrt(np.maximum(prior - np.einsum("ij,ij->j", white, white), 0))

    def _noises(self, gram: np.ndarray, targets: Targets) -> tuple[float, ...]:
        """The noises given, and those chosen on the first molecules."""
        part, rows = targets.first(min(len(targets.sizes), self.selection))
        gram = gram[np.ix_(rows, rows)]
        candidates = relative_candidates(gram, len(part.sizes))
        given = (self.energy_noise, self.force_noise)[: len(candidates)]
        if None not in given:
            return tuple(map(float, given))  # pyright: ignore[reportArgumentType]
        candidates = [c if g is None else [float(g)] for c, g in zip(candidates, given, strict=True)]
        return choose_noises(gram, part, candidates)

    def _check_elements(self, atoms: Sequence[Atoms], where: str) -> None:
        for number, molecule in enumerate(atoms):
            if unknown := sorted(set(molecule.numbers.tolist()) - set(self.species_)):
                names, known = (", ".join(SYMBOLS[z] for z in elements) for elements in (unknown, self.species_))
                raise ValueError(
                    f"{where}: molecule {number} holds {names}, which no training molecule did ({known}): its contribution is "
                    "unknown. Put a molecule with it into the training set."
                )

    def _check_parameters(self, with_forces: bool) -> None:
        where = type(self).__name__
        check_force_network(self.network_, self.kernel, where)
        check_environment(self.environment, where)
        check_flag(self.progress, where, "progress")
        if not isinstance(self.baseline, bool | np.bool_):
            raise TypeError(
                f"{where}: expected baseline to be True, to subtract the least-squares fit of composition to these energies, or "
                f"False, got {self.baseline!r}. Energies of atoms, or a fitted CompositionBaseline, are subtracted before: "
                "fit(atoms, energies - baseline.predict(atoms)) with baseline=False."
            )
        if self.force_noise is not None and not with_forces:
            raise ValueError(
                f"{where}: force_noise={self.force_noise!r} is for forces, and fit was given none. Pass forces, or "
                "force_noise=None."
            )
        for name in ("energy_noise", "force_noise"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and 0 <= value < np.inf):
                raise ValueError(f"{where}: expected {name} to be None or a finite variance >= 0, got {value!r}.")
        if isinstance(self.selection, bool) or not isinstance(self.selection, int | np.integer) or self.selection < 1:
            raise ValueError(
                f"{where}: expected selection, a number of molecules, to be at least 1, got {self.selection!r}."
            )


def elements_of(atoms: Sequence[Atoms]) -> tuple[int, ...]:
    """The atomic numbers that occur, ascending."""
    return tuple(np.unique(np.concatenate([molecule.numbers for molecule in atoms])).tolist())


def force_network(activation: Layer | None = None, W_std: float = 1.0, b_std: float = 1.75, **options: Any) -> Network:
    """The default network for energies and forces: Lift, one nonlinearity, GroupPool, Dense, AtomSum by element.

    The nonlinearity is ``Products((0, 0, 1))``, whose kernels are inner products of features: no pair of atoms is formed, and no
    rotation grid is read. The scale of its bias goes with ``FORCE_ENVIRONMENTS``, of median variance one. Others, smooth ones such as
    Erf, take derivatives of pairs on a grid of rotations; these show the grid's error much more than kernels do, so give such a
    network quadrature=ProductGrid(16) or finer, and watch the noise that is chosen. options go to ``serial``.
    """
    activation = Products((0.0, 0.0, 1.0)) if activation is None else activation
    last = (GroupPool(), Dense(), AtomSum(match_species=True))
    return serial(Lift(W_std=W_std, b_std=b_std), activation, *last, **options)


def older_defaults() -> tuple[Network, Mapping[str, Any]]:
    """What net=None and environment=None stood for in files without "species_"."""
    last = (GroupPool(), Dense(), AtomSum(match_species=True))
    net = serial(Lift(W_std=0.05, b_std=1.0), Erf(), *last, quadrature=ProductGrid(16))
    return net, {"powers": (1.0, 2.0, 4.0, 6.0), "bandlimit": 4, "length": 1.6}


def check_force_network(net: object, kernel: str, where: str) -> None:
    """TypeError or ValueError for networks without derivatives; a warning for those whose NTK has too few."""
    if not isinstance(net, Network):
        raise TypeError(f"{where}: expected net to be None or a Network that ends with AtomSum, got {net!r}.")
    check_kernel_name(kernel, where)
    inside = tuple(flatten(net.layers))
    if any(isinstance(layer, Sign) for layer in inside):
        raise ValueError(
            f"{where}: Sign is not continuous, so its kernels have no mixed second derivatives where molecules coincide, "
            "and energies of such networks have no forces. Use a smooth activation such as Erf() or Gelu()."
        )
    rough = sorted({type(layer).__name__ for layer in inside if math.isfinite(layer.smoothness)})
    if rough and kernel == "ntk":
        warn(
            f"{where}: {', '.join(rough)} has a kink, and the NTK of such a network is not twice differentiable where "
            "environments coincide: its force blocks need not converge with the rotation grid. Use Erf() or Gelu(), or "
            'kernel="nngp".'
        )


def check_environment(environment: object, where: str) -> None:
    """TypeError for what is no mapping of arguments of ``environments``; the dtype is not free either."""
    known = [name for name in inspect.signature(environments).parameters if name not in ("atoms", "dtype")]
    if environment is None:
        return
    if not isinstance(environment, Mapping):
        raise TypeError(
            f"{where}: expected environment to be None or the arguments of environments as a dict, such as "
            f"{{'bandlimit': 4}}, got {environment!r}."
        )
    if unknown := [name for name in environment if name not in known]:
        raise TypeError(
            f"{where}: environment takes {', '.join(known)}, got {', '.join(map(repr, unknown))}. (Environments are in "
            "float64 here, whatever the dtype.)"
        )


def _split(blocks: Sequence[tuple[Moving, np.ndarray]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Energies, and forces of each molecule, from vectors of energies then forces."""
    energies, forces = [], []
    for moving, values in blocks:
        n = len(moving.environments)
        energies.append(values[:n])
        forces += np.split(values[n:].reshape(-1, 3), np.cumsum(moving.sizes)[:-1])
    return np.concatenate(energies), forces
