"""The methods that are compared on QM9, and one run: train on some molecules, predict others, and say what it took.

A method is a function (train atoms, train y, test atoms, settings, clock) -> ``Prediction``. All fit an intercept and a
composition, one number per element, without a penalty and in the same fit, and choose their ridge by exact leave-one-out.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest.mock import patch

import column_ridge
import jax
import numpy as np
from peers import PEERS
from records import Run, Stopwatch, peak_bytes, surroundings

import so3ntk
from so3ntk.learning.inducing import estimator
from so3ntk.molecules import environments, load_qm9, read_frames
from so3ntk.molecules.energies import ENERGY_ENVIRONMENTS, covering_order, energy_network, mlp_network

MIB = 2**20
#: Options of our networks, of which labels name those that are not default.
NETWORK_OPTIONS = {
    "inducing": None, "selection": "farthest", "activation": None, "b_std": None, "grid": None, "dtype": "float32", "deviations": False,
}  # fmt: skip
#: What a fit with inducing inputs consists of, by the functions that do it; the rest is "solve".
STAGES = {"selection": "choose_inducing", "prior": "prior_of", "features": "rows_of", "kernel": "kernel_of_all"}
#: Targets that grow with the molecule, of which composition is a part; others have an intercept alone.
EXTENSIVE = ("U0", "U298", "H298", "G298", "zpve", "Cv", "alpha", "r2")


class Prediction(NamedTuple):
    """values: of the test molecules. loo: the root mean square leave-one-out error. notes: of the fit, for the record.

    deviations: standard deviations of new targets, noise included, if they were asked for.
    """

    values: np.ndarray
    loo: float
    ridge: float
    notes: dict[str, Any]
    deviations: np.ndarray | None = None


def composition(
    train: Sequence[Any], y: np.ndarray, test: Sequence[Any], settings: Run, clock: Stopwatch
) -> Prediction:
    with clock("solve"):
        found = column_ridge.columns_alone(columns_of(train, train, settings), y)
    with clock("predict"):
        values = columns_of(test, train, settings) @ found.columns
    return Prediction(values, found.loo, found.ridge, {})


def peer(train: Sequence[Any], y: np.ndarray, test: Sequence[Any], settings: Run, clock: Stopwatch) -> Prediction:
    """Kernel ridge regression with one of the kernels of peers.py."""
    chosen = PEERS[settings["peer"]]
    elements = sorted({int(z) for molecule in train for z in molecule.numbers})
    options = {**settings, "elements": elements, "pad": max(len(molecule) for molecule in (*train, *test))}
    with clock("representation"):
        known = chosen.represent(train, options)
    with clock("features"):
        kernel = chosen.kernel(known, None, options)
    with clock("solve"):
        found = column_ridge.fit(kernel, columns_of(train, train, settings), y)
    with clock("predict"):
        cross = chosen.kernel(chosen.represent(test, options), known, options)
        values = cross @ found.weights + columns_of(test, train, settings) @ found.columns
    return Prediction(values, found.loo, found.ridge, {})


def network(train: Sequence[Any], y: np.ndarray, test: Sequence[Any], settings: Run, clock: Stopwatch) -> Prediction:
    """``InducingRegressor`` on atoms' environments; settings are ``NETWORK_OPTIONS`` and "method"."""
    net = network_of(settings["method"], settings)
    species = tuple(sorted({symbol for molecule in train for symbol in molecule.get_chemical_symbols()}))
    options = {**ENERGY_ENVIRONMENTS, "species": species, "dtype": settings["dtype"]}
    with clock("representation"):
        x = environments(train, **options)
    baseline = "auto" if settings.get("extensive", True) else None
    model = so3ntk.InducingRegressor(
        net, inducing=settings["inducing"], selection=settings["selection"], baseline=baseline
    )
    fit_in_stages(model, x, y, clock)
    with clock("predict"):
        values = model.predict(environments(test, **options))
    deviations = None
    if settings["deviations"]:
        with clock("deviations"):
            found = model.predict(environments(test, **options), return_std=True)[1]
        deviations = np.sqrt(found**2 + model.ridge_ * model.amplitude_**2)
    notes = {
        "inducing": len(model.dual_coef_),
        "all": model.whitening_ is None,
        "grid": grid_used(net, x),
        "jitter": 0.0 if model.whitening_ is None else model.whitening_.jitter,
        "x64": bool(jax.config.jax_enable_x64),  # pyright: ignore
    }
    return Prediction(values, model.loo_error_, model.ridge_, notes, deviations)


