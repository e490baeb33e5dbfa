r"""Energies and forces of molecules and solids from one Gaussian process: a potential energy surface with its gradient.

Energies are E = baseline + f, f a Gaussian process of covariance s^2 k(M, M'), and forces F = -dE/dR follow the
covariances of ``force_kernels``. With y the energies less the baseline, then the forces, of the training molecules,

.. math:: \alpha = (K + \Lambda)^{-1} y, \qquad \Lambda = \mathrm{diag}(\lambda_E, \dots, \lambda_F, \dots),

predictions are K_* alpha: the forces of a fit to energies alone are the derivative of its energies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from so3ntk.basics.arrays import ArrayLike
from so3ntk.basics.caller import warn
from so3ntk.basics.double import double_precision
from so3ntk.basics.memory import total_memory
from so3ntk.basics.progress import show_progress
from so3ntk.engine.network import Network
from so3ntk.engine.plan import Plan, make_plan, parts_of, split_at_reduction
from so3ntk.learning.ridge import warn_if_flat
from so3ntk.molecules.datasets.targets import check_molecules
from so3ntk.molecules.forces.defaults import FORCE_ENVIRONMENTS, default_network
from so3ntk.molecules.forces.displacements import Moving, moving_environments
from so3ntk.molecules.forces.inducing import (
    Basis,
    Block,
    Covariance,
    Functions,
    SparseFit,
    choose_functions,
    draw_candidates,
    fit_functions,
)
from so3ntk.molecules.forces.kernels import Side, energy_force_gram
from so3ntk.molecules.forces.known import Known, elements_of, make_baseline
from so3ntk.molecules.forces.moments import Potential, weights_of
from so3ntk.molecules.forces.noise import (
    ENERGY,
    FORCE,
    STRAIN,
    Targets,
    choose_noises,
    factorise,
    relative_candidates,
    solve,
)
from so3ntk.molecules.forces.parameters import check_elements, check_parameters
from so3ntk.molecules.strains import from_voigt

if TYPE_CHECKING:
    from ase import Atoms

#: Structures of one block of predictions, and of rows that are taken into a factor at a time.
BLOCK = 16
#: Training structures that are kept beside inducing functions, to see that a loaded model is the one that was saved.
KEPT = 3
#: What only one of both ways to fit leaves.
DENSE, SPARSE = ("dual_coef_", "factor_", "moving_", "present_"), ("sparse_",)


class Prediction(NamedTuple):
    """Energies (n,), forces, a list of (atoms, 3) arrays, standard deviations of both, or None, and stresses.

    Of periodic structures (a cell of rank 3) stresses are (3, 3), in the unit of energy per cubic Angstrom and with ase's sign, the
    derivative of the energy in the strain over the volume; of others None.
    """

    energies: Float[np.ndarray, " n"]
    forces: list[Float[np.ndarray, "atoms 3"]]
    energy_std: Float[np.ndarray, " n"] | None = None
    force_std: list[Float[np.ndarray, "atoms 3"]] | None = None
    stresses: list[Float[np.ndarray, "3 3"] | None] | None = None
    stress_std: list[Float[np.ndarray, "3 3"] | None] | None = None


class EnergyForceRegressor(BaseEstimator):
    r"""Gaussian-process regression of energies, forces and stresses with the kernel of a network.

    net: a network that ends with ``AtomSum``; None is ``force_network()``. kernel: "ntk" or "nngp".
    environment: the settings of ``environments``; None is ``FORCE_ENVIRONMENTS``, with the elements of the training structures as species.
    energy_noise, force_noise, stress_noise: variances :math:`\lambda_E, \lambda_F, \lambda_S` in units of the kernel, of its second
    derivative in positions (per square Angstrom) and in strains. What is None is chosen from 10^-10 to 1 times the mean of K's
    diagonal by the errors of the first ``selection`` training structures (fewer where these have more than 3,000 numbers), each left
    out with its forces, and doubled, with a warning, until the covariance of all is positive definite. inducing: None for the covariances
    of all energies and forces, or the number of functions of a basis in place of them (``forces/inducing.py``), drawn with ``seed``. baseline: True for
    an energy of each element, without a penalty and in the same fit; a dict of energies by symbol, as of isolated atoms, which are
    subtracted before; False for none. progress: a bar for each matrix, in a log a line a minute.

    Energies are in any unit, positions in Angstrom, forces in that unit per Angstrom, stresses per cubic Angstrom. Kernels and solves
    are in float64 whatever JAX is set to. Memory without inducing: two matrices of 8 N^2 bytes while fitting, one after, N energies
    and components of forces; further that of ``moving_environments`` and ``energy_force_gram``. With inducing functions it does
    not grow with the frames: 6.2 GiB for 6,000 functions and four elements by the defaults (measured).

    After ``fit``: ``energy_noise_``, ``force_noise_`` and ``stress_noise_`` (None without), ``amplitude_`` s, ``baseline_``,
    ``species_``; ``weights_``, the potential as weights of features where kernels are inner products of some, else None: then a prediction
    does not depend on how many training structures there are. Without inducing also ``dual_coef_``, ``factor_``
    (Cholesky, lower), ``atoms_`` and ``moving_`` (the training structures); with it ``sparse_``, and the first three structures as ``atoms_``.
    """

    def __init__(
        self,
        net: Network | None = None,
        kernel: str = "ntk",
        environment: Mapping[str, Any] | None = None,
        energy_noise: float | None = None,
        force_noise: float | None = None,
        selection: int = 60,
        baseline: bool | np.bool_ | Mapping[str, float] = True,
        progress: bool = False,
        inducing: int | None = None,
        stress_noise: float | None = None,
        seed: int = 0,
    ):
        self.net = net
        self.kernel = kernel
        self.environment = environment
        self.energy_noise = energy_noise
        self.force_noise = force_noise
        self.selection = selection
        self.baseline = baseline
        self.progress = progress
        self.inducing = inducing
        self.stress_noise = stress_noise
        self.seed = seed

    def fit(
        self,
        atoms: Sequence[Atoms],
        energies: ArrayLike,
        forces: np.ndarray | Sequence | None = None,
        stresses: np.ndarray | Sequence | None = None,
    ) -> EnergyForceRegressor:
        """Fit to structures, energies (n,), forces, a list of (atoms, 3) or all in one array, and stresses, (3, 3) or (6,) each.

        Entries of forces and stresses that are None are of structures of which these are not known; None: of none.
        Raises ValueError and TypeError for wrong structures, shapes, values, networks and noises, MemoryError for matrices
        larger than the memory there is, NotPositiveDefiniteError if the covariance with its noise is not. Warns for the NTK of
        activations with a kink, and for signs and units that do not go together (``so3ntk.molecules.check_forces``).
        """
        where = type(self).__name__
        known = Known.of(atoms, energies, forces, stresses, where)
        check_parameters(self, known)
        self.baseline_ = make_baseline(self.baseline, known.atoms, known.energies, where)
        targets = known.targets(self.baseline_, free=not isinstance(self.baseline, Mapping) and bool(self.baseline))
        self.species_ = elements_of(known.atoms)
        self.with_forces_ = bool(np.any(targets.sort != ENERGY))
        for name in (*DENSE, *SPARSE):  # of an earlier fit
            vars(self).pop(name, None)
        if self.inducing is None:
            noises, composition = self._fit_dense(known, targets)
        else:
            noises, composition = self._fit_sparse(known, targets)
        of = dict(zip(targets.sorts.tolist(), noises, strict=True))
        self.energy_noise_, self.force_noise_, self.stress_noise_ = (of.get(sort) for sort in (ENERGY, FORCE, STRAIN))
        if self.baseline_ and len(composition):
            self.baseline_.add(known.atoms, targets.basis @ composition)
        return self

    def _fit_dense(self, known: Known, targets: Targets) -> tuple[tuple[float, ...], np.ndarray]:
        """By the covariances of all rows: the noises, and the coefficients of composition."""
        where = type(self).__name__
        needed = 16 * len(targets.y) ** 2
        if needed > (there := total_memory()):
            raise MemoryError(
                f"{where}: the covariances of {len(known.atoms)} energies and {len(targets.y) - len(known.atoms)} components of forces "
                f"need {needed / 2**30:.0f} GiB, this machine has {there / 2**30:.0f}. Pass inducing=4000, a number of functions in place of "
                "all of them, or fewer structures."
            )
        self.atoms_ = [molecule.copy() for molecule in known.atoms]  # as they are now, whatever becomes of them
        self.moving_ = moving_environments(self.atoms_, self.settings)
        self.present_ = known.present if self.with_forces_ else np.ones(len(self.atoms_), bool)
        gram = self._gram(Side(self.moving_, self.with_forces_), None)
        if not self.present_.all():
            gram = gram[np.ix_(self.present_, self.present_)]
        chosen = self._noises(gram, targets)
        free = [given is None for given in self._given(targets)]
        self.factor_, noises = factorise(gram, targets, chosen, free, where)
        if noises != chosen:
            warn(
                f"{where}: with the noises {chosen}, chosen on the first {targets.selected(self.selection)} molecules, the covariance of all "
                f"{len(known.atoms)} is not positive definite (errors of the rotation grid add up), so they were raised to "
                f"{noises}. A finer grid avoids it, as quadrature=ProductGrid(24) of the network, or a larger selection."
            )
        self.dual_coef_, composition, self.amplitude_ = solve(self.factor_, targets)
        self.weights_ = self.weights()
        return noises, composition

    def _fit_sparse(self, known: Known, targets: Targets) -> tuple[tuple[float, ...], np.ndarray]:
        """By a basis of functions, likewise."""
        first = known[: targets.selected(self.selection)]
        moving = moving_environments(first.atoms, self.settings)
        plan = self._plan(moving)
        gram = self._gram(Side(moving), None)
        noises = self._noises(gram[np.ix_(first.present, first.present)], targets)
        del gram
        by_sort = dict(zip(targets.sorts.tolist(), noises, strict=True))
        rng = np.random.default_rng(self.seed)

        def motion(moving: Moving) -> np.ndarray:
            scale = [1 / np.sqrt(by_sort[sort]) if sort in by_sort else 0.0 for sort in (FORCE, STRAIN)]
            drawn = rng.normal(size=len(moving.strains))
            return drawn * (np.where(moving.strains, scale[1], scale[0]) if self.with_forces_ else 1.0)

        assert self.inducing is not None
        covariance = Covariance(self.network_, self.kernel, plan.features)
        with show_progress(2 * len(known.atoms), " structures", "Forces", self.progress) as bar:
            sizes = sum(map(len, known.atoms))
            candidates = draw_candidates(self._blocks(known, targets, bar.update), sizes, self.inducing, motion, rng)
            scales = (1 / np.sqrt(noises[0]), 1.0 if self.with_forces_ else 0.0)
            basis = choose_functions(candidates, covariance, scales, self.inducing, rng)
            blocks = self._blocks(known, targets, bar.update)
            self.sparse_, composition, self.amplitude_ = fit_functions(basis, blocks, targets, noises)
        self.atoms_ = [frame.copy() for frame in known.atoms[:KEPT]]
        self.weights_ = self.sparse_.potential
        return noises, composition

    def fit_of(
        self, functions: dict[int, Functions], white: Float[np.ndarray, " d"], triangle: Float[np.ndarray, "d d"] | None
    ) -> SparseFit:
        """What files hold of a basis, as ``sparse_``."""
        features = self._plan(moving_environments(self.atoms_, self.settings)).features
        covariance = Covariance(self.network_, self.kernel, features)
        return SparseFit.of(Basis(functions, covariance), white, triangle)

    def _blocks(self, known: Known, targets: Targets, report: Callable[[int], Any]) -> Iterator[Block]:
        """The structures, ``BLOCK`` at a time."""
        for start in range(0, len(known.atoms), BLOCK):
            part = known[start : start + BLOCK]
            moving = moving_environments(part.atoms, self.settings)
            rows = np.flatnonzero((targets.owner >= start) & (targets.owner < start + BLOCK))
            yield Block(moving, self._kinds(moving), rows, part.present)
            report(len(part.atoms))

    def predict(self, atoms: Sequence[Atoms], return_std: bool = False) -> Prediction:
        r"""Energies, forces and stresses of structures; with ``return_std`` also the posterior's standard deviations.

        .. math:: s\,\bigl(K_{**} - K_* (K + \Lambda)^{-1} K_*^T\bigr)^{1/2}, \qquad s^2 = y^T \alpha / \nu,

        those of the energy surface, without noise and without the baseline's own; nu is N less the number of independent elements
        with a baseline: NaN where that fits all energies. Without deviations a molecule costs a fraction: one direction of each
        training molecule then stands for all of its coordinates.
        Raises NotFittedError before ``fit``, ValueError for wrong molecules and elements that no training molecule had.
        """
        check_is_fitted(self)
        where = f"{type(self).__name__}.predict"
        atoms = check_molecules(atoms, where)
        check_elements(atoms, self.species_, where)
        if return_std:
            warn_if_flat(np.atleast_1d(self.amplitude_), where)
            if not hasattr(self, "factor_") and (self._sparse is None or self._sparse.triangle is None):
                raise ValueError(
                    f"{where}: return_std needs the factor of the covariance, which was left out of the saved file. Save "
                    "the fitted model with spectrum=True."
                )
        means, deviations = [], []
        for start in range(0, len(atoms), BLOCK):
            some = atoms[start : start + BLOCK]
            moving = moving_environments(some, self.settings)
            means.append((moving, self._means(moving)))
            if return_std:
                deviations.append((moving, self._deviations(some, moving)))
        energies, forces, stresses = _split(means, atoms)
        if self.baseline_:
            energies = energies + self.baseline_.predict(atoms)
        if not return_std:
            return Prediction(energies, forces, stresses=stresses)
        energy_std, force_std, stress_std = _split(deviations, atoms, sign=1)
        return Prediction(energies, forces, energy_std, force_std, stresses, stress_std)

    @property
    def network_(self) -> Network:
        """The network given, or ``force_network()``."""
        return default_network() if self.net is None else self.net

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the environments: given, or ``FORCE_ENVIRONMENTS`` with the elements of the training molecules."""
        if self.environment is not None:
            return self.environment
        return {**FORCE_ENVIRONMENTS, "species": self.species_}

    @property
    def _sparse(self) -> SparseFit | None:
        return getattr(self, "sparse_", None)

    def cross_kernel(self, atoms: Sequence[Atoms]) -> Float[np.ndarray, "rows N"]:
        """K_*: the covariances of structures' energies, then forces (and minus derivatives in strains), with what was fitted.

        With inducing functions these are phi, of which the weights are ``sparse_.white``.
        """
        check_is_fitted(self)
        where = f"{type(self).__name__}.cross_kernel"
        return self._cross(moving_environments(check_molecules(atoms, where), self.settings))

    def _cross(self, moving: Moving) -> np.ndarray:
        if self._sparse is not None:
            return self._sparse.basis.features(moving, self._kinds(moving))
        return self._gram(Side(moving), Side(self.moving_, self.with_forces_))[:, self.present_]

    def _gram(self, x1: Side, x2: Side | None) -> np.ndarray:
        return energy_force_gram(self.network_, x1, x2, self.kernel, progress=self.progress)

    def _plan(self, moving: Moving) -> Plan:
        with double_precision():
            net = self.network_
            return make_plan(net.layers, net.quadrature, net.rtol, moving.environments, None)

    def _kinds(self, moving: Moving) -> Int[np.ndarray, " atoms"]:
        """Which atoms the network counts as alike."""
        return np.asarray(parts_of(split_at_reduction(self.network_.layers)[1], moving.environments).kind)

    def weights(self) -> Potential | None:
        """The potential as one vector for each kind of atoms, where kernels are inner products of features; else None."""
        features = self._plan(self.moving_).features
        if features is None:
            return None
        signals = np.asarray(self.moving_.environments.signal.coefficients)
        own, directions = self._centres()
        kind = self._kinds(self.moving_)
        return Potential(features, weights_of(features, self.kernel, signals, directions, own, kind))

    def _centres(self) -> tuple[np.ndarray, np.ndarray]:
        """What K alpha is made of: of each training atom, the weight of its molecule's energy, and its derivative along the forces'."""
        n, moving = len(self.moving_.environments), self.moving_
        alpha = np.zeros(n + int(moving.coordinates.sum()))
        alpha[: len(self.present_)][self.present_] = self.dual_coef_
        everything = np.arange(len(moving.environments.molecule))
        return alpha[:n][moving.environments.molecule], moving.along(everything, alpha[n:])

    def _means(self, moving: Moving) -> np.ndarray:
        """K_* alpha. The forces' part is one direction for each training molecule."""
        if self._sparse is not None:
            return self._sparse.means(moving, self._kinds(moving))
        if self.weights_ is not None:
            return self.weights_(moving, self._kinds(moving))
        n = len(self.moving_.environments)
        if not self.with_forces_:
            return self._gram(Side(moving), Side(self.moving_, forces=False)) @ self.dual_coef_
        cross = self._gram(Side(moving), Side(self.moving_, directions=self._centres()[1]))
        return cross[:, :n] @ self.dual_coef_[:n] + cross[:, n:].sum(axis=1)

    def _deviations(self, atoms: Sequence[Atoms], moving: Moving) -> np.ndarray:
        own = [np.diag(self._gram(Side(moving_environments([molecule], self.settings)), None)) for molecule in atoms]
        prior = np.concatenate([[d[0] for d in own], *(d[1:] for d in own)])
        if self._sparse is not None:
            return self.amplitude_ * np.sqrt(self._sparse.variances(moving, self._kinds(moving), prior))
        white = scipy.linalg.solve_triangular(self.factor_, self._cross(moving).T, lower=True)
        return self.amplitude_ * np.sqrt(np.maximum(prior - np.einsum("ij,ij->j", white, white), 0))

    def _given(self, targets: Targets) -> list[float | None]:
        """The noise of each sort that there is, as the user gave it."""
        given = (self.energy_noise, self.force_noise, self.stress_noise)
        return [given[sort] for sort in targets.sorts]

    def _noises(self, gram: np.ndarray, targets: Targets) -> tuple[float, ...]:
        """The noises given, and those chosen on the first molecules, whose covariances come first in each sort."""
        part, rows = targets.first(targets.selected(self.selection))
        given = self._given(targets)
        if None not in given:
            return tuple(map(float, given))  # pyright: ignore[reportArgumentType]
        if len(gram) > len(rows):
            gram = gram[np.ix_(rows, rows)]
        missing = [sort for sort in targets.sorts if sort not in part.sorts]
        if missing:
            raise ValueError(
                f"{type(self).__name__}: noises are chosen on the first {targets.selected(self.selection)} structures, of which none has "
                f"{' or '.join(('energies', 'forces', 'stresses')[sort] for sort in missing)}. Put some with these first, or raise "
                "selection, or pass the noises."
            )
        candidates = relative_candidates(gram, part)
        candidates = [c if g is None else [float(g)] for c, g in zip(candidates, given, strict=True)]
        return choose_noises(gram, part, candidates)


def _split(
    blocks: Sequence[tuple[Moving, np.ndarray]], atoms: Sequence[Atoms], sign: int = -1
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray | None]]:
    """Energies, and forces and stresses of each structure, from vectors of energies then minus derivatives in the coordinates."""
    energies, forces, strains = [], [], []
    for moving, values in blocks:
        n = len(moving.environments)
        energies.append(values[:n])
        for own, size in zip(np.split(values[n:], np.cumsum(moving.coordinates)[:-1]), 3 * moving.sizes, strict=True):
            forces.append(own[:size].reshape(-1, 3))
            strains.append(own[size:])
    stresses = [
        sign * from_voigt(own) / frame.get_volume() if len(own) else None
        for own, frame in zip(strains, atoms, strict=True)
    ]
    return np.concatenate(energies), forces, stresses
