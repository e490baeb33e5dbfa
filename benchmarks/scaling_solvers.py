"""Times and errors of the solvers by N, and the cost of a gradient in hyperparameters.

    python benchmarks/scaling_solvers.py [--sizes 1000 2000 4000] [--molecules 0] [--memory 2GiB] [--out file.json]

The kernel is that of ``default_network`` on random points of the unit sphere in eight dimensions, stored on disk in
float64 (a memory map) and solved from there; the ridge is 1e-6 of the mean of its diagonal. Errors are those of
predictions for 200 test points, relative to their root mean square, against Cholesky on the same kernel.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import so3ntk  # noqa: E402
from so3ntk.learning.inputs import default_network  # noqa: E402
from so3ntk.learning.solvers import BlockedCholesky, Cholesky, ConjugateGradients, Eigen, Nystrom  # noqa: E402

METHODS = (
    Cholesky(),
    Eigen(),
    BlockedCholesky(block=512),
    ConjugateGradients(rank=128),
    ConjugateGradients(rank=512),
    Nystrom(rank=128),
    Nystrom(rank=512),
)


def problem(n: int, test: int = 200):
    """Points on the sphere, a rough function of them with noise, and both kernels."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n + test, 8))
    x *= 8**0.5 / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.sin(3 * x[:, 0]) + np.abs(x[:, 1]) * x[:, 2]
    kernel = so3ntk.gram(default_network(), x[:n], progress=False)
    cross = so3ntk.gram(default_network(), x[n:], x[:n], progress=False)
    return kernel, y[:n] + 0.01 * rng.normal(size=n), np.asarray(cross), y[n:]


def solvers(n: int, memory: str) -> list[dict]:
    """One row for each method."""
    kernel, y, cross, truth = problem(n)
    ridge = 1e-6 * float(np.mean(np.diag(kernel)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "k.npy", kernel)
        stored = np.load(Path(folder) / "k.npy", mmap_mode="r")
        exact = None
        for method in METHODS:
            begun = time.perf_counter()
            try:
                solution = so3ntk.solve(stored, y, ridge, method, memory, intercept=True)
            except (MemoryError, so3ntk.errors.NotConvergedError) as error:
                print(f"{n:>7} {method!r:.40}: {error}")
                continue
            seconds, predicted = time.perf_counter() - begun, solution.predict(cross)
            exact = predicted if exact is None else exact
            rows.append({
                "n": n, "method": repr(method), "seconds": seconds, "residual": float(np.max(solution.residuals)),
                "steps": None if solution.history is None else len(solution.history),
                "error_of_solver": rms(predicted - exact) / rms(exact), "error_of_test": rms(predicted - truth) / rms(truth),
                "trace": solution.approximation and solution.approximation.trace,
                "columns": solution.approximation and solution.approximation.columns,
            })  # fmt: skip
            r = rows[-1]
            print(f"{n:>7} {method.name:<9}{getattr(method, 'rank', '') or '':>5} {seconds:8.2f} s  residual {r['residual']:.1e}  "
                  f"of the exact {r['error_of_solver']:.1e}  of the truth {r['error_of_test']:.3f}"
                  + (f"  {r['steps']} steps" if r["steps"] else "")
                  + (f"  trace {r['trace']:.1e} columns {r['columns']:.1e}" if r["trace"] is not None else ""))  # fmt: skip
    return rows


def gradient(count: int) -> dict:
    """Seconds of a Gram matrix and of one loss with its gradient, both without compiling, for QM9 molecules."""
    from so3ntk.learning.hyperparameters import marginal_likelihood_loss
    from so3ntk.molecules import environments, load_qm9
    from so3ntk.molecules.energies import ENERGY_ENVIRONMENTS, energy_network

    data = load_qm9(count, seed=0)
    x = environments(data.atoms, dtype="float32", **ENERGY_ENVIRONMENTS)
    net, y = energy_network(rtol=1e-3), jax.numpy.asarray(data.targets - np.mean(data.targets))
    leaves, structure = jax.tree.flatten(net)

    @jax.jit
    @jax.value_and_grad
    def loss(leaves):
        kernel = jax.tree.unflatten(structure, leaves).kernel_fn(x, None, "ntk")
        return marginal_likelihood_loss(kernel.astype(float), y, 1e-2 * jax.numpy.mean(jax.numpy.diagonal(kernel)))

    seconds = {}
    leaves = [jax.numpy.asarray(leaf, float) for leaf in leaves]
    for name, call in (("gram", lambda: so3ntk.gram(net, x, progress=False)), ("gradient", lambda: loss(leaves))):
        jax.block_until_ready(call())
        begun = time.perf_counter()
        jax.block_until_ready(call())
        seconds[name] = time.perf_counter() - begun
    print(f"{count} molecules, {len(x.molecule)} atoms: {seconds}")
    return {"molecules": count, "atoms": len(x.molecule), **seconds}


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 2000, 4000])
    parser.add_argument("--molecules", type=int, nargs="*", default=[])
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--out", default=None)
    args = parser.parse_args()
    results = {
        "solvers": [row for n in args.sizes for row in solvers(n, args.memory)],
        "gradients": [gradient(count) for count in args.molecules],
    }
    if args.out:
        Path(args.out).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
