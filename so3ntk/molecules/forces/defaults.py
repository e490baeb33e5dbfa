"""The default network and environments for energies and forces, and what a network and settings must be for these."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

from so3ntk.basics.caller import warn
from so3ntk.engine.activations import Erf, Products, Sign
from so3ntk.engine.layers import Dense, GroupPool
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.network import Network, check_kernel_name, serial
from so3ntk.molecules.atom_sum import AtomSum
from so3ntk.molecules.environments import environments
from so3ntk.molecules.radial import Shells
from so3ntk.sphere.haar import ProductGrid
from so3ntk.sphere.layers.lift import Lift

#: The environments for forces: ``environments(atoms, **FORCE_ENVIRONMENTS)``.
#: Chosen by the forces of training molecules that are left out (benchmarks/RESULTS.md); the scale makes the median variance of
#: QM9's atoms one.
FORCE_ENVIRONMENTS: dict[str, Any] = {"radial": Shells(width=0.1, growth=0.3, decay=2.0, scale=6.1), "bandlimit": 4}


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


@functools.cache
def default_network() -> Network:
    """``force_network()``, made once: a step of dynamics asks for it."""
    return force_network()


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
