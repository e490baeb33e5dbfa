"""Freeze the kernels of Dense, activation, Dense, activation, Dense by neural-tangents.

Run with neural-tangents 0.6.5 (and so jax <= 0.5.3): python tests/reference/make_activation_values.py
"""

import json
from pathlib import Path

import jax
import numpy as np
from neural_tangents import stax  # pyright: ignore

jax.config.update("jax_enable_x64", True)

ACTIVATIONS = {
    "Relu": stax.Relu(),
    "LeakyRelu": stax.LeakyRelu(0.3),
    "Abs": stax.Abs(),
    "Erf": stax.Erf(),
    "Erf affine": stax.Erf(1.4, 0.7, 0.3),
    "SigmoidLike": stax.Sigmoid_like(),
    "Gelu": stax.Gelu(),
    "Sin": stax.Sin(),
    "Sin affine": stax.Sin(1.4, 0.7, 0.3),
    "Cos": stax.Cos(),
    "Cos affine": stax.Cos(1.4, 0.7, 0.3),
    "Sign": stax.Sign(),
    **{f"Monomial {degree}": stax.Monomial(degree) for degree in range(6)},
}
W_STD, B_STD = 1.3, 0.2


def inputs():
    """Two batches; the second opens with two inputs of the first, an antipode, a multiple, a copy, zero."""
    rng = np.random.default_rng(0)
    x1 = rng.normal(size=(4, 5))
    related = [x1[0], x1[1], -x1[0], 2 * x1[2], x1[3] + 1e-3, np.zeros(5)]
    return x1, np.stack([*related, *rng.normal(size=(2, 5))])


def kernels(activation, x1, x2):
    """NNGP and NTK, as lists."""
    dense = stax.Dense(1, W_std=W_STD, b_std=B_STD)
    _, _, kernel_fn = stax.serial(dense, activation, dense, activation, dense)
    kernel = kernel_fn(x1, x2, ("nngp", "ntk"))
    return {"nngp": np.asarray(kernel.nngp).tolist(), "ntk": np.asarray(kernel.ntk).tolist()}


def main():
    """Write the file beside this script."""
    x1, x2 = inputs()
    values = {
        "W_std": W_STD,
        "b_std": B_STD,
        "x1": x1.tolist(),
        "x2": x2.tolist(),
        "kernels": {name: kernels(activation, x1, x2) for name, activation in ACTIVATIONS.items()},
    }
    target = Path(__file__).with_name("activation_values.json")
    target.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
