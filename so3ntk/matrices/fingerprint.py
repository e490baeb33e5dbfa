"""What decides the numbers of a Gram matrix, as text that can be stored, compared and hashed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import singledispatch
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from scipy.spatial.transform import Rotation

from so3ntk.basics.version import __version__
from so3ntk.engine.activations import Elementwise
from so3ntk.engine.layers.reduction import Parts
from so3ntk.engine.network import Network
from so3ntk.engine.plan import Plan

#: Of descriptions: stores whose kernels are the same numbers have the same, whatever version of the package wrote them.
#: It is the version under which the first were written, and stays until a description or its kernels change.
FORMAT = "0.1.0"


def fingerprint(net: Network, plan: Plan) -> dict[str, Any]:
    """Network, rotation grid, data and dtype: equal for two runs whose kernels are the same numbers.

    Hyperparameters and settings stand as they are; arrays as their shape, dtype and SHA-256. Raises ValueError for an
    ``Elementwise`` whose function has no name.
    """
    return {
        "network": describe(net.layers),
        "quadrature": describe(plan.sampling),
        "x1": _describe_batch(plan.f, plan.rows),
        "x2": None if plan.symmetric else _describe_batch(plan.g, plan.columns),
        "dtype": str(np.dtype(plan.dtype)),
        "so3ntk": FORMAT,
    }


def digest(description: object) -> str:
    """SHA-256 of a description."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def differences(stored: object, given: object, where: str = "") -> list[str]:
    """One line for each entry in which two descriptions differ."""
    if isinstance(stored, dict) and isinstance(given, dict) and stored.keys() == given.keys():
        return [line for key in stored for line in differences(stored[key], given[key], f"{where}.{key}".lstrip("."))]
    if isinstance(stored, list) and isinstance(given, list) and len(stored) == len(given):
        pairs = enumerate(zip(stored, given, strict=True))
        return [line for k, (a, b) in pairs for line in differences(a, b, f"{where}[{k}]")]
    return [] if stored == given else [f"{where}: {_short(stored)} in the store, {_short(given)} now"]


def versions() -> dict[str, str]:
    """Of so3ntk and of what the last bits of its numbers depend on: libraries, and the kind of device."""
    others = {name: version(name) for name in ("jax", "jaxlib", "numpy", "s2fft")}
    return {"so3ntk": __version__, **others, "platform": jax.default_backend()}


@singledispatch
def describe(value: Any) -> Any:
    """A value in terms that JSON holds: the same for equal values, in any process."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _describe_array(np.asarray(value))
    if dataclasses.is_dataclass(value):  # layers and grids
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__qualname__, **fields}
    if hasattr(value, "__dict__") and not callable(value):
        return {"class": type(value).__qualname__, **{k: describe(v) for k, v in sorted(vars(value).items())}}
    raise TypeError(
        f"store: a network that holds {value!r} cannot be told from others, so its kernels cannot be stored."
    )


@describe.register
def _(value: Rotation) -> str:
    return _describe_array(value.as_matrix())


@describe.register
def _(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


@describe.register
def _(value: Elementwise) -> dict[str, Any]:
    """Its name, and its values at some points: a function that was changed under the same name is another."""
    if value.name in ("<lambda>", type(value.fn).__name__):
        raise ValueError(
            "store: an Elementwise(fn) of a lambda or of an object has no name to be recognised by. Give it one: "
            f"Elementwise(fn, name=...), got {value.name!r}."
        )
    points = np.linspace(-3, 3, 13, dtype=np.float32)
    functions = {name: getattr(value, name) for name in ("fn", "derivative")}
    values = {k: fn and [f"{v:.4g}" for v in np.asarray(fn(points), float).tolist()] for k, fn in functions.items()}
    return {"class": "Elementwise", "name": value.name, "nodes": value.nodes, "kinked": value.kinked, **values}


def _describe_array(array: np.ndarray) -> Any:
    if array.ndim == 0:
        return array.item()
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"{array.dtype} {array.shape} sha256:{content}"


def _describe_batch(arrays: PyTree, parts: Parts) -> dict[str, Any]:
    content = [_describe_array(np.asarray(leaf)) for leaf in jax.tree.leaves(arrays)]
    return {
        "inputs": parts.count,
        "signals": content,
        "owner": _describe_array(parts.owner),
        "kind": _describe_array(parts.kind),
    }


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
