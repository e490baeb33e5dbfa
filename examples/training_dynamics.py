"""Training in time: loss and predictions of a trained ensemble of finite networks beside those of the theory.

    python examples/training_dynamics.py
    python examples/training_dynamics.py --signals images --data mnist.npz --width 256

From the kernels alone ``so3ntk.predict.ensemble`` gives the mean and the variance of the outputs over random initial
parameters at every training time t, and with them the mean loss of a member. An ensemble of finite networks is then
trained by full-batch gradient descent to see it happen. What sets them apart besides chance is O(1 / width).

--signals sphere: random functions on the sphere and an SO(3) network; the target is the mean of the function's cube,
which rotations do not change, in units of its standard deviation. --signals images: a C4 network tells two classes of
images apart (+1 and -1); --data is an npz file, MNIST's folder of idx files or a folder of images, by default
scikit-learn's digits. The defaults take two to four minutes on two cores. Prints a table, writes dynamics.png and
dynamics.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import planar
import so3ntk
from planar.datasets import load_images, stratified_split
from so3ntk.basics.plots import require_matplotlib
from so3ntk.cli.results import (
    not_negative,
    output_folder,
    positive,
    read_options,
    replace_file,
    run_example,
    settings,
    write_json,
)

#: Test inputs of which the picture shows the outputs.
SHOWN = 4


class Task(NamedTuple):
    """Signals in double precision, targets, and the network without and with its widths."""

    x: Any
    y: np.ndarray
    x_test: Any
    y_test: np.ndarray
    infinite: so3ntk.Network
    finite: so3ntk.Network


def read_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--signals", choices=("sphere", "images"), default="sphere", help="what to learn from (sphere)")
    add("--data", metavar="PATH", help="of images: npz file, MNIST's folder, or folder of images; default: digits")
    add("--classes", nargs=2, default=["3", "8"], help="of images: the two to tell apart (3 8)")
    add("--pixels", type=positive, default=7, help="of images: along a side (7)")
    add("--bandlimit", type=positive, default=3, help="of functions on the sphere (3)")
    add("--sizes", "--train", type=positive, default=12, metavar="N", help="training signals, one number (12)")
    add("--test", type=positive, default=12, help="test signals (12)")
    add("--width", type=positive, help="channels of the finite networks (sphere: 64, images: 32)")
    add("--members", type=positive, default=32, help="networks of the ensemble (32)")
    add("--steps", type=positive, default=200, help="of gradient descent (200)")
    add("--rate", type=float, default=0.1, help="learning rate, as a share of the largest stable one (0.1)")
    add("--seed", type=not_negative, default=0, help="of the signals and of the networks (0)")
    add("--out", default="so3ntk-results/dynamics", help="folder of the results")
    return read_options(parser, {"sizes": 6, "test": 6, "width": 16, "members": 4, "steps": 50})


def sphere_task(args: argparse.Namespace) -> Task:
    """Random functions f whose square has the mean 1, with the mean of f^3 as target, scaled."""
    rng = np.random.default_rng(args.seed)
    coefficients = rng.normal(size=(args.sizes + args.test, args.bandlimit**2, 1))
    coefficients *= np.sqrt(4 * np.pi / (coefficients**2).sum(axis=1, keepdims=True))
    signals = so3ntk.SphereSignal(jnp.asarray(coefficients), args.bandlimit)
    fine = 3 * args.bandlimit  # where the cube is integrated exactly
    weights = np.polynomial.legendre.leggauss(fine)[1][:, None] / (2 * (2 * fine - 1))
    cubes = (signals.to_samples("gl", bandlimit=fine)[..., 0] ** 3 * weights).sum(axis=(1, 2))
    y = cubes / cubes[: args.sizes].std()
    n = args.sizes

    def network(points, width=None, outputs=None):
        # Filters keep the signals' degrees: the finite network is then the kernel's own, not one cut by its grid.
        return so3ntk.serial(
            so3ntk.Lift(width=width, W_std=2.0), so3ntk.Erf(),
            so3ntk.GroupConv(width=width, W_std=2.0, bandlimit=args.bandlimit), so3ntk.Erf(),
            so3ntk.GroupPool(), so3ntk.Dense(outputs),
            quadrature=so3ntk.ProductGrid(points),
        )  # fmt: skip

    coarse = 4 * -(-2 * args.bandlimit // 4)  # enough for features; small eigenvalues of the kernel need more
    infinite, finite = network(2 * coarse), network(coarse, args.width, 1)
    return Task(signals[:n], y[:n], signals[n:], y[n:], infinite, finite)


def image_task(args: argparse.Namespace) -> Task:
    """Images of two classes with the targets +1 and -1, pixels of mean 0 and variance 1 over the training images."""
    data = load_images(args.data, args.pixels)
    unknown = [name for name in args.classes if name not in data.classes]
    if unknown or args.classes[0] == args.classes[1]:
        raise ValueError(f"--classes: expected two of {', '.join(data.classes)}, got {' '.join(args.classes)}.")
    places = [data.classes.index(name) for name in args.classes]
    train, test = stratified_split(data[np.isin(data.labels, places)], args.sizes, args.test, args.seed)
    mean, deviation = train.images.mean(), train.images.std()
    x, x_test = ((part.images.astype(np.float64) - mean) / deviation for part in (train, test))
    y, y_test = (np.where(part.labels == places[0], 1.0, -1.0) for part in (train, test))

    def network(width=None, outputs=None):
        # A large last layer makes outputs as large as targets: else narrow networks learn features, not a kernel.
        return so3ntk.serial(
            planar.Lift((3, 3), group="C4", width=width, W_std=2.0), so3ntk.Erf(),
            planar.GroupConv((3, 3), width=width, W_std=2.0), so3ntk.Erf(),
            planar.GroupPool(), so3ntk.Dense(outputs, W_std=4.0),
        )  # fmt: skip

    return Task(x, y, x_test, y_test, network(), network(args.width, 1))


TASKS = {"sphere": sphere_task, "images": image_task}
#: Channels that two cores train in a few minutes.
WIDTHS = {"sphere": 64, "images": 32}


class Dynamics(NamedTuple):
    """Mean and standard deviation over networks of the outputs (times, inputs), training inputs first; mean losses."""

    mean: np.ndarray
    std: np.ndarray
    loss: np.ndarray
    loss_test: np.ndarray

    @classmethod
    def of(cls, mean: np.ndarray, std: np.ndarray, y: np.ndarray, n: int) -> Dynamics:
        """With the mean of a member's losses: that of the mean output and half the variance."""
        losses = ((mean - y) ** 2 + std**2) / 2
        return cls(mean, std, losses[:, :n].mean(axis=1), losses[:, n:].mean(axis=1))


