"""A network's hyperparameters by name, as other libraries keep, bound and train them.

The name says where one stands: ``layers_0_W_std`` is ``net.layers[0].W_std``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from so3ntk.engine.demand import ends_in_field, readout_of
from so3ntk.engine.layers.base import is_traced
from so3ntk.engine.network import Network, check_kernel_name
from so3ntk.learning.inputs import default_network


def hyperparameters(net: Network) -> dict[str, Any]:
    """The numbers and arrays of a network by name, in the order of its layers, as they are stored.

    Without those that are zero somewhere: such a weight or bias is switched off, and no optimiser of logarithms reaches it.
    """
    return {name: leaf for name, leaf in _named(net) if is_traced(leaf) or np.all(np.asarray(leaf) != 0)}


def replaced(net: Network, values: Mapping[str, Any]) -> Network:
    """The network with other values of the hyperparameters that are named. ValueError for a name that there is not."""
    names = [name for name, _ in _named(net)]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"expected names of hyperparameters, of {', '.join(names)}; got {unknown[0]!r}.")
    leaves, structure = jax.tree.flatten(net)
    return jax.tree.unflatten(structure, [values.get(name, leaf) for name, leaf in zip(names, leaves, strict=True)])


def checked_network(net: Any, kernel: Any, where: str) -> Network:
    """The network, ``default_network`` for None. TypeError and ValueError for one whose kernels are not single numbers."""
    check_kernel_name(kernel, where)
    if not (net is None or isinstance(net, Network)):
        raise TypeError(f"{where}: expected net to be None or a Network (so3ntk.serial(...)), got {net!r}.")
    net = default_network() if net is None else net
    readout = readout_of(net.layers)
    if ends_in_field(net.layers) or (readout is not None and readout.shape):
        kind = "fields" if readout is None else "blocks"
        raise ValueError(f"{where}: kernels of this network are {kind}, one number is wanted. End it in GroupPool().")
    return net


def _named(net: Network) -> list[tuple[str, Any]]:
    return [(_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(net)[0]]


def _name(path: tuple) -> str:
    return re.sub(r"\W+", "_", jax.tree_util.keystr(path)).strip("_")
