"""Training and test sets with the same share of each class."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy.optimize import Bounds, LinearConstraint, milp

from planar.datasets.image_data import ImageData, positive_integer


def stratified_split(data: ImageData, train: int, test: int, seed: int = 0) -> tuple[ImageData, ImageData]:
    """Two disjoint parts of ``train`` and ``test`` images, in random order; test may be 0.

    Of n images, n_c of class c, a part of m images holds m n_c / n of that class, rounded up or down; and at least one
    of each class that has images. Split off the test set once and subsets of the rest after it, by
    ``stratified_split(rest, m, 0)``, for learning curves: with one seed the images that a class has in a smaller
    part are also in a larger one.

    Images are ranked by a hash of seed, class and pixels, and each part is in the order of these ranks. So the order
    of the rows of ``data`` does not matter, except among equal images of one class, which cannot be told apart; but
    they may end up on both sides, so remove duplicates first. Another rendering of the same images, such as
    another size, is split otherwise.

    Raises ValueError for more images than there are, and for a class that is too small to be in both parts, or parts
    too small to hold every class.
    """
    where = "stratified_split"
    positive_integer(train, "train", where)
    positive_integer(test, "test", where, 0)
    positive_integer(seed, "seed", where, 0)
    if train + test > len(data):
        raise ValueError(f"{where}: train={train} and test={test} images were asked for, but there are {len(data)}.")
    counts = np.bincount(data.labels, minlength=len(data.classes))
    _check_sizes(counts, data.classes, train, test)
    quotas = _quotas(counts, np.array([train, test, len(data) - train - test]), seed)
    order = _ranked(data, seed)
    within = _place_in_class(data.labels[order])  # 0, 1, ... for the images of each class
    train_quota, test_quota = quotas[data.labels[order], 0], quotas[data.labels[order], 1]
    in_train = within < train_quota
    in_test = ~in_train & (within < train_quota + test_quota)
    return data[order[in_train]], data[order[in_test]]


def _check_sizes(counts: Int[np.ndarray, " k"], classes: tuple[str, ...], train: int, test: int) -> None:
    """ValueError unless every class that has images can have one in each part."""
    parts = 2 if test else 1
    small = np.flatnonzero((counts > 0) & (counts < parts))
    if len(small):
        raise ValueError(
            f"stratified_split: the class {classes[small[0]]!r} has {counts[small[0]]} image, too few for one in each "
            f"of {parts} parts. Add images, or leave the class out."
        )
    present = np.count_nonzero(counts)
    for name, size in (("train", train), ("test", test)):
        if 0 < size < present:
            raise ValueError(
                f"stratified_split: {name}={size} is too small for one image of each of the {present} classes."
            )


def _quotas(counts: Int[np.ndarray, " k"], sizes: Int[np.ndarray, " parts"], seed: int) -> Int[np.ndarray, "k parts"]:
    """How many of each class go to train, test and the rest, with the sums over parts and over classes kept.

    The shares in train and test are rounded up or down. Without the least of one image that is always possible, being
    a vertex of a transport problem. Remainders decide who is rounded up, and where they are equal the seed.
    """
    total, shape = counts.sum(), (len(counts), len(sizes))
    shares = np.outer(counts, sizes)  # times the total, to stay with integers
    lower, upper = shares // total, -(-shares // total)
    lower[:, :2] = np.maximum(lower[:, :2], np.minimum(upper[:, :2], 1))
    lower[:, 2], upper[:, 2] = 0, counts
    gain = (shares % total) / total + 1e-3 * np.random.default_rng(seed).random(shape)
    gain[:, 2] = 0
    sums = np.concatenate([np.kron(np.eye(shape[0]), np.ones(shape[1])), np.kron(np.ones(shape[0]), np.eye(shape[1]))])
    margins: Any = np.concatenate([counts, sizes])
    bounds: Any = lower.ravel(), upper.ravel()
    constraint = LinearConstraint(sums, margins, margins)
    found = milp(-gain.ravel(), integrality=np.ones(shares.size), bounds=Bounds(*bounds), constraints=constraint)
    if not found.success:
        raise ValueError(
            f"stratified_split: classes of {counts.tolist()} images cannot be divided into train={sizes[0]} and "
            f"test={sizes[1]} with an image of each class in both, and the shares of all kept to within one. Make the "
            "smaller part larger, or leave out the smallest class."
        )
    return np.rint(found.x).astype(np.int64).reshape(shape)


def _ranked(data: ImageData, seed: int) -> Int[np.ndarray, " n"]:
    """The rows in the order of the hashes of seed, class and pixels."""
    hashes = [
        hashlib.blake2b(
            f"{seed} {data.classes[label]} {image.shape} ".encode("utf-8", "surrogateescape")
            + image.astype("<f4").tobytes()
        ).digest()
        for image, label in zip(data.images, data.labels, strict=True)
    ]
    return np.array(sorted(range(len(data)), key=hashes.__getitem__), np.int64)


def _place_in_class(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """How many rows of the same label come before each row."""
    order = np.argsort(labels, kind="stable")
    grouped = labels[order]
    places = np.empty(len(labels), np.int64)
    places[order] = np.arange(len(labels)) - np.searchsorted(grouped, grouped)
    return places
