"""Classifiers of images at growing training sizes: the plain CNN's kernel beside those of groups with rotations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from planar.datasets import ImageData, stratified_split
from planar.layers import GroupConv, Lift
from so3ntk.engine.activations import Relu
from so3ntk.engine.layers import Dense, GroupPool, Layer
from so3ntk.engine.network import Network, serial
from so3ntk.engine.plan import read_signals
from so3ntk.learning.classifier import KernelClassifier
from so3ntk.matrices.gram import gram

#: Names of the kernels, by group.
LABELS = {"C1": "CNN kernel (C1)", "C2": "C2 kernel", "C4": "C4 kernel", "D4": "D4 kernel"}


def image_network(
    group: str, depth: int = 2, filter_size: int | None = 3, padding: str = "SAME", activation: Layer | None = None
) -> Network:
    """Lift, ``depth`` nonlinearities with a GroupConv between any two, GroupPool, Dense.

    group: "C1" (the CNN with global average pooling), "C2", "C4" or "D4". filter_size: pixels along one side, or None
    for global support. activation: Relu() by default. ValueError for anything else.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(f"image_network: expected depth to be at least one nonlinearity, got {depth!r}.")
    activation = Relu() if activation is None else activation
    shape = None if filter_size is None else (filter_size, filter_size)
    hidden = [layer for _ in range(depth - 1) for layer in (activation, GroupConv(shape, padding))]
    return serial(Lift(shape, padding, group), *hidden, activation, GroupPool(), Dense())


class Draw(NamedTuple):
    """Training and test images; for each training size the rows of ``train`` that belong to it."""

    train: ImageData
    test: ImageData
    rows: dict[int, Int[np.ndarray, " m"]]


def draw(data: ImageData, sizes: Sequence[int], test: int, seed: int = 0) -> Draw:
    """A test set and training sets of growing size apart from it, all with the classes' shares of ``data``.

    Smaller training sets are parts of larger ones (but for a class whose share rounds otherwise). Raises ValueError
    for more images than there are, and for sizes that cannot hold an image of each class.
    """
    largest = max(sizes)
    if largest + test > len(data):
        raise ValueError(
            f"draw: {largest} training and {test} test images need {largest + test}, but there are {len(data)}. Lower "
            "the training sizes or the test size."
        )
    train, tested = stratified_split(data, largest, test, seed)
    parts = {size: stratified_split(train, size, 0, seed)[0] for size in sorted(set(sizes))}
    return Draw(train, tested, {size: _rows(part, train) for size, part in parts.items()})


class ImageKernels(NamedTuple):
    """A kernel of all training images, and of the test images with them; slices of it serve every training size."""

    train: Float[np.ndarray, "n n"]
    test: Float[np.ndarray, "m n"]


def image_kernels(
    net: Network, drawn: Draw, kernel: str = "ntk", dtype: str = "float32", **options: Any
) -> ImageKernels:
    """Both matrices by ``so3ntk.gram``, which takes the options (memory, progress). Test images are not paired."""
    train, test = (part.images.astype(dtype) for part in (drawn.train, drawn.test))
    return ImageKernels(gram(net, train, get=kernel, **options), gram(net, test, train, get=kernel, **options))


@dataclass(frozen=True)
class AccuracyPoint:
    """The share of test images whose class is right, of all and of each class, after training on ``size`` images.

    A class without test images has no share. ridge: chosen by leave-one-out on the training images.
    """

    method: str
    size: int
    accuracy: float
    recall: dict[str, float]
    ridge: float


class Comparison(NamedTuple):
    """Accuracies of all kernels and sizes, and the seconds that each kernel took, compilation included."""

    points: list[AccuracyPoint]
    seconds: dict[str, float]


def compare(
    networks: Mapping[str, Network],
    drawn: Draw,
    kernel: str = "ntk",
    dtype: str = "float32",
    report: Callable[[str], None] = lambda name: None,
    **options: Any,
) -> Comparison:
    """Each network's kernel once, as ``image_kernels``, then the accuracies; ``report`` gets a name before its turn."""
    for net in networks.values():  # what a group refuses, now and not after the minutes of another network
        read_signals(net.layers, drawn.train.images[:1])
    kernels, seconds = {}, {}
    for name, net in networks.items():
        report(name)
        begun = time.perf_counter()
        kernels[name] = image_kernels(net, drawn, kernel, dtype, **options)
        seconds[name] = time.perf_counter() - begun
    return Comparison(accuracy_curve(kernels, drawn), seconds)


def accuracy_curve(kernels: Mapping[str, ImageKernels], drawn: Draw) -> list[AccuracyPoint]:
    """``KernelClassifier`` for each named kernel and each training size."""
    return [
        _point(method, matrices, drawn, size, rows)
        for method, matrices in kernels.items()
        for size, rows in drawn.rows.items()
    ]


def _point(method: str, matrices: ImageKernels, drawn: Draw, size: int, rows: Int[np.ndarray, " m"]) -> AccuracyPoint:
    model = KernelClassifier("precomputed").fit(matrices.train[np.ix_(rows, rows)], drawn.train.labels[rows])
    truth = drawn.test.labels
    right = model.predict(matrices.test[:, rows]) == truth
    present = np.unique(truth)
    recall = {drawn.test.classes[label]: float(right[truth == label].mean()) for label in present}
    return AccuracyPoint(method, size, float(right.mean()), recall, float(model.ridge_))


def _rows(part: ImageData, whole: ImageData) -> Int[np.ndarray, " m"]:
    """The row in ``whole`` of each image of ``part``; equal images of one class get rows of their own."""
    places: dict[tuple[int, bytes], list[int]] = {}
    for row, (label, image) in enumerate(zip(whole.labels, whole.images, strict=True)):
        places.setdefault((int(label), image.tobytes()), []).append(row)
    keys = [(int(label), image.tobytes()) for label, image in zip(part.labels, part.images, strict=True)]
    return np.array([places[key].pop() for key in keys], np.int64)
