"""Spectra by irreps, and depth scales against theory: what equivariant kernels learn first, and how deep networks train.

    python benchmarks/spectra_irreps.py [--groups SO3 O3 caps C1 C4 D4] [--depths 1 3 10] [--out FILE.json]
    python benchmarks/spectra_irreps.py --only rates        # needs mpmath
    python benchmarks/spectra_irreps.py --only caps

spectra: for each group, activation and number of hidden layers the largest eigenvalue of the tangent kernel's block Gram matrix in each
kind (degrees and parities on the sphere; orbits of wave vectors on images, shortest first) as a share of the first kind's: at a learning rate
of one over that, its inverse is the time to learn it. Eight random signals of bandlimit 3, two channels; eight of
scikit-learn's digits, 6 x 6 pixels, 3 x 3 windows. W_std = sqrt(2), b_std = 0.1 throughout, caps of 0.8. "exponent": of a power law in
l + 1 (or in 1 + the length of the wave vector) fitted to these.

rates: kappa - limit and the mean predictor on centred targets of the recursion at 60 digits, written out in mpmath for Erf, beside the
leading terms and the expansion of ``trainability``, matched at 200: factors of a layer, and their logarithms.

caps: a uniform field with small harmonics through the layers themselves, its factor in each degree beside chi_c w_l.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import planar
import so3ntk
from planar.datasets import load_digits, shrink
from so3ntk.spectra import irrep_spectrum, trainability
from so3ntk.spectra.asymptotes import expanded
from so3ntk.spectra.deep_networks import kernels_at
from so3ntk.spectra.fixed_points import fixed_points

ACTIVATIONS: dict[str, so3ntk.Layer] = {
    "relu": so3ntk.Relu(), "abs": so3ntk.Abs(), "erf": so3ntk.Erf(), "gelu": so3ntk.Gelu(), "sin": so3ntk.Sin(),
    "cos": so3ntk.Cos(),
}  # fmt: skip
WEIGHTS: dict[str, Any] = {"W_std": 2**0.5, "b_std": 0.1}
#: Rotations, and positions for caps: errors of a per cent of the smallest eigenvalues shown.
GRID = so3ntk.ProductGrid(16)
LOCAL_GRID = so3ntk.LocalGrid(so3ntk.ProductGrid(12), so3ntk.SphereGrid(10))


def network(group: str, activation: so3ntk.Layer, depth: int) -> so3ntk.Network:
    """So many hidden layers, before pooling."""
    if group in ("SO3", "O3"):
        first, later, quadrature = so3ntk.Lift(group=group, **WEIGHTS), so3ntk.GroupConv(**WEIGHTS), GRID
    elif group == "caps":
        first, later = so3ntk.Lift(support=0.8, **WEIGHTS), so3ntk.GroupConv(support=0.8, **WEIGHTS)
        quadrature = LOCAL_GRID
    else:
        first, later = planar.Lift((3, 3), group=group, **WEIGHTS), planar.GroupConv((3, 3), **WEIGHTS)
        quadrature = None
    hidden = [layer for _ in range(depth - 1) for layer in (activation, later)]
    return so3ntk.serial(first, *hidden, activation, so3ntk.GroupPool(), so3ntk.Dense(), quadrature=quadrature)


def signals(group: str) -> Any:
    """Eight of them, of mean square one."""
    rng = np.random.default_rng(0)
    if group in ("SO3", "O3", "caps"):
        count = 4 if group == "caps" else 8
        return so3ntk.SphereSignal(rng.normal(size=(count, 9, 2)) * np.sqrt(4 * np.pi / 9), 3)
    images = shrink(load_digits(), 6).images[:8].astype(np.float64)
    images = images - images.mean(axis=(1, 2, 3), keepdims=True)
    return images / np.sqrt((images**2).mean(axis=(1, 2, 3), keepdims=True))


def spectra(groups: list[str], depths: list[int]) -> list[dict[str, Any]]:
    """A row for each network, printed as it is found."""
    rows = []
    for group in groups:
        x, headed = signals(group), False
        for name, activation in ACTIVATIONS.items():
            for depth in depths:
                begun = time.perf_counter()
                found = irrep_spectrum(network(group, activation, depth), x, each_layer=False)
                largest = np.array([values[0] for values in found.eigenvalues])
                shares = largest / largest[0]
                sizes = np.array([_size(kind.key) for kind in found.kinds])
                used = (shares > 1e-9) & (sizes > 0)
                exponent = (
                    float(np.polyfit(np.log(1 + sizes[used]), np.log(shares[used]), 1)[0]) if used.sum() > 1 else np.nan
                )
                if not headed:
                    print(f"\n{group:5s} depth   exponent   " + "".join(f"{label:>10s}" for label in found.labels[:8]))
                    headed = True
                print(
                    f"{name:5s}{depth:6d}{exponent:11.2f}   " + "".join(f"{share:10.2e}" for share in shares[:8]),
                    flush=True,
                )
                rows.append({
                    "group": group, "activation": name, "depth": depth, "kinds": found.labels, "largest": largest.tolist(),
                    "sum": [float(values.sum()) for values in found.eigenvalues], "exponent": exponent,
                    "power": found.power[-1].tolist(), "seconds": time.perf_counter() - begun,
                })  # fmt: skip
    return rows


def _size(key: Any) -> float:
    """The degree, or the length of the wave vector."""
    if isinstance(key, tuple):
        return float(np.hypot(*(min(k, 6 - k) for k in key)))
    return float(key.degree)


def rates() -> list[dict[str, Any]]:
    """At 60 digits, for the two networks of Xiao et al."""
    import mpmath as mp  # pyright: ignore[reportMissingImports]

    mp.mp.dps = 60
    depths, n, rows = (80, 120, 160, 200, 300), 8, []
    vectors = np.random.default_rng(0).normal(size=(n + 1, n + 1))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    for w2 in ("1.25", "1.5"):
        w2, b2 = mp.mpf(w2), mp.mpf("0.05")
        q = mp.findroot(lambda q, w2=w2, b2=b2: w2 * 2 / mp.pi * mp.asin(2 * q / (1 + 2 * q)) + b2 - q, mp.mpf("0.5"))
        kernel = [[q if i == j else q * mp.mpf(float(cosines[i, j])) for j in range(n + 1)] for i in range(n + 1)]
        theta, exact = [list(row) for row in kernel], {}
        for depth in range(1, max(depths) + 2):
            for i in range(n + 1):
                for j in range(i, n + 1):
                    c = kernel[i][j]
                    slope = w2 * 4 / mp.pi / mp.sqrt((1 + 2 * q) ** 2 - 4 * c * c)
                    kernel[i][j] = kernel[j][i] = w2 * 2 / mp.pi * mp.asin(2 * c / (1 + 2 * q)) + b2
                    theta[i][j] = theta[j][i] = kernel[i][j] + slope * theta[i][j]
            if depth in depths or depth - 1 in depths:
                train = mp.matrix([[theta[i][j] for j in range(n)] for i in range(n)])
                values = mp.eigsy(train, eigvals_only=True)
                weights = mp.lu_solve(train, mp.matrix([theta[n][j] for j in range(n)]))
                mean = sum(weights) / n
                exact[depth] = values[n - 1] / values[0], mp.sqrt(sum((weight - mean) ** 2 for weight in weights))
        inputs = cosines * float(q)
        leading = trainability(so3ntk.Erf(), float(w2) ** 0.5, 0.05**0.5, [200], inputs=(inputs + inputs.T) / 2)
        shift = 1 if leading.phase == "chaotic" else 0
        ((kernel_200, theta_200),) = kernels_at(leading.block, (inputs + inputs.T) / 2, (200,))
        both = np.array([depth + step for depth in depths for step in (0.0, 1.0)])
        predicted = expanded(leading.block, fixed_points(leading.block), kernel_200, theta_200, both - 200)
        print(
            f"\nErf, W_std^2 = {float(w2)}, b_std^2 = 0.05: {leading.phase}; q* {leading.q_star:.8f} (60 digits: {mp.nstr(q, 9)})"
        )
        print("                 kappa" + " " * 48 + "mean predictor, centred targets")
        print(
            "  depth    factor   leading   log rate   leading    expanded    factor   leading   log rate   leading    expanded"
        )
        for depth in depths:
            line = f"  {depth:5d}"
            row: dict[str, Any] = {"W_std^2": float(w2), "depth": depth}
            for k, law in enumerate(leading.laws[:2]):
                low = shift if k == 0 else 0
                factor = float((exact[depth + 1][k] - low) / (exact[depth][k] - low))
                line += (
                    f"{factor:10.5f}{law.factor(depth):10.5f}{np.log(factor):11.5f}{np.log(law.factor(depth)):10.5f}"
                )
                row[("kappa", "P")[k]] = {"factor": factor, "leading": law.factor(depth)}
                at = 2 * depths.index(depth)
                pair = [float(values[k]) - low for values in predicted[at : at + 2]]
                line += f"{np.log(pair[1] / pair[0]):12.5f}"
                row[("kappa", "P")[k]]["expanded"] = pair[1] / pair[0]
            print(line)
            rows.append(row)
    return rows


def caps() -> list[dict[str, Any]]:
    """chi_c w_l, measured on fields."""
    from so3ntk.engine.state import State
    from so3ntk.sphere.harmonics import real_harmonics
    from so3ntk.sphere.local_support import LocalSphereGeometry

    grid, erf, rows = so3ntk.SphereGrid(20), so3ntk.Erf(), []
    harmonics = real_harmonics(grid.directions, 7)
    print("\nErf, W_std^2 = 1.5, b_std^2 = 0.05: factor of a layer in each degree, measured and chi_c w_l")
    for support in (0.5, 0.9, 1.5):
        conv = so3ntk.GroupConv(support=support, W_std=1.5**0.5, b_std=0.05**0.5)
        found = trainability(so3ntk.serial(erf, conv), depths=[1], modes=7)
        assert found.modes is not None
        shape = (8, -1, 1, 1)
        field = jnp.asarray(found.c_star * found.q_star + 1e-4 * harmonics.sum(axis=1)).reshape(shape)
        variance = found.q_star * jnp.ones_like(field)
        states: list[Any] = [State(LocalSphereGeometry(grid, jnp.ones(1)), field, field, variance, variance)]
        for _ in range(2):
            states.append(conv(erf(states[-1])))
        parts = [harmonics.T @ (grid.weights * np.asarray(state.nngp).ravel()) for state in states]
        line = f"  cap {support}: "
        for degree in range(1, 7):
            at = slice(degree**2, (degree + 1) ** 2)
            measured = float(parts[2][at] @ parts[1][at] / (parts[1][at] @ parts[1][at]))
            line += f"  {degree}: {measured:+.5f} {found.modes.factor[degree]:+.5f}"
            rows.append(
                {
                    "support": support,
                    "degree": degree,
                    "measured": measured,
                    "predicted": float(found.modes.factor[degree]),
                }
            )
        print(line)
    return rows


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("spectra", "rates", "caps"), help="one part; default: all")
    parser.add_argument("--groups", nargs="+", default=["SO3", "O3", "caps", "C1", "C4", "D4"])
    parser.add_argument("--depths", nargs="+", type=int, default=[1, 3, 10])
    parser.add_argument("--out", type=Path, help="file of JSON for the numbers")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results: dict[str, Any] = {}
    if args.only in (None, "spectra"):
        results["spectra"] = spectra(args.groups, args.depths)
    if args.only in (None, "rates"):
        results["rates"] = rates()
    if args.only in (None, "caps"):
        results["caps"] = caps()
    if args.out is not None:
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
