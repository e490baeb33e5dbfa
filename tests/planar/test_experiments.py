"""Accuracies at growing training sizes: draws, networks, kernels computed once, and the counting."""

import numpy as np
import pytest

import planar
from planar.datasets import ImageData, load_digits, stratified_split
from planar.experiments import (
    LABELS,
    Draw,
    ImageKernels,
    accuracy_curve,
    compare,
    draw,
    image_kernels,
    image_network,
)
from so3ntk import Erf
from tests.oracles.images import image_kernels as pixel_kernels

EPS = np.finfo(np.float64).eps


def row_keys(data):
    return [(int(label), image.tobytes()) for label, image in zip(data.labels, data.images, strict=True)]


# ------------------------------------------------------------------------------------ networks


def test_every_group_has_a_name():
    assert list(LABELS) == list(planar.GROUPS)


@pytest.mark.parametrize(("group", "depth"), [("C1", 1), ("C4", 2), ("D4", 3)])
def test_network_is_the_recursion_on_pixels(group, depth):
    f, g = np.random.default_rng(0).random((2, 4, 4, 1))
    net = image_network(group, depth, 3, "SAME", Erf())
    slow = pixel_kernels(f, g, [(3, "SAME", 1.0, 0.0), "erf"] * depth, group)
    for kernel, expected in zip(net.kernel_fn(f[None], g[None]), slow, strict=True):
        np.testing.assert_allclose(kernel, [[expected]], rtol=100 * EPS)  # sums of some thousand terms


def test_network_defaults_and_global_support():
    x = np.random.default_rng(0).random((2, 5, 5, 1))
    net, same = image_network("C4"), image_network("C4", 2, 3, "SAME")
    np.testing.assert_array_equal(net.kernel_fn(x, get="ntk"), same.kernel_fn(x, get="ntk"))
    turned = np.roll(np.rot90(x, axes=(1, 2)), 2, 1)
    fields = image_network("C4", 2, None, "CIRCULAR").kernel_fn(np.concatenate([x, turned]), get="nngp")
    np.testing.assert_allclose(fields[:2, :2], fields[2:, :2], rtol=1e3 * EPS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("C3",), "expected group to be one of C1, C2, C4, D4, got 'C3'"),
        (("C4", 0), "expected depth to be at least one nonlinearity, got 0"),
        (("C4", 2, 4), "an even filter"),
        (("C4", 2, None), "need padding='CIRCULAR'"),
    ],
)
def test_network_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        image_network(*arguments)


# ------------------------------------------------------------------------------------ draws


def test_draw_keeps_sets_apart_and_shares():
    data = load_digits()
    drawn = draw(data, [20, 50, 100], 60, seed=3)
    assert (len(drawn.train), len(drawn.test), list(drawn.rows)) == (100, 60, [20, 50, 100])
    assert not set(row_keys(drawn.train)) & set(row_keys(drawn.test))
    for size, rows in drawn.rows.items():
        assert len(set(rows)) == size
        part, _ = stratified_split(drawn.train, size, 0, 3)
        assert row_keys(drawn.train[rows]) == row_keys(part)
        shares = np.bincount(drawn.train.labels[rows], minlength=10) - size * np.bincount(data.labels) / len(data)
        assert np.abs(shares).max() <= 2  # rounded twice: in the largest set, then in this one
    assert set(drawn.rows[20]) <= set(drawn.rows[50]) <= set(drawn.rows[100])
    assert set(row_keys(draw(data, [20, 50, 100], 60, seed=4).test)) != set(row_keys(drawn.test))


def test_equal_images_have_rows_of_their_own():
    images = np.zeros((12, 2, 2, 1), np.float32)
    images[6:] = 1
    data = ImageData(images, np.repeat([0, 1], 6), ("dark", "bright"))
    drawn = draw(data, [4, 8], 4)
    assert [len(set(rows)) for rows in drawn.rows.values()] == [4, 8]
    assert [np.bincount(drawn.train.labels[rows]).tolist() for rows in drawn.rows.values()] == [[2, 2], [4, 4]]


def test_draw_errors():
    data = load_digits()
    with pytest.raises(ValueError, match=r"1700 training and 98 test images need 1798, but there are 1797\. Lower"):
        draw(data, [20, 1700], 98)
    with pytest.raises(ValueError, match="train=5 is too small for one image of each of the 10 classes"):
        draw(data, [5, 20], 20)


# ------------------------------------------------------------------------------------ kernels and accuracies


def test_kernels_are_those_of_the_network():
    drawn = draw(load_digits(), [12], 10)
    net = image_network("C4", 1, None, "CIRCULAR")
    found = image_kernels(net, drawn, "nngp", "float64", progress=False)
    whole = np.concatenate([drawn.train.images, drawn.test.images]).astype(np.float64)
    expected = net.kernel_fn(whole, get="nngp")
    for part, desired in zip(found, (expected[:12, :12], expected[12:, :12]), strict=True):
        assert part.dtype == np.float64
        np.testing.assert_allclose(part, desired, rtol=1e3 * EPS)  # tiles round otherwise
    assert image_kernels(net, drawn, progress=False).train.dtype == np.float32


def test_accuracies_are_counted():
    """A kernel of the true class decides every test image; then labels are exchanged that no kernel can know."""
    labels, truth = np.arange(12) % 3, np.arange(30) % 3
    kernels = ImageKernels(
        1.0 * (labels[:, None] == labels) + np.eye(12),
        1.0 * (truth[:, None] == labels),
    )
    told = truth.copy()
    told[[0, 3, 1]] = 2  # two of class 0 and one of class 1 are called class 2
    blank = np.zeros((30, 1, 1, 1), np.float32)
    train, test = (ImageData(blank[: len(y)], y, ("a", "b", "c", "unused")) for y in (labels, told))
    rows = {6: np.array([5, 4, 3, 0, 1, 2]), 12: np.arange(12)}
    points = accuracy_curve({"one": kernels, "two": kernels}, Draw(train, test, rows))
    assert [(p.method, p.size) for p in points] == [("one", 6), ("one", 12), ("two", 6), ("two", 12)]
    for point in points:
        assert point.accuracy == 27 / 30
        assert point.recall == {"a": 1.0, "b": 1.0, "c": 10 / 13}
        assert point.ridge > 0


def test_quarter_turns_cost_the_cnn_its_accuracy():
    drawn = draw(load_digits(), [20, 40], 60)
    drawn = drawn._replace(test=planar.datasets.quarter_turns(drawn.test, 0))
    networks = {group: image_network(group, 2, None, "CIRCULAR") for group in ("C1", "C4")}
    named = []
    found = compare(networks, drawn, report=named.append, progress=False)
    assert named == list(found.seconds) == ["C1", "C4"]
    accuracy = {(p.method, p.size): p.accuracy for p in found.points}
    for size in (20, 40):
        assert accuracy["C4", size] > accuracy["C1", size]
