"""Which parts of a target a kernel on orbits learns, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arrays import refuse_masked

if TYPE_CHECKING:
    from so3ntk.spectra.irreps import IrrepSpectrum


@dataclass(frozen=True, eq=False)
class TargetParts:
    """power: of the target in each kind, (kinds,): mean squares over signals and motions. rest: in no kind that was looked at."""

    spectrum: IrrepSpectrum
    coefficients: tuple[np.ndarray, ...]
    power: Float[np.ndarray, " kinds"]
    rest: float

    def residual(
        self, times: Sequence[float] | Float[np.ndarray, " t"], network: Any = "mlp"
    ) -> Float[np.ndarray, "t kinds"]:
        """What is not learned of each kind's power after gradient flow at learning rate one, from zero, on all moved signals.

        network: as for ``IrrepSpectrum.kept_by``. times may be infinite: then what the network cannot learn is left, where
        eigenvalues are above rounding.
        """
        t = np.asarray(times, np.float64).ravel()
        if len(t) == 0 or not np.all(t >= 0):
            raise ValueError(f"residual: expected times that are at least zero, one or more, got {times!r}.")
        found = np.zeros((len(t), len(self.power)))
        for k, kind in enumerate(self.spectrum.kinds):
            kept = np.einsum("km,jkn->jmn", self.spectrum.rows_kept(network, kind), self.coefficients[k])
            left = self.coefficients[k] - kept
            values, vectors = self.spectrum.eigenvalues[k], self.spectrum.vectors[k]
            along = np.abs(np.einsum("jmn,jne->me", kept, vectors.conj().reshape(len(kept), kind.size, -1))) ** 2
            least = 1e-12 * max(float(values[0]), 0.0)
            with np.errstate(invalid="ignore"):
                decay = np.exp(-2 * np.multiply.outer(t, np.where(values > least, values, 0)))
            decay = np.where(values > least, decay, 1.0)
            found[:, k] = kind.copies * (np.sum(np.abs(left) ** 2) + decay @ along.sum(axis=0)) / self.spectrum.signals
        return found


def decompose(spectrum: IrrepSpectrum, values: Any) -> TargetParts:
    """The parts of values (n, motions), or (n,) that do not depend on the motion. ValueError for other shapes, and NaN."""
    refuse_masked(values, "target: values")
    motions = len(spectrum.orbit.weights)
    given = np.asarray(values, np.float64)
    if given.shape == (spectrum.signals,):
        given = np.repeat(given[:, None], motions, axis=1)
    if given.shape != (spectrum.signals, motions):
        raise ValueError(
            f"target: expected values at {motions} motions of each of {spectrum.signals} signals, in the order of moved(x), or "
            f"({spectrum.signals},) of invariants, got {given.shape}."
        )
    if not np.isfinite(given).all():
        raise ValueError("target: the values hold NaN or infinity.")
    coefficients = tuple(spectrum.orbit.coefficients(given, kind) for kind in spectrum.kinds)
    power = np.array(
        [kind.copies * np.sum(np.abs(c) ** 2) for kind, c in zip(spectrum.kinds, coefficients, strict=True)]
    )
    total = float(np.sum(given**2 @ spectrum.orbit.weights)) / spectrum.signals
    power = power / spectrum.signals
    return TargetParts(spectrum, coefficients, power, total - float(power.sum()))
