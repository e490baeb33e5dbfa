r"""The environment of an atom as a signal on the sphere: exact harmonic coefficients, without a grid.

The environment of atom i has one channel per element z of ``species`` and power p, at the direction x

.. math:: f_{i,zp}(x) = \sum_{j \ne i,\ z_j = z} w_{ij} \exp(-(\hat r_{ij} \cdot x - 1)^2 / \beta), \qquad
          w_{ij} = z_i z_j s(r_{ij})\, (r_0 / r_{ij})^p .

The profile is zonal, so the addition theorem gives its coefficients as a sum over the neighbours' directions,

.. math:: a_{lm} = g_l \sum_j w_{ij} Y_{lm}(\hat r_{ij}), \qquad
          g_l = 2\pi \int_{-1}^1 e^{-(t-1)^2/\beta} P_l(t)\, dt .
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.basics.arrays import ArrayLike, as_numbers, concrete, on_device, refuse_masked
from so3ntk.basics.shapes import rounded_up
from so3ntk.molecules.elements import species_index, species_numbers
from so3ntk.molecules.harmonics import real_harmonics
from so3ntk.molecules.neighbours import Edges, check_geometry, pairs_in_molecules
from so3ntk.molecules.radial import Powers, Shells, smooth_fall
from so3ntk.sphere.rotations import check_bandlimit

#: The width at which a neighbour's profile has fallen to 5 % at 45 degrees from its direction.
DEFAULT_ANGULAR_WIDTH = -((math.cos(math.pi / 4) - 1) ** 2) / math.log(0.05)
#: Narrower profiles are not resolved by the quadrature; down to here g_l is accurate to 2e-13 g_0 for l < 64.
MIN_ANGULAR_WIDTH = 1e-7
#: The switch s(r) leaves 1 at this fraction of the cutoff.
SWITCH_START = 0.8

#: Smaller batches are filled up to this, so that molecules of up to 16 atoms share one program.
LEAST_EDGES, LEAST_ATOMS = 256, 16
#: Atoms up to which there are few sizes, and edges of each: a program compiles for longer than it runs on these.
COARSE, EDGES = 2**13, 16

_QUADRATURE_NODES = 256
_CHUNK_NUMBERS = 2**19  # of one array (edges, L^2, powers): 4 MiB, which stays in a cache


def environment_coefficients(
    positions: ArrayLike,
    numbers: ArrayLike,
    molecule: ArrayLike,
    *,
    species: Sequence[str | int] = ("H", "C", "N", "O", "F"),
    powers: Sequence[float | np.number] | Float[np.ndarray, " powers"] | float = (2, 6),
    bandlimit: int = 6,
    angular_width: ArrayLike | None = None,
    cutoff: float | None = None,
    edges: Edges | None = None,
    length: float = 1.0,
    radial: Powers | Shells | None = None,
) -> Float[Array, "atoms lm channels"]:
    r"""Coefficients of every atom's environment (formulas at the head of this file).

    positions (atoms, 3) in Angstrom; numbers and molecule (atoms,): atomic numbers, and which molecule each
    atom belongs to. Returns (atoms, L^2, species * powers) in the dtype of the positions (float32 for half precision):
    flat harmonic index l^2 + l + m, channels with the species major and the powers minor. An atom alone has the zero
    signal.

    radial: the radial functions, in place of powers and length: ``Powers`` of these, or ``Shells``, which have a cutoff and an
    angular smearing of their own (``so3ntk.molecules.radial``), so that powers, length, cutoff and angular_width stay unset.

    length, r_0 in Angstrom, is where all powers weigh the same: a longer one gives more weight to high powers,
    hence to the nearest neighbours.

    Twice differentiable in the positions and in ``angular_width`` (beta; default 0.0286, 5 % at 45 degrees).
    Both may be traced; numbers, molecule and edges are NumPy arrays, from which the list of pairs is made on
    the host: under ``jax.jit`` close over them, or mark them static and pass tuples.

    cutoff, in Angstrom, multiplies each neighbour by the switch s(r) = 1 - 10 u^3 + 15 u^4 - 6 u^5 with u =
    (r - 0.8 cutoff) / (0.2 cutoff) clipped to [0, 1]: twice continuously differentiable, exactly 0 beyond.
    edges, if given, replaces the list of all pairs within molecules; it must hold every pair within the
    cutoff. Periodic cells need it, for their images (:func:`so3ntk.molecules.neighbours.pairs_within` makes
    it).

    Memory: a few times the output, and a few MiB for the pairs, which are summed in chunks; also under reverse-mode
    derivatives.

    Raises ValueError for wrong shapes, masked arrays, an element not among the species, ghost atoms, a power, length, cutoff or
    (concrete) width that is not positive, a width below 1e-7, a bandlimit outside 1 to 64, and, where the
    positions are concrete, for NaN and for two atoms closer than 0.001 Angstrom. TypeError if numbers or
    molecule are traced.
    """
    where = "environment_coefficients"
    bandlimit = check_bandlimit(bandlimit, where)
    powers, length, shells = split_radial(radial, powers, length, cutoff, angular_width, where)
    powers, cutoff = _check_powers(powers, where), _check_cutoff(cutoff, where)
    if not 0 < length < np.inf:
        raise ValueError(f"{where}: expected a positive length in Angstrom, got {length!r}.")
    positions = on_device(as_numbers(positions, f"{where}: the positions"))
    if not jnp.issubdtype(positions.dtype, jnp.floating) or positions.ndim != 2 or positions.shape[1] != 3:
        advice = " Pass positions.astype(float)." if jnp.issubdtype(positions.dtype, jnp.integer) else ""
        raise ValueError(
            f"{where}: expected floating-point positions (atoms, 3), got {positions.dtype}{list(positions.shape)}.{advice}"
        )
    numbers, molecule = (
        _host_integers(array, name, len(positions), where)
        for array, name in ((numbers, "numbers"), (molecule, "molecule"))
    )
    elements = species_numbers(species, where)
    row = species_index(numbers, molecule, elements, where)
    factors = common_factors(shells, powers, length, angular_width, bandlimit, len(elements), positions.dtype)
    edges = pairs_in_molecules(molecule) if edges is None else edges
    edges.check(len(positions), where)
    places: Any = concrete(positions)
    traced = places is None or concrete(edges.offsets) is None
    numpy, places = (jnp, positions) if traced else (np, places)
    if not traced:
        check_geometry(places, molecule, edges, where)

    vectors = places[edges.neighbour] - places[edges.centre]
    if edges.offsets is not None:
        vectors = vectors + numpy.asarray(edges.offsets, positions.dtype)
    charges = (numbers[edges.centre] * numbers[edges.neighbour]).astype(positions.dtype)
    rows = edges.centre * len(elements) + row[edges.neighbour]
    settings = (len(elements), powers, bandlimit, cutoff)
    if traced:  # shapes are the caller's
        return _coefficients(vectors, charges, rows, factors, shells, len(positions), *settings)
    padded = _padded(vectors, charges, rows, rounded_up(len(rows), LEAST_EDGES, COARSE * EDGES) - len(rows))
    found = _coefficients(*padded, factors, shells, rounded_up(len(positions), LEAST_ATOMS, COARSE), *settings)
    on_host = concrete(found)  # else the angular width is traced; slices of JAX's arrays are programs of their own
    return found[: len(positions)] if on_host is None else on_device(on_host[: len(positions)])


def profile_gains(angular_width: Any, bandlimit: int, dtype) -> Float[Array, " l"]:
    r"""g_l of the profile for each l < bandlimit, differentiable in the angular width.

    Gauss-Legendre quadrature in s, t = 1 - 2 s^2: the nodes crowd where the profile is, and t - 1 has no
    rounding. Raises ValueError for a concrete width that is not a finite scalar of at least 1e-7.
    """
    width = DEFAULT_ANGULAR_WIDTH if angular_width is None else angular_width
    width = as_numbers(width, "environment_coefficients: the angular width")
    known = concrete(width)
    if known is not None and (known.ndim or not MIN_ANGULAR_WIDTH <= known < np.inf):
        raise ValueError(
            "environment_coefficients: expected an angular width (a scalar) of at least "
            f"{MIN_ANGULAR_WIDTH}, got {width}. The profile has fallen to 5 % at 45 degrees for "
            f"{DEFAULT_ANGULAR_WIDTH:.4f}, the default; narrower ones than the bound are not resolved by the "
            "quadrature."
        )
    squares, table = _profile_table(bandlimit)
    profile = jnp.exp(-jnp.asarray(squares, dtype) / jnp.asarray(width, dtype))
    return jnp.matmul(profile, jnp.asarray(table, dtype), precision=jax.lax.Precision.HIGHEST)


@lru_cache(maxsize=64)
def _profile_table(bandlimit: int) -> tuple[np.ndarray, np.ndarray]:
    """(t - 1)^2 at the nodes (nodes,), and 2 pi w P_l(t) (nodes, L)."""
    nodes, weights = np.polynomial.legendre.leggauss(_QUADRATURE_NODES)
    s = (nodes + 1) / 2
    legendre = np.polynomial.legendre.legvander(1 - 2 * s**2, bandlimit - 1)
    return 4 * s**4, (4 * np.pi * weights * s)[:, None] * legendre  # |dt| = 4 s ds, ds = dnodes / 2


@partial(jax.jit, static_argnames=("n_atoms", "n_elements", "powers", "bandlimit", "cutoff"))
def _coefficients(
    vectors, charges, rows, factors, shells, n_atoms, n_elements, powers, bandlimit, cutoff
) -> Float[Array, "atoms lm channels"]:
    sums = _sum_over_edges(vectors, charges, rows, n_atoms * n_elements, shells, powers, bandlimit, cutoff)
    sums = (sums * factors).reshape(n_atoms, n_elements, bandlimit**2, factors.shape[1]).swapaxes(1, 2)
    return sums.reshape(n_atoms, bandlimit**2, n_elements * factors.shape[1])


def _degrees(bandlimit: int) -> np.ndarray:
    return np.repeat(np.arange(bandlimit), 2 * np.arange(bandlimit) + 1)


def _padded(vectors: Any, charges: Any, rows: Any, padding: int) -> tuple[Any, Any, Any]:
    """More edges: of charge 0 and with a direction, so that one adds zero and its derivative is zero, not NaN."""
    numpy: Any = np if isinstance(vectors, np.ndarray) else jnp
    up = np.broadcast_to(np.eye(3, dtype=vectors.dtype)[2], (padding, 3))
    return numpy.concatenate([vectors, up]), *(numpy.pad(array, (0, padding)) for array in (charges, rows))


def _sum_over_edges(vectors, charges, rows, n_rows, shells, powers, bandlimit, cutoff) -> Array:
    """Sum of w Y_lm over the edges of each row: (n_rows, L^2, functions), in chunks of edges of bounded size."""
    count = len(powers) if shells is None else shells.count
    total = jnp.zeros((n_rows, bandlimit**2, count), vectors.dtype)
    n_edges = len(rows)
    if n_edges == 0:
        return total
    size = min(n_edges, max(1, _CHUNK_NUMBERS // (bandlimit**2 * count)))
    vectors, charges, rows = _padded(vectors, charges, rows, -n_edges % size)

    # Recomputed in the backward pass: what would be stored is (all edges, L^2, powers).
    terms = jax.checkpoint(lambda vectors, charges: edge_terms(vectors, charges, shells, powers, bandlimit, cutoff))

    def add(total, chunk):
        vectors, charges, rows = chunk
        return total.at[rows].add(terms(vectors, charges)), None

    chunks = (vectors.reshape(-1, size, 3), charges.reshape(-1, size), rows.reshape(-1, size))
    return jax.lax.scan(add, total, chunks)[0]


def edge_terms(
    vectors: Array,
    charges: Array,
    shells: Shells | None,
    powers: tuple[float | int, ...],
    bandlimit: int,
    cutoff: float | None,
) -> Float[Array, "e lm n"]:
    """w Y_lm of each edge, up to what all edges have in common (``common_factors``)."""
    distance, harmonics = jnp.linalg.norm(vectors, axis=-1), real_harmonics(vectors, bandlimit)
    if shells is None:
        weights = weigh(distance, charges, powers, cutoff)
    else:
        weights = shells.weights(distance, charges)
        harmonics = harmonics * shells.damping(distance, bandlimit)[:, _degrees(bandlimit)]
    return harmonics[:, :, None] * weights[:, None, :]


def common_factors(
    shells: Shells | None,
    powers: tuple[float | int, ...],
    length: float,
    angular_width: Any,
    bandlimit: int,
    n_elements: int,
    dtype,
) -> Float[Array | np.ndarray, "lm n"]:
    """What multiplies the sums over edges: the profile's gains and r_0^p, or the scale of shells."""
    if shells is not None:
        arrays: Any = (
            jnp if isinstance(shells.scale, jax.Array) else np
        )  # a step of dynamics has no time for small programs
        whole = arrays.full((bandlimit**2, shells.count), math.sqrt(n_elements * shells.count), dtype)
        return whole * arrays.asarray(shells.scale, dtype)
    lengths = np.asarray([float(length) ** p for p in powers], dtype)
    return profile_gains(angular_width, bandlimit, dtype)[_degrees(bandlimit), None] * lengths


