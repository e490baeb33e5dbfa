r"""Which irreps the features of an equivariant network have, which parts of a target its kernel learns, and how fast.

The features of a signal on a group have the covariance r -> K_r(f, f). Its part in an irrep D of size d,

.. math:: p_D(f) = d \; \mathrm{tr} \int D(r)\, K_r(f, f)\, dr, \qquad \sum_D p_D(f) = K_e(f, f),

is the power of the features in D: of a linear network that of the signal. Nonlinearities move it between irreps, filters weigh
them, and a readout keeps one of them. The eigenvalues of each irrep's block Gram matrix over n signals, divided by n, are those
of the kernel on functions of all moved signals (``orbits``), so that gradient flow at learning rate one forgets a target's part
along an eigenvector as exp(-t lambda): on these signals and on all their moved copies alike, inside and outside of a training set
whose motions are many (Bowman, Montufar, Spectral bias outside the training set for deep networks in the kernel regime, 2022).

A fully connected network, one trained with moved copies, and an equivariant one have the same eigenvalues. They differ in which
functions of the motion they keep: all, those that the motions of a subgroup leave as they are, and constants.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from planar.groups import GROUPS
from planar.layers import Flatten as FlattenImages
from planar.layers import read_images
from so3ntk.basics.arguments import check_flag
from so3ntk.basics.arrays import refuse_masked
from so3ntk.engine.demand import lifts_of, needs_selves
from so3ntk.engine.geometry import Probe
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.layers.combinators import FanOut, Parallel
from so3ntk.engine.layers.dense import Dense
from so3ntk.engine.layers.readout import Readout
from so3ntk.engine.layers.reduction import Reduction
from so3ntk.engine.layers.source import Source
from so3ntk.engine.network import Network, check_kernel_name
from so3ntk.engine.state import State
from so3ntk.errors import PrecisionError
from so3ntk.spectra.orbits import Kind, Orbit, Rotations, RotoTranslations
from so3ntk.spectra.targets import TargetParts, decompose
from so3ntk.sphere.haar import ProductGrid, RotationGrid
from so3ntk.sphere.quadrature import AdaptiveGrid, LocalGrid
from so3ntk.sphere.signals import SphereSignal

#: Numbers of the field of all pairs, 2 GiB.
MOST_NUMBERS = 2**28


@dataclass(frozen=True, eq=False)
class IrrepSpectrum:
    """What ``irrep_spectrum`` finds; ``str`` of it is a table.

    kinds: the irreps, (row, column) orbits of wave vectors on images, with label, size and copies. layers: after which power
    was measured. power: its mean over the signals in each kind, (layers, kinds); rest: what is in higher degrees, (layers,),
    0 on images and NaN where it is not known. elements, element_power: on images the irreps of turns and reflections, and
    the power in each kind and each of them, (layers, kinds, elements); else None.
    eigenvalues: of each kind's block Gram matrix over the signals, divided by their number, descending; each comes
    ``copies`` times. vectors: their eigenvectors, (n size, n size), by columns. kept: of copies times size functions of the motion, how many
    this network's readout keeps.
    """

    kernel: str
    orbit: Orbit
    signals: int
    layers: tuple[str, ...]
    power: Float[np.ndarray, "layers kinds"]
    rest: Float[np.ndarray, " layers"]
    elements: tuple[str, ...] | None
    element_power: Float[np.ndarray, "layers kinds elements"] | None
    eigenvalues: tuple[Float[np.ndarray, " _"], ...]
    vectors: tuple[np.ndarray, ...]
    kept: tuple[int, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Those of the orbit."""
        return self.orbit.kinds

    @property
    def labels(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(kind.label for kind in self.kinds)

    @property
    def learning_times(self) -> Float[np.ndarray, " kinds"]:
        """Of each kind 1 / lambda of its largest eigenvalue: the time of gradient flow at rate one; infinite where there is none."""
        largest = np.array([values[0] for values in self.eigenvalues])
        return np.where(largest > 0, 1 / np.where(largest > 0, largest, 1), math.inf)

    def kept_by(self, network: Any) -> Float[np.ndarray, " kinds"]:
        """Of the functions of the motion, copies times size of each kind, how many a network with this kernel keeps.

        network: "mlp", fully connected, all; "equivariant", pooled over the group, constants; or a finite subgroup that a
        network is trained on (rotations; ``planar.motions``).
        """
        return np.array([kind.copies * np.trace(self.rows_kept(network, kind)).real for kind in self.kinds])

    def rows_kept(self, network: Any, kind: Kind) -> np.ndarray:
        """The projection on rows behind ``kept_by``."""
        if isinstance(network, str):
            if network == "mlp":
                return np.eye(kind.size)
            if network == "equivariant":
                return np.full((kind.size, kind.size), float(kind.trivial) / kind.size)
            raise ValueError(
                f'IrrepSpectrum: expected network to be "mlp", "equivariant" or a finite subgroup, got {network!r}.'
            )
        return self.orbit.row_projection(kind, network)

    def target(self, values: Any) -> TargetParts:
        """The parts of a target in each kind, and how gradient flow learns them.

        values: at every motion of each signal, (n, motions) in the order of ``moved``; or (n,), the same at all motions.
        """
        return decompose(self, values)

    def moved(self, x: Any) -> Any:
        """The signals under each of the motions, signal by signal: where to evaluate a target."""
        return self.orbit.moved(x)

    def __str__(self) -> str:
        from so3ntk.spectra.irrep_tables import table

        return table(self)

    __repr__ = __str__

    def plot(self, path: str | PathLike, title: str | None = None) -> Path:
        """Power per kind after each layer, and the eigenvalues of each kind; written as a PNG."""
        from so3ntk.spectra.irrep_tables import picture

        return picture(self, path, title)


def irrep_spectrum(
    net: Network,
    x: Any,
    *,
    kernel: str = "ntk",
    group: str | None = None,
    degrees: int | None = None,
    quadrature: RotationGrid | LocalGrid | None = None,
    each_layer: bool = True,
) -> IrrepSpectrum:
    """The spectrum of a network's kernel on signals and all their moved copies, by irreps of the group.

    net: it lifts to a group, or begins with ``Flatten``. Layers up to the readout are looked at, and Dense layers right after it; of
    networks that are asked for another group than their own, all layers at once. x: n signals on the sphere, or images.
    kernel: "ntk" or "nngp". group: that of the orbits, "SO3" or "O3", "C1", "C2", "C4", "D4"; by default the network's own,
    "SO3" and "C4" of fully connected ones. degrees: on the sphere the irreps l < degrees, by default twice the bandlimit. quadrature: on the
    sphere, by default the network's. each_layer: whether power is measured after each layer, which compiles a program for each, or
    after the last alone.

    Holds the kernels of n^2 pairs at all motions, at most 2 GiB. Raises TypeError and ValueError for what is no network, no
    signals, sums over parts, readouts in branches, padding other than "CIRCULAR", and PrecisionError for kernels that are not finite.
    """
    where = "irrep_spectrum"
    if not isinstance(net, Network):
        raise TypeError(f"{where}: expected a Network, as serial(...) makes it, got {net!r}.")
    check_kernel_name(kernel, where)
    if any(isinstance(layer, Reduction) for layer in flatten(net.layers)):
        raise ValueError(
            f"{where}: the network sums over parts. Give the layers before the sum, and the parts' signals."
        )
    refuse_masked(x, f"{where}: x")
    prefixes, moves, readout = _prefixes(net, group, where)
    prefixes = prefixes if check_flag(each_layer, where, "each_layer") else prefixes[-1:]
    orbit = _orbit(net, x, group, degrees, quadrature, where)
    count = len(x)
    if count == 0:
        raise ValueError(f"{where}: expected at least one signal, got none.")
    if count**2 * len(orbit.weights) > MOST_NUMBERS:
        raise ValueError(
            f"{where}: the kernels of {count} x {count} pairs at {len(orbit.weights)} motions take more than 2 GiB. Take fewer "
            "signals, or a coarser quadrature."
        )
    grid = orbit.grid if isinstance(orbit, Rotations) and not moves else None
    moved: Any = orbit.moved(x) if moves else None

    def fields(layers: tuple[Layer, ...], rows: slice) -> np.ndarray:
        part = dataclasses.replace(net, layers=layers, quadrature=net.quadrature if moves else grid)
        if not moves:
            return _finite(orbit.fields(part, x[rows], x[rows], kernel), where)
        motions = len(orbit.weights)
        these = moved[rows.start * motions : rows.stop * motions]
        found = np.asarray(part.kernel_fn(x[rows], these, kernel), np.float64)
        return _finite(found.reshape(found.shape[0], -1, motions), where)

    diagonals = [np.stack([fields(layers, slice(i, i + 1))[0, 0] for i in range(count)]) for layers in prefixes[:-1]]
    final = fields(prefixes[-1], slice(0, count))
    diagonals.append(np.stack([final[i, i] for i in range(count)]))
    power, elements, element_power = _powers(orbit, diagonals)
    values, vectors = _spectra(orbit, final)
    names = tuple(_name(layers) for layers in prefixes)
    kept = tuple(_kept(kind, readout, moves) for kind in orbit.kinds)
    rest = _rest(orbit, prefixes, power, kernel, moves, getattr(x, "bandlimit", 0))
    return IrrepSpectrum(
        kernel, orbit, count, names, power.mean(axis=1), rest, elements, element_power, values, vectors, kept
    )


def _prefixes(net: Network, group: str | None, where: str) -> tuple[list[tuple[Layer, ...]], bool, Readout | None]:
    """The layers up to each that is looked at; whether kernels are those of moved signals; and the readout."""
    layers = net.layers
    place = next((i for i, layer in enumerate(layers) if isinstance(layer, Readout)), None)
    inside = [layer for layer in layers if not isinstance(layer, Readout)]
    if any(isinstance(layer, Readout) for layer in flatten(inside)):
        raise ValueError(f"{where}: the network pools inside of branches. Join them first, and pool once.")
    own = next((getattr(lift, "group", None) or "SO3" for lift in lifts_of(layers)), None)
    readout: Any = None if place is None else layers[place]
    if own is not None and group is not None and group != own:
        if place is None:
            raise ValueError(
                f"{where}: a network of {own} without readout has no kernel on the orbits of {group}. Pool it first."
            )
        return [layers], True, readout
    body = layers if place is None else layers[:place]
    if place is not None:
        after = list(layers[place + 1 :])
        while after and isinstance(after[0], Dense):
            body = (*body, after.pop(0))  # they commute with the readout
    ends = [i for i in range(1, len(body) + 1) if not isinstance(body[i - 1], FanOut | Parallel)]
    if own is None:
        ends = [i for i in ends if not isinstance(body[i - 1], Source)]
    if not ends:
        raise ValueError(f"{where}: expected layers after Flatten, such as Dense() and Relu(), got none.")
    return [body[:i] for i in ends], own is None, readout


def _orbit(net: Network, x: Any, group: str | None, degrees: Any, quadrature: Any, where: str) -> Orbit:
    first = next(flatten(net.layers))
    lift: Any = next(iter(lifts_of(net.layers)), None)
    if isinstance(x, SphereSignal):
        if group not in (None, "SO3", "O3"):
            raise ValueError(f'{where}: expected group to be "SO3" or "O3" for signals on the sphere, got {group!r}.')
        return _rotations(net, x, group, lift, degrees, quadrature, where)
    on_images = isinstance(first, FlattenImages) if lift is None else lift.domain == "images"
    if not on_images:
        raise TypeError(
            f"{where}: expected a SphereSignal, or images for a network that begins with planar.Lift or planar.Flatten, got "
            f"{type(x).__name__} for {type(first).__name__}."
        )
    if degrees is not None or quadrature is not None:
        raise ValueError(
            f"{where}: degrees and quadrature are for signals on the sphere; on images all motions are taken."
        )
    images = read_images(x, where, group=None)
    group = group or ("C4" if lift is None else lift.group)
    if group not in GROUPS:
        raise ValueError(f"{where}: expected group to be one of {', '.join(GROUPS)} for images, got {group!r}.")
    paddings = {getattr(getattr(layer, "window", None), "padding", "CIRCULAR") for layer in flatten(net.layers)}
    if paddings != {"CIRCULAR"}:
        raise ValueError(
            f"{where}: Fourier modes need windows with padding='CIRCULAR': with a border shifts are no symmetry."
        )
    size = images.shape[1], images.shape[2]
    if size[0] != size[1] and len(GROUPS[group]) > 2:
        raise ValueError(
            f"{where}: expected square images for the quarter turns of {group}, got {size[0]} x {size[1]} pixels."
        )
    return RotoTranslations(group, size)


def _rotations(
    net: Network, x: SphereSignal, group: str | None, lift: Any, degrees: Any, quadrature: Any, where: str
) -> Orbit:
    reflections = (group or getattr(lift, "group", None)) == "O3"
    given = net.quadrature if quadrature is None else quadrature
    if given is None:
        grid = _fine_enough(None if lift is None else net.space.sampling(x, None, net.rtol), 4 * max(4, x.bandlimit))
    else:
        grid = given.base if isinstance(given, AdaptiveGrid) else given
    if not isinstance(grid, RotationGrid | LocalGrid):
        raise TypeError(
            f"{where}: expected quadrature to be a ProductGrid, an ExplicitGrid or a LocalGrid, got {grid!r}."
        )
    rotations: Any = grid.rotations if isinstance(grid, LocalGrid) else grid
    most = rotations.n // 2 if isinstance(rotations, ProductGrid) else 2 * x.bandlimit
    degrees = min(2 * x.bandlimit, most) if degrees is None else degrees
    if isinstance(degrees, bool) or not isinstance(degrees, int | np.integer) or not 1 <= degrees <= most:
        raise ValueError(
            f"{where}: expected degrees to be an integer from 1 to {most}, which the quadrature tells apart, got {degrees!r}. For "
            f"more give a finer one, as quadrature=ProductGrid({2 * rotations.n if isinstance(rotations, ProductGrid) else 16})."
        )
    return Rotations(grid, int(degrees), reflections)


def _fine_enough(grid: Any, n: int) -> Any:
    """The rule's grid, whose rotations are enough for pooling alone, with at least n points in alpha and gamma."""
    grid = grid.base if isinstance(grid, AdaptiveGrid) else grid
    if isinstance(grid, LocalGrid):
        return LocalGrid(_fine_enough(grid.rotations, n), grid.positions)
    return grid if isinstance(grid, ProductGrid) and grid.n >= n and grid.n_beta >= grid.n // 2 else ProductGrid(n)


def _powers(
    orbit: Orbit, diagonals: Sequence[np.ndarray]
) -> tuple[np.ndarray, tuple[str, ...] | None, np.ndarray | None]:
    """(layers, n, kinds), and on images what is in each irrep of the turns, (layers, kinds, elements)."""
    fields = np.stack(diagonals)  # (layers, n, r)
    split = orbit.element_projections() if isinstance(orbit, RotoTranslations) else {}
    power = np.zeros((*fields.shape[:2], len(orbit.kinds)))
    parts = np.zeros((len(fields), len(orbit.kinds), len(split)))
    for k, kind in enumerate(orbit.kinds):
        blocks = orbit.blocks(fields, kind)
        power[:, :, k] = kind.copies * np.einsum("lnaa->ln", blocks).real
        for e, projection in enumerate(split.values()):
            parts[:, k, e] = kind.copies * np.einsum("lnab,ba->ln", blocks, projection).real.mean(axis=1)
    return power, tuple(split) or None, parts if split else None


def _spectra(orbit: Orbit, field: np.ndarray) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Eigenvalues, descending, and eigenvectors of each kind's block Gram matrix over n."""
    values, vectors = [], []
    for kind in orbit.kinds:
        blocks = orbit.blocks(field, kind)
        size = len(blocks) * kind.size
        gram = blocks.transpose(0, 2, 1, 3).reshape(size, size) / len(blocks)
        found, basis = np.linalg.eigh((gram + gram.conj().T) / 2)
        values.append(found[::-1])
        vectors.append(basis[:, ::-1])
    return tuple(values), tuple(vectors)


def _kept(kind: Kind, readout: Readout | None, moves: bool) -> int:
    """Functions of the motion that the readout keeps; all of them where the kernel says it itself."""
    if readout is None or moves:
        return kind.copies * kind.size
    irrep: Any = readout.irrep
    if irrep is None:
        return int(kind.trivial)
    same = kind.key.degree == irrep.degree and (kind.key.parity is None or kind.key.sign == irrep.sign)
    return kind.copies * kind.size * same


def _rest(orbit: Orbit, prefixes: list, power: np.ndarray, kernel: str, moves: bool, bandlimit: int) -> np.ndarray:
    """K_e(f, f) less the power found: by the scalar recursion of variances, where layers act at each motion alone."""
    if orbit.exact:
        return np.zeros(len(prefixes))
    first, *others = prefixes[-1]
    unknown = np.full(len(prefixes), math.nan)
    lift: Any = first
    if moves or needs_selves(prefixes[-1]) or not all(layer.pointwise for layer in prefixes[-1]):
        return unknown
    if getattr(lift, "parametrization", "ntk") != "ntk" or lift.kept_bandlimit(bandlimit) > len(
        {k.key.degree for k in orbit.kinds}
    ):
        return unknown
    if len(prefixes[0]) > 1:
        return unknown  # without the power after lifting
    q = jnp.asarray(power[0].sum(axis=1), jnp.result_type(float))
    states: Any = [State(Probe(), q, q, q, q, width=lift.width)]
    for layer in others:
        states.append(layer(states[-1]))
    found = np.array([np.asarray(getattr(states[len(layers) - 1], kernel), np.float64) for layers in prefixes])
    return (found - power.sum(axis=2)).mean(axis=1)


def _name(layers: tuple[Layer, ...]) -> str:
    return f"{len(layers)} {type(layers[-1]).__name__}"


def _finite(field: np.ndarray, where: str) -> np.ndarray:
    if not np.isfinite(field).all():
        raise PrecisionError(
            f"{where}: the kernel has entries that are not finite. Look for NaN or infinity in the signals, or rescale them."
        )
    return field
