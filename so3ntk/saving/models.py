"""``save`` and ``load``: networks and fitted estimators, as files that say whether they still predict the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from importlib.metadata import version
from os import PathLike, fspath
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

import so3ntk.saving.known  # noqa: F401 - the classes of files
from so3ntk.basics.arguments import check_flag
from so3ntk.basics.files import writable_file
from so3ntk.basics.version import __version__
from so3ntk.engine.network import Network
from so3ntk.errors import ModelFileError, PrecisionError
from so3ntk.molecules.baseline import CompositionBaseline
from so3ntk.saving import archive
from so3ntk.saving.codec import decode, encode
from so3ntk.saving.estimators import ESTIMATORS, is_double, record_of

logger = logging.getLogger("so3ntk")

FORMAT, VERSION = "so3ntk model", 1


#: Parameters that files from before there were any do not hold: they have their defaults.
LATER = {"class_weight"}


def save(model: Any, path: str | PathLike, *, spectrum: bool = True, about: Mapping[str, Any] | None = None) -> None:
    """Write an estimator, a ``Network`` or a ``CompositionBaseline`` to one file; or a dict of them, under names.

    Estimators are ``KernelRegressor``, ``KernelClassifier``, ``InducingRegressor``, ``InducingClassifier``,
    ``TensorKernelRegressor`` and ``EnergyForceRegressor``. The
    file is an npz archive: arrays, and model.json with the layers, parameters, versions and the predictions for three
    training inputs. Estimators must be fitted; the training inputs are stored with them. spectrum=False leaves out the
    eigenvectors of the kernel (its Cholesky factor, of energies and forces), 8 n^2 bytes for n rows, without which there
    is no ``return_std``. about: what else to keep with an estimator, values of JSON by name, such as {"unit": "kcal/mol"}; None
    for what it has as ``about_`` already, which is where ``load`` puts it.

    Raises TypeError for functions and objects that a file cannot name (see ``so3ntk.saving.register``), NotFittedError,
    and ValueError and OSError for a path where no file can be written, before anything is computed.
    """
    check_flag(spectrum, "save", "spectrum")
    path = writable_file(path, "save")
    _check_about(model, about)
    arrays: dict[str, np.ndarray] = {}
    models = model if isinstance(model, dict) else {"model": model}
    if not models or not all(isinstance(name, str) for name in models):
        raise TypeError(f"save: expected a dict of models under text as names, got the names {list(models)!r}.")
    document = {
        "format": FORMAT,
        "format_version": VERSION,
        "versions": _versions(),
        "double_precision": is_double(),
        "named": isinstance(model, dict),
        "models": {name: _encode_model(one, str(name), arrays, spectrum, about) for name, one in models.items()},
    }
    archive.write(path, document, arrays)


def load(path: str | PathLike, *, check: bool = False) -> Any:
    """What ``save`` wrote. check: predict the three training inputs anew, and PrecisionError unless they agree.

    Raises FileNotFoundError, and ModelFileError, with nothing loaded, for a file that is damaged, holds pickles, names
    unknown classes or functions, or was written by a newer version. ValueError for a model in double precision where
    JAX is set to single. Versions other than these are noted in the log.
    """
    check_flag(check, "load", "check")
    document, arrays = read_document(path)
    if document.get("double_precision") and not is_double():
        raise ValueError(
            f"load: {path} was saved in double precision, but JAX is set to 32 bits. Call "
            "jax.config.update('jax_enable_x64', True) first."
        )
    if document.get("versions") != _versions():
        logger.info("load: %s was written by %s, this is %s", path, document.get("versions"), _versions())
    try:
        models = {name: _decode_model(spec, arrays) for name, spec in document["models"].items()}
        if check:
            for name, spec in document["models"].items():
                _check_predictions(models[name], spec, arrays, f"load: {path}, {name}")
    except (ModelFileError, KeyError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"load: {path}: {error}.") from error
    return models if document.get("named") is True else models["model"]


def read_document(path: str | PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The document and the arrays of a file of this version. Errors as those of ``load``."""
    document, arrays = archive.read(path)
    if document.get("format") != FORMAT or not isinstance(document.get("models"), dict):
        raise ModelFileError(f"load: {path} is not a saved model: its format is {document.get('format')!r:.40}.")
    if document.get("format_version") != VERSION:
        raise ModelFileError(
            f"load: {path} has the format version {document.get('format_version')!r:.20}, and this version of so3ntk reads "
            f"{VERSION}. It was written by {document.get('versions')!r:.200}."
        )
    return document, arrays