def fit_in_stages(model: Any, x: Any, y: np.ndarray, clock: Stopwatch) -> None:
    """The fit as it is, with a clock around the functions it is made of."""
    inner = Stopwatch()
    with ExitStack() as stack:
        for stage, name in STAGES.items():
            stack.enter_context(patch.object(estimator, name, inner.timed(stage, getattr(estimator, name))))
        whole = Stopwatch()
        with whole("fit"):
            model.fit(x, y)
    for stage, seconds in inner.seconds.items():
        clock.add(stage, seconds)
    clock.add("solve", whole.seconds["fit"] - sum(inner.seconds.values()))


def network_of(method: str, options: Run) -> Any:
    """The documented network for energies, or that without symmetry, with another activation or grid if one is named."""
    made = {} if options["activation"] is None else {"activation": activation_of(options["activation"])}
    if options["b_std"] is not None:
        made["b_std"] = options["b_std"]
    if method == "mlp":
        return mlp_network(**made)
    return energy_network(**made, **({} if options["grid"] is None else {"quadrature": grid_of(options["grid"])}))


def activation_of(text: str) -> Any:
    """An activation of so3ntk by its name and, in brackets, its arguments as Python's literals: Erf, Monomial(3)."""
    found = re.fullmatch(r"(\w+)(?:\((.*)\))?", text)
    made = getattr(so3ntk, found[1], None) if found else None
    if made is None:
        raise ValueError(f"expected the name of an activation of so3ntk, such as Erf or Monomial(3), got {text!r}.")
    return made(*(ast.literal_eval(f"({found[2]},)") if found[2] else ()))


def grid_of(text: str) -> Any:
    """A grid of rotations, n or nxn_beta: 12 is 12 x 6 x 12."""
    return so3ntk.ProductGrid(*(int(number) for number in text.split("x")))


def grid_used(net: Any, x: Any) -> str:
    """The grid that a network takes for such environments."""
    return repr(net.space.sampling(x.signal, net.quadrature, net.rtol))[:200]


def columns_of(atoms: Sequence[Any], train: Sequence[Any], settings: Run) -> np.ndarray:
    """A one, and for extensive targets how many atoms a molecule has of each element of the training molecules."""
    extensive = settings.get("extensive", True)
    elements = sorted({int(z) for molecule in train for z in molecule.numbers}) if extensive else []
    counts = [[1, *(np.count_nonzero(molecule.numbers == z) for z in elements)] for molecule in atoms]
    return np.array(counts, float)


Method = Callable[[Sequence[Any], np.ndarray, Sequence[Any], Run, Stopwatch], Prediction]
METHODS: dict[str, Method] = {
    "composition": composition, "mlp": network, "so3": network, **dict.fromkeys(PEERS, peer),
}  # fmt: skip
#: Those that are run unless others are named.
STANDARD = tuple(name for name in METHODS if name != "fchl18-alchemy")


def settings_of(method: str, options: Run) -> Run:
    """What a method depends on, written out: a run whose record has other settings is another run."""
    if method in PEERS:
        return {"peer": method, **PEERS[method].settings}
    if method == "composition":
        return {}
    own = {**NETWORK_OPTIONS, **options}
    if method == "mlp":
        own["grid"] = None
    described = {"environments": repr(ENERGY_ENVIRONMENTS), "network": repr(network_of(method, own))}
    return {"method": method, **own, **{name: re.sub(r"\s+", "", text) for name, text in described.items()}}


