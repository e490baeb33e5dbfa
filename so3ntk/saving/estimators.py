"""What files hold of fitted estimators: one class for each kind, found by the estimator's name in the file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import jax
import numpy as np

from so3ntk.errors import ModelFileError
from so3ntk.learning.classifier import KernelClassifier
from so3ntk.learning.inducing.classifier import InducingClassifier
from so3ntk.learning.inducing.regressor import InducingRegressor
from so3ntk.learning.inputs import cross_kernel, is_precomputed
from so3ntk.learning.regressor import KernelRegressor
from so3ntk.learning.ridge import EPS, RidgeFit
from so3ntk.learning.tensors import DEGREES, Part, TensorKernelRegressor
from so3ntk.molecules.forces.defaults import older_defaults
from so3ntk.molecules.forces.displacements import moving_environments
from so3ntk.molecules.forces.inducing import Centres, Functions
from so3ntk.molecules.forces.kernels import Side
from so3ntk.molecules.forces.regressor import EnergyForceRegressor, elements_of
from so3ntk.molecules.structures import from_arrays, to_arrays

#: Training inputs whose predictions are kept, to see later whether a loaded model still makes them.
KEPT = 3


M = TypeVar("M")


class Record(ABC, Generic[M]):
    r"""How files hold the fitted estimators of some classes.

    ``fingerprint`` gives predictions for the first training inputs, as one array, and how exactly they reproduce:

    .. math:: \sqrt\epsilon\,\max_i \sum_j |K_{ij}|\,|\alpha_j|

    with eps of the kernel's precision: the rounding of the sum is smaller by a root of eps, but not that of an NTK with
    kinks at a pair of equal inputs.
    """

    classes: tuple[type, ...]
    #: What ``state`` may hold, and of that what spectrum=False leaves out.
    names: tuple[str, ...]
    spectral: tuple[str, ...]

    @abstractmethod
    def state(self, model: M) -> dict[str, Any]:
        """What ``fit`` found, as values that files hold, under names of ``names``."""

    @abstractmethod
    def restore(self, model: M, state: dict[str, Any]) -> None:
        """Set it on a model of the same parameters. ModelFileError, KeyError, ValueError or TypeError for what is no state."""

    @abstractmethod
    def fingerprint(self, model: M) -> tuple[np.ndarray, float]:
        """See the class."""


class KernelRecord(Record[KernelRegressor | KernelClassifier]):
    """``KernelRegressor`` and ``KernelClassifier``: their attributes as they are."""

    classes = (KernelRegressor, KernelClassifier)
    names = ("X_fit_", "amplitude_", "classes_", "dual_coef_", "feature_names_in_", "intercept_", "loo_accuracy_",
             "loo_error_", "loo_path_", "n_features_in_", "ridge_", "ridge_path_", "spectrum_")  # fmt: skip
    spectral = ("spectrum_",)

    def state(self, model: KernelRegressor | KernelClassifier) -> dict[str, Any]:
        """The attributes that are set."""
        return {name: vars(model)[name] for name in self.names if name in vars(model)}

    def restore(self, model: KernelRegressor | KernelClassifier, state: dict[str, Any]) -> None:
        """Set them."""
        for name, value in state.items():
            setattr(model, name, value)
        _check_rows(model.dual_coef_, getattr(model, "X_fit_", None))

    def fingerprint(self, model: KernelRegressor | KernelClassifier) -> tuple[np.ndarray, float]:
        """With "precomputed", of unit kernels."""
        precomputed = is_precomputed(model.net)
        rows = np.eye(len(model.dual_coef_))[:KEPT] if precomputed else model.X_fit_[:KEPT]
        predict = model.decision_function if isinstance(model, KernelClassifier) else model.predict
        scale = np.abs(cross_kernel(model, rows)) @ np.abs(model.dual_coef_)
        return np.asarray(predict(rows)), _tolerance(scale, precomputed or is_double())


class InducingRecord(Record[InducingRegressor | InducingClassifier]):
    """``InducingRegressor`` and ``InducingClassifier``: their attributes as they are; no training inputs."""

    classes = (InducingRegressor, InducingClassifier)
    names = ("amplitude_", "classes_", "composition_", "dual_coef_", "feature_names_in_", "inducing_", "intercept_",
             "loo_accuracy_", "loo_error_", "loo_path_", "n_features_in_", "posterior_", "ridge_", "ridge_path_",
             "whitening_")  # fmt: skip
    spectral = ("posterior_", "whitening_")

    def state(self, model: InducingRegressor | InducingClassifier) -> dict[str, Any]:
        """The attributes that are set."""
        return {name: vars(model)[name] for name in self.names if name in vars(model)}

    def restore(self, model: InducingRegressor | InducingClassifier, state: dict[str, Any]) -> None:
        """Set them."""
        for name, value in state.items():
            setattr(model, name, value)
        _check_rows(model.dual_coef_, model.inducing_)

    def fingerprint(self, model: InducingRegressor | InducingClassifier) -> tuple[np.ndarray, float]:
        """Of the first inducing inputs."""
        rows = model.inducing_[:KEPT]
        predict = model.decision_function if isinstance(model, InducingClassifier) else model.predict
        scale = np.abs(model.features(rows)) @ np.abs(model.dual_coef_)
        return np.asarray(predict(rows)), _tolerance(scale, is_double())


class TensorRecord(Record[TensorKernelRegressor]):
    """``TensorKernelRegressor``: the fit of each irrep, from which its other attributes follow."""

    classes = (TensorKernelRegressor,)
    names = ("X_fit_", "inducing_", "parts", "spectra")
    spectral = ("spectra",)

    def state(self, model: TensorKernelRegressor) -> dict[str, Any]:
        """Fits and spectra by the name of l."""
        inputs = {name: vars(model)[name] for name in ("X_fit_", "inducing_") if name in vars(model)}
        fits = {str(degree): {"ridge": part.ridge, **part.fit._asdict()} for degree, part in model.parts_.items()}
        spectra = {str(d): part.spectrum for d, part in model.parts_.items() if part.spectrum is not None}
        return {**inputs, "parts": fits, **({"spectra": spectra} if spectra else {})}

    def restore(self, model: TensorKernelRegressor, state: dict[str, Any]) -> None:
        """The parts, and what follows from them."""
        spectra, parts, inputs = state.get("spectra", {}), {}, state.get("X_fit_")
        for name, fit in state["parts"].items():
            parts[int(name)] = Part(spectra.get(name), fit.pop("ridge"), RidgeFit(**fit))
            _check_rows(parts[int(name)].fit.dual_coef, state.get("inducing_", inputs))
        if tuple(parts) not in DEGREES.values():
            raise ModelFileError(f"its parts are those of l = {list(parts)}, not of vectors or tensors")
        model.keep(parts)
        for name in ("X_fit_", "inducing_"):
            if name in state:
                setattr(model, name, state[name])

    def fingerprint(self, model: TensorKernelRegressor) -> tuple[np.ndarray, float]:
        """With "precomputed", of kernels that are the unit matrix between an input and itself."""
        precomputed = is_precomputed(model.net)
        inputs: Any = getattr(model, "inducing_", getattr(model, "X_fit_", None))
        rows = _unit_blocks(model.parts_) if precomputed else inputs[:KEPT]
        scale = [
            np.abs(kernel) @ np.abs(part.fit.dual_coef)
            if kernel.ndim == 2
            else np.einsum("tnab,nb->ta", np.abs(kernel), np.abs(part.fit.dual_coef))
            for kernel, part in zip(model.kernels(rows).values(), model.parts_.values(), strict=True)
        ]
        return model.predict(rows), _tolerance(np.concatenate(scale, axis=1), precomputed or is_double())


class ForceRecord(Record[EnergyForceRegressor]):
    """``EnergyForceRegressor``: with its training molecules, whose environments are computed anew.

    Coefficients of surfaces are large and of both signs, and leave the root of eps no digits. Kernels without a kink
    reproduce to 1000 eps, which is the factor of the tolerance then.
    """

    classes = (EnergyForceRegressor,)
    names = (
        "amplitude_",
        "atoms",
        "baseline_",
        "dual_coef_",
        "energy_noise_",
        "factor_",
        "force_noise_",
        "present_",
        "sparse",
        "species_",
        "stress_noise_",
        "triangle",
        "with_forces_",
    )
    spectral = ("factor_", "triangle")

    def state(self, model: EnergyForceRegressor) -> dict[str, Any]:
        """The attributes, and the molecules as arrays."""
        found = {name: vars(model)[name] for name in self.names if name in vars(model)}
        if (fit := getattr(model, "sparse_", None)) is not None:
            functions = {str(kind): {**own.centres._asdict(), "pick": own.pick, "factor": own.factor}
                         for kind, own in fit.basis.functions.items()}  # fmt: skip
            found |= {"sparse": {"white": fit.white, "functions": functions}}
            found |= {} if fit.triangle is None else {"triangle": fit.triangle}
        return {**found, "atoms": to_arrays(model.atoms_)}

    def restore(self, model: EnergyForceRegressor, state: dict[str, Any]) -> None:
        """Set them, and compute the environments."""
        model.atoms_ = from_arrays(**state.pop("atoms"), where="load")
        sparse, triangle = state.pop("sparse", None), state.pop("triangle", None)
        for name, value in state.items():
            setattr(model, name, value)
        if sparse is not None:
            self._restore_sparse(model, sparse, triangle)
            return
        model.species_ = elements_of(model.atoms_)
        if "species_" not in state:  # written when the defaults were others
            net, environment = older_defaults()
            model.net = net if model.net is None else model.net
            model.environment = environment if model.environment is None else model.environment
        model.moving_ = moving_environments(model.atoms_, model.settings)
        if "present_" not in state:  # written when structures had no strains
            energies = np.ones(len(model.atoms_), bool)
            model.present_ = np.concatenate([energies, ~model.moving_.strains]) if model.with_forces_ else energies
        _check_rows(model.dual_coef_, range(np.count_nonzero(model.present_)))
        _check_rows(model.present_, range(Side(model.moving_, model.with_forces_).count))
        model.weights_ = model.weights()

    def _restore_sparse(self, model: EnergyForceRegressor, sparse: dict[str, Any], triangle: np.ndarray | None) -> None:
        """The basis of functions, and what follows from it."""
        functions = {int(kind): Functions(Centres(own["signals"], own["directions"], own["numbers"]), own["pick"], own["factor"])
                     for kind, own in sparse["functions"].items()}  # fmt: skip
        _check_rows(sparse["white"], range(sum(len(own.pick) for own in functions.values())))
        model.sparse_ = model.fit_of(functions, sparse["white"], triangle)
        model.weights_ = model.sparse_.potential

    def fingerprint(self, model: EnergyForceRegressor) -> tuple[np.ndarray, float]:
        """Energies, then forces."""
        molecules = model.atoms_[:KEPT]
        found = model.predict(molecules)
        weights = model.sparse_.white if hasattr(model, "sparse_") else model.dual_coef_
        scale = np.abs(model.cross_kernel(molecules)) @ np.abs(weights)
        tolerance = EPS**0.5 if np.isfinite(model.network_.smoothness) else 1000 * EPS
        return np.concatenate([found.energies, np.concatenate(found.forces).ravel()]), float(tolerance * scale.max())


RECORDS = (KernelRecord(), InducingRecord(), TensorRecord(), ForceRecord())
#: Classes by the name in files.
ESTIMATORS = {cls.__name__: cls for record in RECORDS for cls in record.classes}


def record_of(cls: Any) -> Record | None:
    """The record of an estimator's class; None for other classes, those derived from estimators among them."""
    return next((record for record in RECORDS if cls in record.classes), None)


def is_double() -> bool:
    """Whether JAX is set to 64 bits."""
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64


def _tolerance(scale: np.ndarray, double: bool) -> float:
    """The formula of ``Record``, with scale the sums over j."""
    return float(np.finfo(np.float64 if double else np.float32).eps ** 0.5 * scale.max())


def _check_rows(dual_coef: np.ndarray, inputs: Any) -> None:
    if not np.isfinite(dual_coef).all() or len(dual_coef) != len(dual_coef if inputs is None else inputs):
        raise ModelFileError("its coefficients are not finite, or not as many as its training inputs")


def _unit_blocks(parts: dict[int, Part]) -> dict[int, np.ndarray]:
    """For each l the kernels of the first training inputs as if no two inputs had anything in common."""
    found = {}
    for degree, part in parts.items():
        n, size = part.fit.dual_coef.shape
        rows = np.eye(n)[:KEPT]
        found[degree] = rows if degree == 0 else np.einsum("tn,ab->tnab", rows, np.eye(size))
    return found