def weigh(distance: Array, charges: Array, powers: tuple[float | int, ...], cutoff: float | None) -> Array:
    """z_i z_j s(r) / r^p, for a length of one: (edges, powers)."""
    weights = jnp.stack([charges / distance**p for p in powers], axis=-1)
    return weights if cutoff is None else weights * _switch(distance, cutoff)[:, None]


def _switch(distance: Array, cutoff: float) -> Array:
    return smooth_fall((distance / cutoff - SWITCH_START) / (1 - SWITCH_START))


def split_radial(
    radial: Powers | Shells | None, powers: Any, length: Any, cutoff: Any, angular_width: Any, where: str
) -> tuple[Any, Any, Shells | None]:
    """Powers, their length, and shells. ValueError where what is given twice would be ignored, TypeError for other bases."""
    if radial is None:
        return powers, length, None
    if not isinstance(radial, Powers | Shells):
        raise TypeError(f"{where}: expected radial to be Powers(...), Shells(...) or None, got {radial!r}.")
    given = {
        "powers": powers if tuple(np.atleast_1d(powers)) != (2, 6) else None,
        "length": None if length == 1.0 else length,
    }
    if isinstance(radial, Shells):
        given |= {"cutoff": cutoff, "angular_width": angular_width}
    twice = [name for name, value in given.items() if value is not None]
    if twice:
        raise ValueError(
            f"{where}: radial={type(radial).__name__}(...) has its own {', '.join(twice)}. Leave {', '.join(twice)} unset, "
            "or give these to the radial basis."
        )
    return (radial.powers, radial.length, None) if isinstance(radial, Powers) else ((2, 6), 1.0, radial)