def labelled(records: Sequence[Run]) -> list[tuple[str, Run]]:
    """Records with what tables call them: the method, and those of its options that are not default.

    Settings that differ in other things, as after a change of the library's defaults, are numbered.
    """
    known: dict[str, list[Run]] = {}
    found = []
    for record in records:
        settings, text = record["run"]["settings"], label_of(record["run"])
        alike = known.setdefault(text, [])
        if settings not in alike:
            alike.append(settings)
        number = alike.index(settings)
        found.append((text + (f" #{number + 1}" if number else ""), record))
    return found


def label_of(run: Run) -> str:
    settings = run["settings"]
    own = {name: settings[name] for name in NETWORK_OPTIONS if name in settings and name != "deviations"}
    options = [f"{name} {value}" for name, value in own.items() if value != NETWORK_OPTIONS[name]]
    return ", ".join([run["method"], *options])


def runs_of(methods: Sequence[str], options: Run, seeds: Sequence[int], sizes: Sequence[int], data: Run) -> list[Run]:
    """One run for each seed, size and method; data: "data", "molecules", "test", and "target" unless that is U0."""
    settings = {method: settings_of(method, options) for method in methods}
    if data.get("target", "U0") not in EXTENSIVE:
        settings = {method: {**own, "extensive": False} for method, own in settings.items()}
    return [
        {**data, "seed": seed, "size": size, "method": method, "settings": settings[method]}
        for seed in seeds
        for size in sizes
        for method in methods
    ]


def split(run: Run, path: str | None) -> tuple[list[Any], np.ndarray, list[Any], np.ndarray]:
    """Training atoms and targets, test atoms and targets, the same for all methods; U0 in kcal/mol, others in the library's units.

    Tested are the last ``test`` molecules, trained on the first of the others, but for a few that are moved to the front so that all
    elements occur. Of fragments both are drawn from the parts that the file has for them.
    """
    from ase.units import kcal, mol

    if run.get("fragments"):
        train, valid = (read_frames(str(path), unit="kcal/mol", part=part) for part in ("train", "valid"))
        order = np.random.default_rng(run["seed"]).permutation(len(train))
        train, test = train[order], valid[np.random.default_rng(run["seed"] + 1).permutation(len(valid))[: run["test"]]]
        rows = covering_order(train.atoms, len(train))[: run["size"]]
        return [train.atoms[i] for i in rows], train.energies[rows], test.atoms, test.energies
    target = run.get("target", "U0")
    data = load_qm9(run["molecules"], seed=run["seed"], target=target, path=path)
    y, first = data.targets / (kcal / mol if target == "U0" else 1), run["molecules"] - run["test"]
    rows = covering_order(data.atoms, first)[: run["size"]]
    return [data.atoms[i] for i in rows], y[rows], data.atoms[first:], y[first:]


def measure(run: Run, path: str | None = None) -> Run:
    """The record of a run. Seconds begin with molecules in memory and packages imported, and end with predictions."""
    method = METHODS[run["method"]]
    modules = PEERS[run["method"]].packages if run["method"] in PEERS else ("jax",)
    for module in modules:
        importlib.import_module(module)
    train, y, test, truth = split(run, path)
    before, clock, whole = peak_bytes(), Stopwatch(), Stopwatch()
    with whole("total"):
        found = method(train, y, test, run["settings"], clock)
    error = found.values - truth
    total = whole.seconds["total"] - clock.seconds.get("deviations", 0.0)
    within = {} if found.deviations is None else {"within": float(np.mean(np.abs(error) < found.deviations))}
    return {
        **within,
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "loo": float(found.loo),
        "ridge": float(found.ridge),
        "seconds": {**clock.seconds, "total": total},
        "peak_mib": {"before": before // MIB, "whole": peak_bytes() // MIB},
        "notes": found.notes,
        **surroundings(sorted({"numpy", "jax", *(module.partition(".")[0] for module in modules)})),
    }
