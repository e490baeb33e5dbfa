"""What a GPU does: values against double precision on the host, pairs per second, potentials, s2fft's Wigner transforms.

    python benchmarks/gpu.py [--wheels DIR] [--small] [--markdown FILE]

Needs a JAX that sees the GPU, no network and no data. Where packages are missing, all wheels of a folder (``--wheels``) are
unpacked into a temporary one, behind what is installed: JAX stays the machine's. Make it with the same Python elsewhere, by
``pip download -d DIR s2fft equinox jaxtyping scikit-learn tqdm ase``.
On a CPU, or with --small, sizes are small: that is a test of the script, and its figures mean little. More than five minutes on an H100.

Of a pair at n rotations, bandlimit L and C channels the operations counted are 85 n + 2 C sum (2l + 1)^2 (docs/scaling.md),
the bytes 8 n: the correlations written and read once. The two ceilings are the rates of the largest product of
matrices and of the largest copy, both measured here, over these.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
#: Modules that the packages import, and the distributions that bring them.
NEEDED = {"equinox": "equinox", "jaxtyping": "jaxtyping", "s2fft": "s2fft", "sklearn": "scikit-learn", "tqdm": "tqdm",
          "scipy": "scipy", "ase": "ase"}  # fmt: skip


class Row(NamedTuple):
    """A line of a table."""

    name: str
    figures: tuple[str, ...]


def install(wheels: Path | None) -> None:
    """Put what is missing on the path, from wheels, behind all that is there; say what is missing where there are none."""
    sys.path.insert(0, str(ROOT))
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if not missing:
        return
    files = [] if wheels is None else sorted(map(str, wheels.glob("*.whl")))
    if not files:
        raise SystemExit(
            f"gpu.py: {', '.join(missing)} are missing. Install them, or pass --wheels DIR with their wheels."
        )
    target = tempfile.mkdtemp(prefix="so3ntk-wheels-")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target",
               target]  # fmt: skip
    subprocess.run([*command, *files], check=True)
    sys.path.append(target)


# --- values


def cases() -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """Name: a network, and its batch in a dtype."""
    import numpy as np

    import planar
    import so3ntk as s
    from so3ntk.molecules import AtomSum, Environments

    rng = np.random.default_rng(0)
    signals, images = rng.normal(size=(24, 16, 3)), rng.normal(size=(24, 8, 8, 3))
    sphere = lambda dtype: s.SphereSignal(np.asarray(signals, dtype), 4)  # noqa: E731
    pixels = lambda dtype: np.asarray(images, dtype)  # noqa: E731
    molecules = lambda dtype: Environments(sphere(dtype), np.repeat(np.arange(8), 3), np.tile([6, 1, 8], 8))  # noqa: E731
    grid, last = s.ProductGrid(16), (s.GroupPool(), s.Dense())
    conv = planar.GroupConv((3, 3), "SAME")
    return {
        "global": (s.serial(s.Lift(), s.Relu(), s.GroupConv(), s.Relu(), *last, quadrature=grid), sphere),
        "band-limited": (s.serial(s.Lift(), s.Erf(), s.GroupConv(bandlimit=3), s.Relu(), *last, quadrature=grid), sphere),
        "caps": (s.serial(s.Lift(support=0.9), s.Relu(), s.GroupConv(support=0.7), s.Relu(), *last,
                          quadrature=s.LocalGrid(s.ProductGrid(8), s.SphereGrid(8))), sphere),
        "irrep l = 1": (s.serial(s.Lift(), s.Relu(), s.IrrepPool(1), quadrature=grid), sphere),
        "inner products": (s.serial(s.Lift(b_std=1.0), s.Products((0, 0, 1)), *last, AtomSum()), molecules),
        "images C4": (s.serial(planar.Lift((3, 3), "SAME"), s.Relu(), conv, s.Relu(), *last), pixels),
        "images, global": (s.serial(planar.Lift(None), s.Relu(), planar.GroupConv(None), s.Relu(), *last), pixels),
    }  # fmt: skip


def values() -> Iterator[Row]:
    """The largest deviation from double precision on the host, relative to sqrt(K(x, x) K(x', x')), in both precisions."""
    import jax
    import numpy as np

    host = jax.devices("cpu")[0]
    for name, (net, batch) in cases().items():
        with jax.default_device(host):
            exact = [np.asarray(k) for k in net.kernel_fn(batch(np.float64))]
        figures = []
        for dtype in (np.float64, np.float32):
            found = [np.asarray(k, np.float64) for k in net.kernel_fn(batch(dtype))]
            figures.append(f"{max(_deviation(a, b) for a, b in zip(found, exact, strict=True)):.1e}")
        yield Row(name, tuple(figures))
    yield Row("forces", tuple(f"{error:.1e}" for error in forces()))


def _deviation(found: Any, exact: Any) -> float:
    import numpy as np

    blocks = exact.reshape(*exact.shape[:2], -1)
    own = np.abs(blocks[np.arange(len(blocks)), np.arange(len(blocks))]).max(axis=-1)
    norm = np.sqrt(np.outer(own, own))
    return float((np.abs(found - exact).reshape(*exact.shape[:2], -1).max(axis=-1) / norm).max())


def forces() -> tuple[float, float]:
    """Gradients of a kernel of two molecules in the positions: both precisions against the host's double precision."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import so3ntk as s
    from so3ntk.molecules import AtomSum, Environments, environment_coefficients

    numbers, molecule = np.array([8, 1, 1, 8, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    positions = np.random.default_rng(0).normal(size=(6, 3)) + 3 * np.arange(6)[:, None] % 7
    net = s.serial(
        s.Lift(W_std=0.3, b_std=0.5), s.Erf(), s.GroupPool(), s.Dense(), AtomSum(), quadrature=s.ProductGrid(8)
    )

    @jax.jit
    def slope(x: Any) -> Any:
        def total(x: Any) -> Any:
            coefficients = environment_coefficients(x, numbers, molecule, species=("H", "O"), bandlimit=3)
            return jnp.sum(net.kernel_fn(Environments(s.SphereSignal(coefficients, 3), molecule, numbers), get="ntk"))

        return jax.grad(total)(x)

    with jax.default_device(jax.devices("cpu")[0]):
        exact = np.asarray(slope(jnp.asarray(positions)))
    errors = [
        np.abs(np.asarray(slope(jnp.asarray(positions, d)), float) - exact).max() for d in (np.float64, np.float32)
    ]
    return errors[0] / np.abs(exact).max(), errors[1] / np.abs(exact).max()


# --- speed


def best_of(call: Callable[[], Any], turns: int = 3) -> float:
    """Seconds of the fastest of some calls, after one that compiles."""
    call()
    seconds = []
    for _ in range(turns):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def ceilings(small: bool) -> tuple[float, float]:
    """Operations per second of a product of float32 matrices, and bytes per second of a copy."""
    import jax
    import jax.numpy as jnp

    n = 1024 if small else 8192
    a = jnp.ones((n, n), jnp.float32)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    long = jnp.ones(2**24 if small else 2**29, jnp.float32)
    copy = jax.jit(lambda a: a + 1)
    operations = 2 * n**3 / best_of(lambda: jax.block_until_ready(product(a)))
    return operations, 2 * long.nbytes / best_of(lambda: jax.block_until_ready(copy(long)))


def sphere_speed(small: bool, operations: float, transfer: float) -> Iterator[Row]:
    """Pairs per second of ``gram``, NTK of ReLU networks, and of float32 the fractions of both ceilings reached."""
    import numpy as np

    import so3ntk as s

    channels, count = 20, 64 if small else 2048
    grids = {1792: s.ProductGrid(16, 7), 4000: s.ProductGrid(20)}
    for bandlimit in (4,) if small else (4, 6, 8):
        values = np.random.default_rng(0).normal(size=(count, bandlimit**2, channels)).astype(np.float32)
        for depth in (1, 3):
            for rotations, grid in grids.items():
                hidden = [layer for _ in range(depth - 1) for layer in (s.Relu(), s.GroupConv())]
                net = s.serial(s.Lift(), *hidden, s.Relu(), s.GroupPool(), s.Dense(), quadrature=grid)
                x = s.SphereSignal(values, bandlimit)
                seconds = best_of(lambda net=net, x=x: s.gram(net, x, memory="8GiB", progress=False), 1 if small else 3)
                rate = count * (count + 1) / 2 / seconds
                each = 85 * rotations + 2 * channels * sum((2 * degree + 1) ** 2 for degree in range(bandlimit))
                yield Row(f"L = {bandlimit}, depth {depth}, {rotations} rotations",
                          (f"{rate:.2e}", f"{rate * each / operations:.1%}", f"{rate * 8 * rotations / transfer:.1%}"))  # fmt: skip
    net = s.serial(s.Lift(), s.Relu(), s.GroupPool(), s.Dense(), quadrature=s.ProductGrid(20))
    x = s.SphereSignal(np.random.default_rng(0).normal(size=(count, 16, channels)), 4)
    rate = count * (count + 1) / 2 / best_of(lambda: s.gram(net, x, memory="8GiB", progress=False), 1)
    yield Row("L = 4, depth 1, 4000 rotations, float64", (f"{rate:.2e}", "", ""))


def molecule_speed(small: bool) -> Iterator[Row]:
    """Seconds and pairs of atoms per second of a Gram matrix of molecules of 18 atoms, of the elements of QM9, in float32."""
    import numpy as np

    import so3ntk as s
    from so3ntk.molecules import AtomSum, Environments

    rng = np.random.default_rng(0)
    for count in (8,) if small else (1000, 2000):
        atoms = 18 * count
        numbers = rng.choice([1, 6, 7, 8, 9], p=[0.511, 0.352, 0.058, 0.078, 0.001], size=atoms)
        signal = s.SphereSignal(rng.normal(size=(atoms, 16, 20)).astype(np.float32), 4)
        x = Environments(signal, np.repeat(np.arange(count), 18), numbers)
        for match in (True, False):
            net = s.serial(s.Lift(b_std=1.0), s.Relu(), s.GroupPool(), s.Dense(), AtomSum(match_species=match),
                           quadrature=s.ProductGrid(16, 7))  # fmt: skip
            counts = np.bincount(numbers) if match else np.array([atoms])
            seconds = best_of(lambda net=net, x=x: s.gram(net, x, progress=False), 1)
            pairs = float((counts * (counts + 1) / 2).sum())
            yield Row(
                f"{count} molecules, {'equal elements' if match else 'all elements'}",
                (f"{seconds:.2f}", f"{pairs / seconds:.2e}"),
            )


def product_speed(small: bool) -> Iterator[Row]:
    """Seconds of kernels that are inner products, of molecules of 18 atoms, L = 4 and 80 channels, in float32."""
    import numpy as np

    import so3ntk as s
    from so3ntk.molecules import AtomSum, Environments

    rng = np.random.default_rng(0)
    net = s.serial(s.Lift(b_std=1.0), s.Products((0, 0, 1)), s.GroupPool(), s.Dense(), AtomSum())
    for count in (8,) if small else (1000, 4000):
        numbers = rng.choice([1, 6, 7, 8], p=[0.511, 0.352, 0.059, 0.078], size=18 * count)
        signal = s.SphereSignal(rng.normal(size=(18 * count, 16, 8 if small else 80)).astype(np.float32), 4)
        x = Environments(signal, np.repeat(np.arange(count), 18), numbers)
        seconds = best_of(lambda x=x: s.gram(net, x, progress=False), 1)
        yield Row(f"kernel of {count} molecules", (f"{seconds:.2f}", ""))


def potential_speed(small: bool) -> Iterator[Row]:
    """Seconds of a potential's first and second fit, and of predictions: rattled molecules, energies and forces of ASE's EMT."""
    import numpy as np
    from ase.build import molecule
    from ase.calculators.emt import EMT

    from so3ntk.molecules import EnergyForceRegressor

    names, rng = (
        ("CH4", "C2H6", "CH3OH", "CH3CH2OH", "CH3CHO", "N2H4", "C2H4", "HCN", "H2O", "NH3"),
        np.random.default_rng(0),
    )
    for count in (10,) if small else (100, 400):
        frames = [molecule(names[i % len(names)]) for i in range(count)]
        for frame in frames:
            frame.positions += rng.normal(scale=0.05, size=frame.positions.shape)
            frame.calc = EMT()
        energies, forces = [f.get_potential_energy() for f in frames], [f.get_forces() for f in frames]
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            model = EnergyForceRegressor().fit(frames, energies, forces)
            seconds.append(time.perf_counter() - start)
        yield Row(f"fit of {count} frames", tuple(f"{s:.1f}" for s in seconds))
        each = best_of(lambda model=model, frames=frames: model.predict(frames[:10]), 3) / 10
        yield Row("a prediction", (f"{each:.3f}", ""))


def image_speed(small: bool) -> Iterator[Row]:
    """Pairs per second of image networks of two hidden layers, float32, NTK."""
    import numpy as np

    import planar
    import so3ntk as s

    for side in (8,) if small else (16, 32):
        count = 8 if small else {16: 256, 32: 64}[side]
        x = np.random.default_rng(0).normal(size=(count, side, side, 1)).astype(np.float32)
        for group in ("C1", "C4"):
            net = s.serial(planar.Lift((3, 3), "SAME", group), s.Relu(), planar.GroupConv((3, 3), "SAME"), s.Relu(),
                           s.GroupPool(), s.Dense())  # fmt: skip
            seconds = best_of(lambda net=net, x=x: s.gram(net, x, memory="8GiB", progress=False), 1)
            yield Row(f"images {side} x {side}, {group}", (f"{count * (count + 1) / 2 / seconds:.2e}",))


def wigner_speed(small: bool) -> Iterator[Row]:
    """Microseconds of s2fft's inverse Wigner transform in JAX, of one function in a batch, and of its forward one."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from s2fft.precompute_transforms import construct
    from s2fft.precompute_transforms.wigner import forward_transform_jax, inverse_transform_jax

    for bandlimit in (4,) if small else (8, 16, 32):
        kernel, back = (jnp.asarray(construct.wigner_kernel(bandlimit, bandlimit, False, sampling="mw", forward=forward))
                        for forward in (False, True))  # fmt: skip
        shape = (2 * bandlimit - 1, bandlimit, 2 * bandlimit - 1)
        batch = 4 if small else {8: 256, 16: 32, 32: 4}[bandlimit]
        rng = np.random.default_rng(0)
        flmn = jnp.asarray(rng.normal(size=(batch, *shape)) + 1j * rng.normal(size=(batch, *shape)))
        inverse = jax.jit(jax.vmap(lambda a, L=bandlimit, k=kernel: inverse_transform_jax(a, k, L, L, "mw", False, 0)))
        forward = jax.jit(jax.vmap(lambda a, L=bandlimit, k=back: forward_transform_jax(a, k, L, L, "mw", False, 0)))
        f = jax.block_until_ready(inverse(flmn))
        seconds = [
            best_of(lambda t=t, a=a: jax.block_until_ready(t(a))) / batch for t, a in ((inverse, flmn), (forward, f))
        ]
        yield Row(f"s2fft Wigner, L = N = {bandlimit}", tuple(f"{1e6 * each:.0f}" for each in seconds))


# --- tables


def table(title: str, columns: tuple[str, ...], rows: Iterator[Row], out: list[str]) -> None:
    """A table in Markdown, line by line as figures come; what fails is said in its line, and the rest goes on."""

    def say(line: str) -> None:
        print(line, flush=True)
        out.append(line)

    say(f"\n| {title} | {' | '.join(columns)} |")
    say("|---|" + "---|" * len(columns))
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # an out-of-memory error on a device must not cost the other tables
            say(f"| failed: {type(error).__name__}: {str(error).splitlines()[0][:120]} |" + " |" * len(columns))
            return
        say(f"| {row.name} | {' | '.join(row.figures)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="a folder of wheels for packages that are missing")
    parser.add_argument("--small", action="store_true", help="small sizes, as on a CPU")
    parser.add_argument("--markdown", type=Path, help="a file for the tables")
    args = parser.parse_args()
    install(args.wheels)
    import jax

    from so3ntk import QuadratureWarning

    warnings.simplefilter("ignore", QuadratureWarning)  # both sides have the same grids
    jax.config.update("jax_enable_x64", True)
    device, start, out = jax.devices()[0], time.perf_counter(), []
    small = args.small or device.platform == "cpu"
    print(f"{device.device_kind} ({device.platform}), jax {jax.__version__}{', small sizes' if small else ''}")
    table("deviation from the host", ("float64", "float32"), values(), out)
    operations, transfer = ceilings(small)
    print(f"\nlargest product {operations / 1e12:.2f} Tflop/s (float32), copy {transfer / 1e9:.0f} GB/s")
    table("microseconds", ("inverse", "forward"), wigner_speed(small), out)
    table("seconds", ("first", "second"), potential_speed(small), out)
    table("seconds", ("", ""), product_speed(small), out)
    table("1,792 rotations, L = 4", ("seconds", "pairs of atoms per second"), molecule_speed(small), out)
    table("pairs per second", ("float32", "of operations", "of bytes"), sphere_speed(small, operations, transfer), out)
    table("pairs per second", ("float32",), image_speed(small), out)
    print(f"\n{time.perf_counter() - start:.0f} s")
    if args.markdown is not None:
        args.markdown.write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
