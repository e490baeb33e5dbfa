"""Learning curves on QM9 beside SOAP and FCHL19: errors and Gram times of the same molecules.

    python benchmarks/learning_qm9.py [--seeds 0 1 2] [--sizes 50 100 200] [--test 150] [--path FILE] [--only NTK] [--fit 24]
    JAX_ENABLE_X64=1 python benchmarks/learning_qm9.py --seeds 0 --sizes 200 500 1000 --only NTK SOAP FCHL19

Install ``so3ntk[molecules,peers]``. For each seed: max(sizes) + test molecules, U0 after a composition fit on the
training molecules, ridges by leave-one-out (KernelRegressor) for every kernel alike. Printed: the mean absolute error
in kcal/mol averaged over the seeds, and in brackets the seeds' values at the largest size; and the seconds each Gram
matrix of all molecules took, one after the other in this process, compilation and representations included.

SO(3), MLP: the documented network for energies (so3ntk.molecules.energies), NTK and NNGP, rotation grid calibrated to
rtol on the first seed's environments, in JAX's default precision: float32, or double as in the second line. SOAP: dscribe, n = 8, l = 6, zeta = 2, summed over pairs of like atoms. FCHL19: qmllib's
local kernel, sigma = 2 and 20. --fit: "fitted" is the NTK whose bias and channel weights (one for each element and power)
have the largest marginal likelihood on the first N training molecules of each seed (so3ntk.fit_hyperparameters on 12 x 6 x
12 rotations, from the documented network); in double precision only.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import time
from collections import defaultdict
from importlib.metadata import version

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from ase.units import kcal, mol
from peers import SOAP_CUTOFF, SOAP_WIDTH, fchl19_kernel, soap_kernel

from so3ntk import ProductGrid, fit_hyperparameters, gram
from so3ntk.molecules import CompositionBaseline, environments, load_qm9
from so3ntk.molecules.energies import ENERGY_ENVIRONMENTS, energy_network, learning_curve, mlp_network

#: Steps of L-BFGS.
STEPS = 12


def fitted(net, atoms, y, count):
    """The network with the bias and the channel weights that are likeliest on the first molecules."""
    x = environments(atoms, **ENERGY_ENVIRONMENTS)[:count]
    atoms, y = atoms[:count], y[:count]
    ones = jnp.ones(x.signal.channels)
    net = eqx.tree_at(lambda net: net.layers[0].channel_weights, net, ones, is_leaf=lambda leaf: leaf is None)
    coarse = dataclasses.replace(net, quadrature=ProductGrid(12))
    fit = fit_hyperparameters(
        coarse, x, y - CompositionBaseline().fit(atoms, y).predict(atoms), ridge=0.1, steps=STEPS,
        select=lambda net: [net.layers[0].b_std, net.layers[0].channel_weights],
    )  # fmt: skip
    lift = fit.net.layers[0]
    print(f"fitted on {count} molecules: loss {fit.history[0]:.2f} to {fit.loss:.2f}, ridge {fit.ridge:.2e}, "
          f"b_std {lift.b_std:.3g}, weights {np.round(np.asarray(lift.channel_weights), 2).tolist()}", flush=True)  # fmt: skip
    return dataclasses.replace(fit.net, quadrature=net.quadrature)


def kernels_of(atoms, networks, seconds, only) -> dict[str, np.ndarray]:
    """The Gram matrices whose names have one of the words ``only``, or all; appends the seconds each took."""

    def timed(name, make):
        begun = time.perf_counter()
        matrix = np.asarray(make(), np.float64)
        seconds[name].append(time.perf_counter() - begun)
        return matrix

    def network_kernel(net, get):
        return gram(net, environments(atoms, **ENERGY_ENVIRONMENTS), get=get, progress=False)

    calls = {
        "MLP, NTK": lambda: network_kernel(networks["mlp"], "ntk"),
        "SO(3), NTK": lambda: network_kernel(networks["so3"], "ntk"),
        "SO(3), NTK, fitted": lambda: network_kernel(networks["fitted"], "ntk"),
        "SO(3), NNGP": lambda: network_kernel(networks["so3"], "nngp"),
        f"SOAP, {SOAP_CUTOFF:g} A, {SOAP_WIDTH:g} A": lambda: soap_kernel(atoms),
        "FCHL19, sigma 2": lambda: fchl19_kernel(atoms, 2.0),
        "FCHL19, sigma 20": lambda: fchl19_kernel(atoms, 20.0),
    }
    if "fitted" not in networks:
        del calls["SO(3), NTK, fitted"]
    chosen = [name for name in calls if not only or any(word in name for word in only)]
    return {name: timed(name, calls[name]) for name in chosen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--test", type=int, default=150)
    parser.add_argument("--rtol", type=float, default=1e-5)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="kernels whose names have one of these; default: all")
    parser.add_argument("--fit", type=int, metavar="N", help="molecules to fit hyperparameters on")
    parser.add_argument("--path", help="QM9 as npz or CSV folder; default: package qm9pack")
    args = parser.parse_args()
    if args.fit and not jax.config.jax_enable_x64:  # pyright: ignore
        parser.error("--fit needs double precision: set the environment variable JAX_ENABLE_X64=1")
    networks = {"mlp": mlp_network(), "so3": energy_network(rtol=args.rtol)}
    errors, seconds = defaultdict(list), defaultdict(list)
    for seed in args.seeds:
        data = load_qm9(max(args.sizes) + args.test, seed=seed, path=args.path)
        if seed == args.seeds[0]:
            networks["so3"] = networks["so3"].calibrate(environments(data.atoms, **ENERGY_ENVIRONMENTS))
        if args.fit:
            networks["fitted"] = fitted(networks["so3"], data.atoms, data.targets / (kcal / mol), args.fit)
        kernels = kernels_of(data.atoms, networks, seconds, args.only)
        for point in learning_curve(kernels, data.atoms, data.targets / (kcal / mol), args.sizes, args.test):
            errors[point.method, point.size].append(point.mae)
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "dscribe", "qmllib"))
    precision = "double" if jax.config.jax_enable_x64 else "single"  # pyright: ignore
    print(f"{platform.machine()}, {len(jax.devices())} {jax.devices()[0].platform} device(s), Python "
          f"{platform.python_version()}, {versions}, {precision} precision; {ENERGY_ENVIRONMENTS}; grid {networks['so3'].quadrature}")  # fmt: skip
    print(f"{'MAE of U0 [kcal/mol], training molecules':<42}" + "".join(f"{s:>8}" for s in args.sizes)
          + f"{'Gram [s]':>10}   seeds {args.seeds}")  # fmt: skip
    for method in dict.fromkeys(name for name, _ in errors):
        means = "".join(f"{np.mean(errors[method, size]):>8.2f}" for size in args.sizes)
        each = ", ".join(f"{error:.2f}" for error in errors[method, args.sizes[-1]])
        taken = f"{np.median(seconds[method]):>10.1f}" if method in seconds else f"{'':>10}"
        print(f"{method:<42}{means}{taken}   ({each})", flush=True)


if __name__ == "__main__":
    main()