def predict(task: Task, share: float) -> tuple[float, Callable[[np.ndarray], Dynamics]]:
    """The learning rate, and what the theory says about infinite width, as a function of the times."""
    n = len(task.x)
    kernels = task.infinite.kernel_fn(joined(task))
    train = so3ntk.Kernels(*(kernel[:n, :n] for kernel in kernels))
    cross = so3ntk.Kernels(*(kernel[:, :n] for kernel in kernels))
    y = np.concatenate([task.y, task.y_test])

    def theory(times):
        found = so3ntk.predict.ensemble(train, task.y, cross, np.diag(kernels.nngp), times)
        return Dynamics.of(found.mean, np.sqrt(found.covariance), y, n)

    return share * so3ntk.predict.max_learning_rate(train.ntk), theory


def joined(task: Task) -> Any:
    """Training and test signals."""
    both: Any = so3ntk.concatenate if isinstance(task.x, so3ntk.SphereSignal) else np.concatenate
    return both([task.x, task.x_test])


def experiment(task: Task, rate: float, times: np.ndarray, args: argparse.Namespace) -> Dynamics:
    """The same of a trained ensemble, in single precision."""
    from so3ntk.finite.training import train

    x, inputs = (jax.tree.map(lambda leaf: leaf.astype(np.float32), batch) for batch in (task.x, joined(task)))
    trained = train(task.finite, x, task.y, learning_rate=rate, steps=args.steps, members=args.members,
                    key=args.seed, watch=inputs, times=times)  # fmt: skip
    outputs = trained.recorded[..., 0].astype(np.float64)
    y = np.concatenate([task.y, task.y_test])
    found = Dynamics.of(outputs.mean(axis=1), outputs.std(axis=1), y, len(task.y))
    return found._replace(std=outputs.std(axis=1, ddof=1))


