"""Which classes and functions a file may name. A file cannot make anything else be imported or called.

Layers of ``so3ntk`` and ``planar`` are known by their class, and arguments of their constructors are their fields. Other
layers, and functions of ``Elementwise`` that jax does not have, are made known by ``register``.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from so3ntk.engine.layers.base import Layer

#: Packages whose layers are known; and modules whose functions are known, by the names in files.
PACKAGES = ("so3ntk", "planar")
FUNCTIONS = ("jax.numpy", "jax.nn", "jax.scipy.special", "jax.lax")


class Entry(NamedTuple):
    """A class in files: its name, the arguments to write of an object, and how to make one of them."""

    name: str
    cls: type
    arguments: Callable[[Any], dict[str, Any]]
    build: Callable[..., Any]


_classes: dict[type, Entry] = {}
_functions: dict[str, Callable] = {}


def register(
    target: Any,
    name: str | None = None,
    arguments: Callable[[Any], dict[str, Any]] | None = None,
    build: Callable[..., Any] | None = None,
) -> Any:
    """Make a class or a function known to ``save`` and ``load``, under its own name or another; returns it.

    arguments: of an object of the class, the keyword arguments that make an equal one; its dataclass fields by default.
    build: called with these; the class by default. The same must be registered before a file that names it is loaded.
    ValueError for a name that is taken.
    """
    name = str(getattr(target, "__name__", target)) if name is None else name
    taken = {entry.name: entry.cls for entry in _classes.values()} | _functions
    if taken.get(name, target) is not target:
        raise ValueError(f"register: the name {name!r} is taken by {taken[name]!r}; give another name=.")
    if isinstance(target, type):
        _classes[target] = Entry(name, target, arguments or fields_of, build or target)
    elif callable(target):
        _functions[name] = target
    else:
        raise TypeError(f"register: expected a class or a function, got {target!r}.")
    return target


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that its constructor takes."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}


def entry_of(cls: type) -> Entry | None:
    """The entry of a class: registered, or a layer of these packages."""
    if cls in _classes:
        return _classes[cls]
    package = cls.__module__.partition(".")[0]
    if issubclass(cls, Layer) and package in PACKAGES:
        return Entry(f"{package}.{cls.__name__}", cls, fields_of, cls)
    return None


def entry_named(name: str) -> Entry | None:
    """The entry of that name."""
    package = name.partition(".")[0]
    if package in PACKAGES:
        importlib.import_module(package)
    known = [*_classes.values(), *filter(None, map(entry_of, _subclasses(Layer)))]
    return next((entry for entry in known if entry.name == name), None)


def function_name(function: Callable) -> str | None:
    """The name of a registered function, or "jax.numpy.tanh"."""
    for name, known in _functions.items():
        if known is function:
            return name
    own = getattr(function, "__name__", "")
    found = (m for m in FUNCTIONS if own and getattr(importlib.import_module(m), own, None) is function)
    return next((f"{module}.{own}" for module in found), None)


def function_named(name: str) -> Callable | None:
    """The function of a name, None if there is none."""
    module, _, own = name.rpartition(".")
    if module in FUNCTIONS and not own.startswith("_"):
        found = getattr(importlib.import_module(module), own, None)
        return found if callable(found) else None
    return _functions.get(name)


def _subclasses(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)
