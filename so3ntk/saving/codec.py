"""Objects as readable JSON, with their arrays apart.

Numbers, text and None stand for themselves; {"array": name} is an array of the file; {"class": name, "arguments": {...}} an
object of a known class; {"function": name}, {"tuple": [...]}, {"list": [...]}, {"dict": {...}}, {"float": "inf"} the rest.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from so3ntk.errors import ModelFileError
from so3ntk.saving.registry import entry_named, entry_of, function_name, function_named


def encode(value: object, where: str, arrays: dict[str, np.ndarray]) -> Any:
    """The JSON of a value; arrays are added under the place where they stand. TypeError for what has none."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _encode_array(value, where, arrays)
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [encode(item, f"{where}.{i}", arrays) for i, item in enumerate(value)]}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"save: expected text as the keys of {where}, got {list(value)!r}.")
        return {"dict": {key: encode(item, f"{where}.{key}", arrays) for key, item in value.items()}}
    return _encode_object(value, where, arrays)


def decode(spec: object, arrays: dict[str, np.ndarray]) -> Any:
    """The value of a JSON spec. ModelFileError for anything that ``encode`` does not write."""
    if spec is None or isinstance(spec, bool | int | float | str):
        return spec
    if not isinstance(spec, dict):
        raise ModelFileError(f"expected a value of a model, got {spec!r:.80}")
    match spec:
        case {"float": str(text)} if text in ("inf", "-inf", "nan"):
            return float(text)
        case {"array": str(name), "kind": str(kind)} if name in arrays and kind in ("numpy", "jax", "scalar", "text"):
            array = arrays[name]
            makers = {"numpy": lambda: array, "jax": lambda: jnp.asarray(array), "scalar": lambda: array[()],
                      "text": lambda: array.astype(object)}  # fmt: skip
            return makers[kind]()
        case {"tuple": list(items)}:
            return tuple(decode(item, arrays) for item in items)
        case {"list": list(items)}:
            return [decode(item, arrays) for item in items]
        case {"dict": dict(items)}:
            return {key: decode(item, arrays) for key, item in items.items()}
        case {"class": str(name), "arguments": dict(arguments)}:
            return _decode_object(name, arguments, arrays)
        case {"function": str(name)}:
            function = function_named(name)
            if function is None:
                raise ModelFileError(
                    f"the function {name!r} is not known: so3ntk.saving.register(function, {name!r}) first"
                )
            return function
    raise ModelFileError(f"expected a value of a model, got {spec!r:.80}")


def _encode_array(
    value: np.ndarray | np.generic | jax.Array, where: str, arrays: dict[str, np.ndarray]
) -> dict[str, str]:
    kind = "jax" if isinstance(value, jax.Array) else "numpy" if isinstance(value, np.ndarray) else "scalar"
    array = np.asarray(value)
    if array.dtype == object and all(isinstance(item, str) for item in array.flat):
        kind, array = "text", array.astype(str)
    if array.dtype.kind not in "biufcU":
        raise TypeError(f"save: {where} is an array of {array.dtype}, which is not saved; make it numbers or text.")
    arrays[where] = array
    return {"array": where, "kind": kind}


def _encode_object(value: object, where: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    entry = entry_of(type(value))
    if entry is not None:
        arguments = entry.arguments(value).items()
        return {"class": entry.name, "arguments": {k: encode(v, f"{where}.{k}", arrays) for k, v in arguments}}
    name = function_name(value) if callable(value) else None
    if name is not None:
        return {"function": name}
    if callable(value):
        raise TypeError(
            f"save: the function {where} = {value!r} is not one of jax.numpy, jax.nn or jax.scipy.special, so a file can "
            "not name it. Make it known with so3ntk.saving.register(function, name), here and before loading."
        )
    raise TypeError(
        f"save: {where} is a {type(value).__module__}.{type(value).__name__}, which is not saved. Layers of your own are "
        "made known with so3ntk.saving.register(cls)."
    )


def _decode_object(name: str, arguments: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    entry = entry_named(name)
    if entry is None:
        raise ModelFileError(
            f"the class {name!r} is not known: if it is yours, so3ntk.saving.register it first; else the file was written by "
            "another version"
        )
    values = {key: decode(item, arrays) for key, item in arguments.items()}
    try:
        return entry.build(**values)
    except ModelFileError:
        raise
    except Exception as error:  # whatever wrong arguments lead a constructor to raise
        raise ModelFileError(
            f"{name} cannot be made of what the file holds ({type(error).__name__}: {error})"
        ) from error
