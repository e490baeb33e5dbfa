"""Freeze the kernels of fully connected networks of several depths, parametrisations and with a skip connection.

Run with neural-tangents 0.6.5 (and so jax <= 0.5.3): python tests/reference/make_mlp_values.py
"""

import json
from pathlib import Path

import jax
import numpy as np
from neural_tangents import stax  # pyright: ignore

jax.config.update("jax_enable_x64", True)

#: A layer is ["Dense", width, W_std, b_std or None], ["Relu"], ["Erf"], or ["Skip", layers]: x + layers(x).
FIRST, LAST = ["Dense", 24, 1.3, 0.2], ["Dense", 1, 0.9, 0.1]
HIDDEN = [["Dense", 40, 1.2, None], ["Dense", 16, 1.5, 0.4]]


def chain(activation, depth):
    """Dense layers with as many activations between them."""
    layers = [FIRST, [activation]]
    for dense in HIDDEN[: depth - 1]:
        layers += [dense, [activation]]
    return [*layers, LAST]


NETWORKS = {
    **{
        f"{activation}, depth {depth}": chain(activation, depth)
        for activation in ("Relu", "Erf")
        for depth in (1, 2, 3)
    },
    "Relu, skip": [FIRST, ["Skip", [["Relu"], ["Dense", 24, 1.1, 0.3]]], ["Relu"], LAST],
}


def inputs():
    """Two batches; the second opens with an input of the first, an antipode, a multiple, one nearby, zero."""
    rng = np.random.default_rng(1)
    x1 = rng.normal(size=(3, 6))
    return x1, np.stack([x1[0], -x1[0], 2 * x1[1], x1[2] + 1e-3, np.zeros(6), *rng.normal(size=(2, 6))])


def build(layer, parametrization):
    """The stax layer."""
    match layer:
        case ["Dense", width, weight, bias]:
            return stax.Dense(width, W_std=weight, b_std=bias, parameterization=parametrization)
        case ["Skip", layers]:
            branch = stax.serial(*(build(inner, parametrization) for inner in layers))
            return stax.serial(stax.FanOut(2), stax.parallel(stax.Identity(), branch), stax.FanInSum())
        case [activation]:
            return getattr(stax, activation)()
    raise ValueError(f"unknown layer {layer!r}")


def kernels(layers, parametrization, x1, x2):
    """NNGP and NTK of the two batches."""
    _, _, kernel_fn = stax.serial(*(build(layer, parametrization) for layer in layers))
    kernel = kernel_fn(x1, x2, ("nngp", "ntk"))
    return {"nngp": np.asarray(kernel.nngp), "ntk": np.asarray(kernel.ntk)}


def main():
    """Write the file beside this script."""
    x1, x2 = inputs()
    values = {
        "x1": x1.tolist(),
        "x2": x2.tolist(),
        "networks": {
            name: {
                "layers": layers,
                **{
                    parametrization: {k: v.tolist() for k, v in kernels(layers, parametrization, x1, x2).items()}
                    for parametrization in ("ntk", "standard")
                },
            }
            for name, layers in NETWORKS.items()
        },
    }
    target = Path(__file__).with_name("mlp_values.json")
    target.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