def _check_about(model: Any, about: Any) -> None:
    if about is None:
        return
    if record_of(type(model)) is None:
        raise TypeError(f"save: about is kept with an estimator, got {about!r:.60} for a {type(model).__name__}.")
    try:
        fine = isinstance(about, Mapping) and bool(json.dumps(dict(about), allow_nan=False))
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise TypeError(
            f"save: expected about to be a dict of text, numbers, lists and dicts of them, without NaN, got {about!r:.200}."
        )


def _encode_model(
    model: Any, name: str, arrays: dict[str, np.ndarray], spectrum: bool, about: Mapping[str, Any] | None
) -> dict[str, Any]:
    record = record_of(type(model))
    if record is None:
        if not isinstance(model, Network | CompositionBaseline):
            *others, last = ESTIMATORS
            raise TypeError(
                f"save: expected a Network, a {', a '.join(others)}, an {last}, a CompositionBaseline or a dict of them, "
                f"got {type(model).__name__}."
            )
        return {"object": encode(model, name, arrays)}
    check_is_fitted(model)
    predictions, tolerance = record.fingerprint(model)
    left_out = () if spectrum else record.spectral
    fitted = {key: value for key, value in record.state(model).items() if key not in left_out}
    about = getattr(model, "about_", {}) if about is None else about
    return {
        "estimator": type(model).__name__,
        **({"about": dict(about)} if about else {}),
        "parameters": {
            k: encode(_parameter(v), f"{name}.{k}", arrays) for k, v in model.get_params(deep=False).items()
        },
        "fitted": {k: encode(v, f"{name}.{k}", arrays) for k, v in fitted.items()},
        "predictions": encode(predictions, f"{name}.predictions", arrays),
        "tolerance": tolerance,
    }


def _parameter(value: Any) -> Any:
    """As a file holds it: paths as text, and no connection to a cluster."""
    if isinstance(value, PathLike):
        return fspath(value)
    return None if hasattr(value, "submit") else value


def _decode_model(spec: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    if "object" in spec:
        return decode(spec["object"], arrays)
    parameters = {key: decode(value, arrays) for key, value in spec["parameters"].items()}
    cls = ESTIMATORS.get(spec["estimator"])
    record = record_of(cls)
    if (
        cls is None
        or record is None
        or not set(parameters) | LATER >= set(cls._get_param_names()) >= set(parameters)
        or not set(spec["fitted"]) <= set(record.names)
    ):
        raise ModelFileError(f"the estimator {spec['estimator']!r:.40} or one of its attributes is not known")
    model, fitted = cls(**parameters), {key: decode(value, arrays) for key, value in spec["fitted"].items()}
    try:
        record.restore(model, fitted)
    except (ValueError, TypeError) as error:  # whatever wrong values lead the parts of a model to raise
        raise ModelFileError(f"the {cls.__name__} cannot be made of what the file holds ({error})") from error
    if "about" in spec:
        model.about_ = about_of(spec)
    return model


def about_of(spec: dict[str, Any]) -> dict[str, Any]:
    """What a file says about a model beside it; ModelFileError for what ``save`` does not write."""
    about = spec.get("about", {})
    if not isinstance(about, dict):
        raise ModelFileError(f"expected what is said about a model to be a dict, got {about!r:.40}")
    return about


def _check_predictions(model: Any, spec: dict[str, Any], arrays: dict[str, np.ndarray], where: str) -> None:
    if "object" in spec:
        return
    kept, tolerance = np.asarray(decode(spec["predictions"], arrays)), float(spec["tolerance"])
    now, _ = record_of(type(model)).fingerprint(model)  # pyright: ignore[reportOptionalMemberAccess]
    error = float(np.abs(now - kept).max()) if now.shape == kept.shape else np.inf
    if not error <= tolerance:
        raise PrecisionError(
            f"{where}: predictions for the first training inputs differ by {error:.3g} from those at the time of saving, "
            f"more than rounding ({tolerance:.3g}). The versions of then are in the file's model.json."
        )
    logger.info("%s: predictions agree to %.1e", where, error)


def _versions() -> dict[str, str]:
    """Of so3ntk and of what predictions depend on."""
    others = {name: version(name) for name in ("jax", "jaxlib", "numpy", "scikit-learn", "s2fft")}
    return {"so3ntk": __version__, **others}
