"""Freeze the kernels of convolutional networks on images and on their quarter turns and reflections.

Run with neural-tangents 0.6.5 (and so jax <= 0.5.3): python tests/reference/make_image_values.py
"""

import json
from pathlib import Path

import jax
import numpy as np
from neural_tangents import stax  # pyright: ignore

jax.config.update("jax_enable_x64", True)

#: A layer is ["Conv", width, k, padding, W_std, b_std or None], ["AvgPool", w], ["GlobalAvgPool"],
#: ["Dense", width, W_std, b_std or None], ["Relu"] or ["Erf"]. The number is n, for images n x n.
POOL, LAST = ["GlobalAvgPool"], ["Dense", 1, 0.9, 0.1]
NETWORKS = {
    "circular, odd": (5, [["Conv", 4, 3, "CIRCULAR", 1.3, 0.2], ["Relu"], ["Conv", 6, 5, "CIRCULAR", 1.2, None], ["Relu"],
                          POOL]),
    "circular, even, average pooling": (6, [["Conv", 4, 3, "CIRCULAR", 1.3, None], ["Erf"], ["AvgPool", 2],
                                            ["Conv", 6, 3, "CIRCULAR", 1.4, 0.3], ["Erf"], POOL, LAST]),
    "same, odd": (5, [["Conv", 4, 3, "SAME", 1.3, None], ["Erf"], ["Conv", 6, 3, "SAME", 1.6, 0.2], ["Erf"], POOL, LAST]),
    "same, even, relu after pooling": (4, [["Conv", 4, 3, "SAME", 1.3, 0.2], ["Relu"], POOL, LAST, ["Relu"],
                                           ["Dense", 1, 1.1, None]]),
    "valid, odd, erf after pooling": (5, [["Conv", 4, 3, "VALID", 1.3, 0.2], ["Relu"], ["Conv", 6, 2, "VALID", 1.2, 0.4],
                                          POOL, LAST, ["Erf"], ["Dense", 1, 1.1, 0.3]]),
    "valid, even": (6, [["Conv", 4, 2, "VALID", 1.3, None], ["Relu"], ["Conv", 6, 4, "VALID", 1.5, None], ["Erf"], POOL]),
    "several paddings": (6, [["Conv", 4, 3, "CIRCULAR", 1.3, 0.2], ["Relu"], ["Conv", 5, 3, "SAME", 1.2, None],
                             ["Conv", 6, 3, "VALID", 0.8, 0.1], ["Erf"], POOL, LAST]),
}  # fmt: skip


def inputs(n):
    """One image, and two more with all their views; the first of these is the one image, up to 1e-3."""
    f, g, h = np.random.default_rng(n).normal(size=(3, n, n, 2))
    return f[None], views(np.stack([f + 1e-3 * h, g]))


def views(images):
    """Four quarter turns of the images (N, n, n, c), then those of their mirror images: (8 N, n, n, c)."""
    return np.concatenate([np.rot90(flipped, k, (1, 2)) for flipped in (images, images[:, :, ::-1]) for k in range(4)])


def build(layer, parametrization):
    """The stax layer."""
    match layer:
        case ["Conv", width, size, padding, weight, bias]:
            return stax.Conv(width, (size, size), padding=padding, W_std=weight, b_std=bias,
                             parameterization=parametrization)  # fmt: skip
        case ["AvgPool", window]:
            return stax.AvgPool((window, window), (window, window))
        case ["Dense", width, weight, bias]:
            return stax.Dense(width, W_std=weight, b_std=bias, parameterization=parametrization)
        case [name]:
            return getattr(stax, name)()
    raise ValueError(f"unknown layer {layer!r}")


def kernels(layers, parametrization, x1, x2):
    """NNGP and NTK of the two batches."""
    _, _, kernel_fn = stax.serial(*(build(layer, parametrization) for layer in layers))
    kernel = kernel_fn(x1, x2, ("nngp", "ntk"))
    return {"nngp": np.asarray(kernel.nngp), "ntk": np.asarray(kernel.ntk)}


def reference(n, layers):
    """The entry of one network."""
    values = {
        parametrization: {name: k.tolist() for name, k in kernels(layers, parametrization, *inputs(n)).items()}
        for parametrization in ("ntk", "standard")
    }
    return {"pixels": n, "layers": layers, **values}


def main():
    """Write the file beside this script."""
    values = {name: reference(n, layers) for name, (n, layers) in NETWORKS.items()}
    Path(__file__).with_name("image_values.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
