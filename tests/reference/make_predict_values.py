"""Freeze predictions of trained networks at several times, with and without a ridge, for one and three outputs.

Run with neural-tangents 0.6.5 (and so jax <= 0.5.3): python tests/reference/make_predict_values.py
"""

import json
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from neural_tangents import predict, stax  # pyright: ignore
from neural_tangents._src import predict as internals  # pyright: ignore

jax.config.update("jax_enable_x64", True)

TIMES = [0.0, 1.0, 10.0, 1e3]
LEARNING_RATE = 0.7
DIAG_REGS = [0.0, 1e-3]
LAYERS = stax.Dense(1, W_std=1.3, b_std=0.2), stax.Erf(), stax.Dense(1, W_std=0.9, b_std=0.1)


def inputs():
    """Training inputs, test inputs of which the last is a training input, and three targets of large mean."""
    rng = np.random.default_rng(3)
    x1 = rng.normal(size=(6, 4))
    x2 = np.concatenate([rng.normal(size=(3, 4)), x1[:1]])
    return x1, x2, 2 + rng.normal(size=(6, 3))


def kernels():
    """NNGP and NTK of train with train, test with train, test with test."""
    _, _, kernel_fn = stax.serial(*LAYERS)
    x1, x2, _ = inputs()
    blocks = {"train": (x1, None), "test": (x2, x1), "test_test": (x2, None)}
    return {name: {get: np.asarray(kernel_fn(*pair, get)) for get in ("nngp", "ntk")} for name, pair in blocks.items()}


def flow(found, y, diag_reg):
    """Predictions from initial outputs 0 and from others, (times, m, k), and at infinity."""
    train, test = (jnp.asarray(found[name]["ntk"]) for name in ("train", "test"))
    at = predict.gradient_descent_mse(train, jnp.asarray(y), LEARNING_RATE, diag_reg)
    zero, times = (0 * y, jnp.zeros((len(test), y.shape[1]))), np.array(TIMES)
    other = (y - 1, zero[1] + 0.5)
    result = {
        "zero": np.asarray(at(times, *zero, test)[1]).tolist(),
        "other": np.asarray(at(times, *other, test)[1]).tolist(),
    }
    if diag_reg:
        result["infinity"] = np.asarray(at(None, *zero, test)[1]).tolist()
    return result


def ensemble(y, diag_reg):
    """Means and covariances of both kinds of ensembles, (times, ...), and at infinity."""
    _, _, kernel_fn = stax.serial(*LAYERS)
    x1, x2, _ = inputs()
    at = predict.gradient_descent_mse_ensemble(kernel_fn, x1, jnp.asarray(y), LEARNING_RATE, diag_reg)
    result = {}
    for get in ("nngp", "ntk"):
        moments = at(np.array(TIMES), x2, get, True)
        result[get] = {"mean": np.asarray(moments.mean).tolist(), "covariance": np.asarray(moments.covariance).tolist()}
        if diag_reg:
            moments = at(None, x2, get, True)
            last = {"mean": np.asarray(moments.mean).tolist(), "covariance": np.asarray(moments.covariance).tolist()}
            result[get]["infinity"] = last
    return result


def max_learning_rate(train, size, momentum):
    """On the CPU it gives SciPy an argument that SciPy has dropped; its other branch asks JAX."""
    with mock.patch.object(internals, "_is_on_cpu", return_value=False):
        return float(predict.max_learning_rate(train, size, momentum))


def values():
    """All that the file holds."""
    _, _, y = inputs()
    found = kernels()
    train = jnp.asarray(found["train"]["ntk"])
    return {
        "times": TIMES,
        "learning_rate": LEARNING_RATE,
        "y": y.tolist(),
        "kernels": {name: {get: k.tolist() for get, k in block.items()} for name, block in found.items()},
        "flow": {f"{k}, {d}": flow(found, y[:, :k], d) for k in (1, 3) for d in DIAG_REGS},
        "ensemble": {f"{k}, {d}": ensemble(y[:, :k], d) for k in (1, 3) for d in DIAG_REGS},
        "max_learning_rate": {f"{k}, {m}": max_learning_rate(train, len(y) * k, m) for k in (1, 3) for m in (0.0, 0.9)},
    }


def main():
    """Write the file beside this script."""
    Path(__file__).with_name("predict_values.json").write_text(json.dumps(values()) + "\n")


if __name__ == "__main__":
    main()