def print_table(theory: Dynamics, finite: Dynamics, times: np.ndarray, n: int) -> None:
    """Losses, and the outputs on test signals: how far means are apart, and the spread of networks."""
    print(f"{'t':>10}{'loss':>20}{'test loss':>20}{'mean outputs':>16}{'standard deviation':>22}")
    print(f"{'':>10}" + f"{'theory':>10}{'networks':>10}" * 2 + f"{'apart (rms)':>16}{'theory':>12}{'networks':>10}")
    for i in range(0, len(times), 3):
        apart = np.sqrt(np.mean((theory.mean - finite.mean)[i, n:] ** 2))
        spread = [np.sqrt(np.mean(found.std[i, n:] ** 2)) for found in (theory, finite)]
        losses = [found[i] for found in (theory.loss, finite.loss, theory.loss_test, finite.loss_test)]
        print(f"{times[i]:>10.3g}" + "".join(f"{loss:>10.4f}" for loss in losses)
              + f"{apart:>16.4f}{spread[0]:>12.4f}{spread[1]:>10.4f}")  # fmt: skip


def draw_picture(predicted: Callable, finite: Dynamics, times: np.ndarray, n: int, title: str, path: str) -> None:
    """Losses over time, and outputs at some test signals."""
    plt = require_matplotlib("training_dynamics.py")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), constrained_layout=True)
    fine = np.concatenate([np.linspace(0, times[1], 20), np.geomspace(times[1], times[-1], 200)])
    theory = predicted(fine)
    for name, color, label in (("loss", "C0", "training"), ("loss_test", "C1", "test")):
        left.plot(fine, getattr(theory, name), color=color, label=f"{label}: theory")
        left.plot(times, getattr(finite, name), "o", color=color, ms=4, label=f"{label}: trained networks")
    for i in range(SHOWN):
        place, color = n + i, f"C{i}"
        mean, std = theory.mean[:, place], theory.std[:, place]
        right.plot(fine, mean, color=color)
        right.fill_between(fine, mean - std, mean + std, color=color, alpha=0.15, linewidth=0)
        beside = times * (1 + 0.04 * (i - (SHOWN - 1) / 2))  # bars beside each other
        right.errorbar(beside, finite.mean[:, place], finite.std[:, place], fmt="o", ms=3, lw=0.8, color=color)
    right.plot([], [], "k-", label="theory: mean, and band of one standard deviation")
    right.errorbar([], [], [], fmt="ko", ms=3, lw=0.8, label="trained networks: the same")
    left.set(yscale="log", title="mean loss of a network", ylabel="half the mean squared error")
    right.set(title=f"outputs at {SHOWN} test signals", ylabel="output")
    for axes in (left, right):
        axes.set_xscale("symlog", linthresh=times[1])
        axes.set(xlabel="training time t = learning rate x steps", xlim=(0, 1.1 * times[-1]))
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def run(args: argparse.Namespace) -> None:
    """Make the task, predict, train, compare, write."""
    require_matplotlib("training_dynamics.py")  # now, not after minutes of work
    if args.members < 2 or args.test < SHOWN:
        raise ValueError(f"expected --members >= 2, for a scatter, and --test >= {SHOWN}, for the picture.")
    if not 0 < args.rate < 1:
        raise ValueError(f"--rate: expected a share between 0 and 1, got {args.rate}.")
    args.width = args.width or WIDTHS[args.signals]
    started = time.perf_counter()
    out = output_folder(args.out)
    task = TASKS[args.signals](args)
    rate, predicted = predict(task, args.rate)
    times = rate * np.unique(np.rint(np.geomspace(1, args.steps, 25)) * (np.arange(25) > 0))
    print(f"kernels: {time.perf_counter() - started:.0f} s; learning rate {rate:.3g}", flush=True)
    finite = experiment(task, rate, times, args)
    theory, n = predicted(times), len(task.y)
    print_table(theory, finite, times, n)
    title = f"{args.members} networks of width {args.width} on {n} signals ({args.signals})"
    picture = replace_file(out / "dynamics.png", lambda path: draw_picture(predicted, finite, times, n, title, path))
    seconds = time.perf_counter() - started
    curves = {name: {key: values.tolist() for key, values in found._asdict().items()}
              for name, found in (("theory", theory), ("networks", finite))}  # fmt: skip
    file = write_json(out / "dynamics.json", {"settings": settings(args), "learning_rate": rate, "seconds": seconds,
                      "times": times.tolist(), **curves})  # fmt: skip
    print(f"\n{picture}\n{file}\n{seconds:.0f} s in all, {time.process_time():.0f} s of processors")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)  # for the kernels; the networks are trained in single precision
    run_example(run, read_arguments)
