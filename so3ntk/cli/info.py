"""``so3ntk info``: what a saved model is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from so3ntk.cli.results import HelpFormatter, add_message_options


def add_command(commands: Any) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "info",
        help="what a saved model is",
        description="Print the class, network, elements, unit, data, noises and sizes of a saved model, without computing anything.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a file of so3ntk fit or so3ntk.save")
    add_message_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one line for each fact."""
    from so3ntk.saving import describe

    found = describe(args.model)
    lines = [("file", f"{args.model}, {Path(args.model).stat().st_size / 2**20:.1f} MiB")]
    for name, model in found.models.items():
        if len(found.models) > 1:
            lines.append(("", ""))
        lines += [("model", f"{model.name}" + (f" ({name})" if name != "model" else "")), *_facts(model)]
    lines.append(("written by", ", ".join(f"{name} {version}" for name, version in found.versions.items())))
    lines.append(("precision", "double (jax_enable_x64)" if found.double_precision else "JAX's default"))
    print("\n".join(f"{name:<17}{text}".rstrip() for name, text in lines))
    return 0


def _facts(model: Any) -> list[tuple[str, str]]:
    """Of one model, what matters most first."""
    parameters, fitted, about = dict(model.parameters), dict(model.fitted), dict(model.about)
    lines = [("network", _network(parameters.pop("net", None), model.name))] if "net" in parameters else []
    if "species_" in fitted:
        from so3ntk.molecules.elements import SYMBOLS

        lines.append(("elements", ", ".join(SYMBOLS[z] for z in fitted.pop("species_"))))
    if "unit" in about:
        lines.append(("unit", f"{about.pop('unit')}, lengths in {about.pop('length_unit', 'Angstrom')}"))
    if "counts" in about:
        about.pop("keys", None)  # which are said there
        lines.append(("trained on", str(about.pop("counts"))))
    elif "atoms" in fitted and parameters.get("inducing") is None:
        lines.append(("trained on", f"{len(fitted['atoms']['sizes'])} frames of {sum(fitted['atoms']['sizes'])} atoms"))
    for one in about.pop("files", []):
        lines.append(("", f"{one['file']}: train {one['train'] or 'none'}; test {one['test'] or 'none'}"))
    for name, errors in about.pop("errors", {}).items():
        lines.append((name, f"MAE {errors['mae']:.4g}, RMSE {errors['rmse']:.4g} on {errors['count']} held out"))
    fitted.pop("atoms", None)
    parameters.pop("progress", None)
    if "baseline_" in fitted:
        about.pop("baseline", None)
        parameters.pop("baseline", None)
    rest = {**about, **{name: value for name, value in parameters.items() if value is not None}, **fitted}
    return lines + [(str(name).rstrip("_"), _short(value)) for name, value in rest.items()]


def _network(net: Any, name: str) -> str:
    """The layers; None is the default of a regressor of forces."""
    from so3ntk.molecules import force_network

    if net is None and name == "EnergyForceRegressor":
        return _network(force_network(), name) + " (the default)"
    layers = getattr(net, "layers", None)
    return str(net) if layers is None else ", ".join(type(layer).__name__ for layer in layers)


def _short(value: Any) -> str:
    """Numbers as they are, arrays by their shapes, energies of elements by symbol, the rest on a line."""
    from so3ntk.molecules import CompositionBaseline
    from so3ntk.molecules.elements import SYMBOLS

    if isinstance(value, CompositionBaseline):
        pairs = zip(value.elements, np.ravel(value.values), strict=False)
        return ", ".join(f"{SYMBOLS[z]} {energy:.6g}" for z, energy in pairs)
    if np.ndim(value) and hasattr(value, "dtype"):
        return f"array {list(np.shape(value))}"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(one)}" for name, one in value.items())
    return " ".join(str(value).split())