def _check_powers(powers, where: str) -> tuple[float | int, ...]:
    powers = tuple(powers) if np.iterable(powers) else (powers,)
    if not powers or not all(isinstance(p, int | float | np.number) and 0 < p < np.inf for p in powers):
        raise ValueError(f"{where}: expected one or more positive powers of 1/r, got {powers!r}.")
    return tuple(p.item() if isinstance(p, np.number) else p for p in powers)


def _check_cutoff(cutoff, where: str) -> float | None:
    if cutoff is not None and not 0 < cutoff < np.inf:
        raise ValueError(f"{where}: expected a positive cutoff in Angstrom, or None for no cutoff, got {cutoff!r}.")
    return None if cutoff is None else float(cutoff)


def _host_integers(array, name: str, n: int, where: str) -> np.ndarray:
    refuse_masked(array, f"{where}: {name}")
    host = concrete(array)
    if host is None:
        raise TypeError(
            f"{where}: {name} is traced, but the list of pairs is made from it on the host. Under jax.jit "
            f"close over {name} as a NumPy array, or mark it static and pass a tuple."
        )
    if host.shape != (n,) or not np.issubdtype(host.dtype, np.integer):
        raise ValueError(
            f"{where}: expected {name} to hold {n} integers, one per position, got {host.dtype}{list(host.shape)}."
        )
    return host.astype(np.int64)
