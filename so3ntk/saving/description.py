"""What is in a file of models, without making them: for people who were sent one."""

from __future__ import annotations

from os import PathLike
from typing import Any, NamedTuple

from so3ntk.errors import ModelFileError
from so3ntk.saving.codec import decode
from so3ntk.saving.models import about_of, read_document


class Description(NamedTuple):
    """Of one model: its class, the parameters of its constructor, what ``fit`` found (all as they are in the model), and about."""

    name: str
    parameters: dict[str, Any]
    fitted: dict[str, Any]
    about: dict[str, Any]


class FileDescription(NamedTuple):
    """Of a file: models by name ("model" where one was saved alone), versions that wrote it, and whether JAX was set to 64 bits."""

    models: dict[str, Description]
    versions: dict[str, str]
    double_precision: bool


def describe(path: str | PathLike) -> FileDescription:
    """What ``save`` wrote, read without ``load``: nothing is computed. Errors as those of ``load``, but for precision."""
    document, arrays = read_document(path)
    try:
        models = {name: _describe(spec, arrays) for name, spec in document["models"].items()}
    except (KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelFileError(f"load: {path}: {error}.") from error
    return FileDescription(models, dict(document.get("versions", {})), bool(document.get("double_precision")))


def _describe(spec: dict[str, Any], arrays: dict[str, Any]) -> Description:
    if "object" in spec:
        value = decode(spec["object"], arrays)
        return Description(type(value).__name__, {"object": value}, {}, {})
    parameters, fitted = (
        {key: decode(value, arrays) for key, value in spec[part].items()} for part in ("parameters", "fitted")
    )
    return Description(str(spec["estimator"]), parameters, fitted, about_of(spec))
