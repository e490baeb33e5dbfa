"""Image data: the container, the embedded digits, splits and rotations. Readers of files have their own tests."""

from typing import Any

import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets

from planar import datasets
from planar.datasets import ImageData, load_digits, quarter_turns, stratified_split


def random_data(counts=(5, 9, 6), size=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    images = rng.random((len(labels), size, size, 2), dtype=np.float32)
    return ImageData(images, labels, tuple("abcdefghijkl"[: len(counts)]))


def row_keys(data):
    """Each row as text: equal data sets have equal ones, in equal order."""
    return [(label, image.tobytes()) for image, label in zip(data.images, data.labels, strict=True)]


# ------------------------------------------------------------------------------------ the container


def test_rows():
    data = random_data()
    assert len(data) == 20
    for indices in (slice(3, 9, 2), [4, 4, -1], np.array([2, 0]), data.labels == 1, slice(0, 0)):
        part = data[indices]
        np.testing.assert_array_equal(part.images, data.images[indices])
        np.testing.assert_array_equal(part.labels, data.labels[indices])
        assert part.classes == data.classes
    one = data[7]
    assert one.images.shape == (1, 4, 4, 2)
    np.testing.assert_array_equal(one.images[0], data.images[7])
    for wrong in (20, [True, False]):
        with pytest.raises(IndexError):
            data[wrong]
    with pytest.raises(AttributeError, match="cannot assign"):
        setattr(data, "labels", data.labels)  # noqa: B010


GOOD = {"images": np.zeros((2, 3, 3, 1), np.float32), "labels": np.array([0, 1]), "classes": ("a", "b")}


def bad_pixel(value):
    images = np.full((2, 3, 3, 1), 0.5, np.float32)
    images[1, 2, 0, 0] = value
    return images


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": np.zeros((2, 3, 3, 1))}, TypeError, r"float32 in \[0, 1\], got float64 \(2, 3, 3, 1\)"),
        (
            {"images": np.zeros((2, 3, 3, 1), np.uint8)},
            TypeError,
            r"uint8.*Pass \(images / 255\)\.astype\(np\.float32\)",
        ),
        ({"images": np.zeros((2, 3, 3, 1), np.float16)}, TypeError, r"float16.*Pass images\.astype\(np\.float32\)"),
        ({"images": np.zeros((2, 3, 3, 1), np.int64)}, TypeError, r"got int64 \(2, 3, 3, 1\)\.$"),
        ({"images": [[0.0]]}, TypeError, "got list"),
        ({"images": np.zeros((2, 3, 3), np.float32)}, ValueError, r"\(n, H, W, C\), got the shape \(2, 3, 3\)"),
        ({"images": np.zeros((2, 3, 0, 1), np.float32)}, ValueError, r"\(2, 3, 0, 1\)"),
        ({"images": bad_pixel(np.nan)}, ValueError, "image 1 .* holds nan"),
        ({"images": bad_pixel(1.5)}, ValueError, "image 1 .* holds 1.5"),
        ({"images": bad_pixel(-0.5)}, ValueError, "image 1 .* holds -0.5"),
        ({"images": bad_pixel(np.inf)}, ValueError, "image 1 .* holds inf"),
        ({"labels": np.array([0, 1, 1])}, ValueError, r"each of the 2 images, got labels of shape \(3,\)"),
        ({"labels": np.array([0.0, 1.0])}, TypeError, "integers, got float64"),
        ({"labels": [0, 1]}, TypeError, "got list"),
        ({"labels": np.array([0, 2])}, ValueError, "label 1 .* is 2, out of range: expected 0 to 1 for 2 classes"),
        ({"labels": np.array([-1, 1])}, ValueError, "label 0 .* is -1"),
        ({"classes": ["a", "b"]}, TypeError, "tuple of names"),
        ({"classes": (0, 1)}, TypeError, "tuple of names"),
        ({"classes": ("a", "a")}, ValueError, "each class once"),
    ],
)
def test_what_is_no_image_data(change, error, message):
    ImageData(**GOOD)
    with pytest.raises(error, match=f"ImageData: .*{message}"):
        ImageData(**(GOOD | change))


def test_digits():
    data = load_digits()
    bunch: Any = sklearn_datasets.load_digits()
    assert data.images.shape == (1797, 8, 8, 1)
    assert data.images.dtype == np.float32
    assert data.classes == tuple("0123456789")
    np.testing.assert_array_equal(data.images[..., 0] * 16, bunch.images)
    np.testing.assert_array_equal(data.labels, bunch.target)
    assert data.images.max() == 1
    assert set(datasets.__all__) <= set(dir(datasets))


# ------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize(
    ("counts", "train", "test"),
    [
        ((5, 9, 6), 10, 5),
        ((5, 9, 6), 13, 7),
        ((5, 9, 6), 10, 0),
        ((30, 2, 11, 0, 17), 40, 11),
        ((7,) * 10, 25, 33),
        ((40, 3, 3, 3), 20, 20),  # three classes with shares of 1.2: the largest takes what they leave
        ((2, 2), 2, 2),
    ],
)
def test_splits_keep_the_shares(counts, train, test):
    data = random_data(counts)
    for seed in range(4):
        parts = stratified_split(data, train, test, seed)
        keys = [row_keys(part) for part in parts]
        assert [len(part) for part in parts] == [train, test]
        assert len({*keys[0], *keys[1]}) == train + test  # disjoint, nothing twice
        assert {*keys[0], *keys[1]} <= set(row_keys(data))
        for part in parts:
            found = np.bincount(part.labels, minlength=len(counts))
            assert np.all(np.abs(found - len(part) * np.array(counts) / sum(counts)) < 1)
            assert len(part) == 0 or np.all((found > 0) == (np.array(counts) > 0))


def test_splits_follow_the_seed_and_the_images_but_not_their_order():
    data = random_data((30, 41, 25))
    parts = stratified_split(data, 40, 20, seed=3)
    for seed in range(3):
        shuffled = data[np.random.default_rng(seed).permutation(len(data))]
        for part, other in zip(parts, stratified_split(shuffled, 40, 20, seed=3), strict=True):
            assert row_keys(part) == row_keys(other)
    other = stratified_split(data, 40, 20, seed=4)[0]
    assert 0 < len(set(row_keys(other)) & set(row_keys(parts[0]))) < 40
    # In random order: a slice of a part is no single class, and the rank says nothing of the row it came from.
    assert len(set(parts[0].labels[:12].tolist())) == 3
    rows = [row_keys(data).index(key) for key in row_keys(parts[0])]
    assert abs(np.corrcoef(rows, np.arange(40))[0, 1]) < 0.5


def test_smaller_training_sets_lie_in_larger_ones():
    rest, test = stratified_split(random_data((30, 30, 30)), 60, 30)
    sets = [set(row_keys(stratified_split(rest, m, 0)[0])) for m in (6, 12, 30, 60)]
    assert sets[0] < sets[1] < sets[2] < sets[3] == set(row_keys(rest))
    assert not sets[3] & set(row_keys(test))


def test_equal_remainders_are_settled_by_the_seed():
    data = random_data((10, 10, 10))
    largest = {int(np.argmax(np.bincount(stratified_split(data, 4, 3, seed)[0].labels))) for seed in range(20)}
    assert largest == {0, 1, 2}


def test_remedies_of_splits():
    """What messages advise: leave out a class that is too small, or make the smaller part larger."""
    data = random_data((5, 9, 1))
    train, test = stratified_split(data[data.labels != 2], 5, 5)
    assert (len(train), len(test), train.classes) == (5, 5, data.classes)
    awkward = random_data((26, 2, 2))
    with pytest.raises(ValueError, match=r"Make the smaller part larger, or leave out the smallest class\."):
        stratified_split(awkward, 16, 3)
    assert [len(part) for part in stratified_split(awkward, 16, 10)] == [16, 10]
    assert [len(part) for part in stratified_split(awkward[awkward.labels == 0], 16, 3)] == [16, 3]


def test_equal_images_are_split_like_others():
    data = ImageData(np.zeros((8, 2, 2, 1), np.float32), np.arange(8) % 2, ("a", "b"))
    parts = stratified_split(data, 4, 4)
    assert [np.bincount(part.labels).tolist() for part in parts] == [[2, 2], [2, 2]]


@pytest.mark.parametrize(
    ("counts", "train", "test", "seed", "message"),
    [
        ((5, 9, 6), 15, 6, 0, "train=15 and test=6 images were asked for, but there are 20"),
        ((5, 9, 1), 5, 5, 0, "class 'c' has 1 image, too few for one in each of 2 parts"),
        ((5, 9, 6), 2, 5, 0, "train=2 is too small for one image of each of the 3 classes"),
        ((5, 9, 6), 5, 2, 0, "test=2 is too small"),
        ((26, 2, 2), 16, 3, 0, r"\[26, 2, 2\] images cannot be divided into train=16 and test=3"),
        ((5, 9, 6), 0, 5, 0, "train to be an integer >= 1, got 0"),
        ((5, 9, 6), 5.0, 5, 0, "train to be an integer >= 1, got 5.0"),
        ((5, 9, 6), 5, -1, 0, "test to be an integer >= 0, got -1"),
        ((5, 9, 6), True, 5, 0, "got True"),
        ((5, 9, 6), 5, 5, None, "seed to be an integer >= 0, got None"),
    ],
)
def test_splits_that_cannot_be(counts, train, test, seed, message):
    with pytest.raises(ValueError, match=f"stratified_split: .*{message}"):
        stratified_split(random_data(counts), train, test, seed)


# ---------------------------------------------------------------------------------------- rotations


def test_quarter_turns():
    data = random_data((30, 30), size=5)
    turned = quarter_turns(data, seed=2)
    turns = []
    for image, other in zip(data.images, turned.images, strict=True):
        matches = [k for k in range(4) if np.array_equal(other, np.rot90(image, k))]  # of one image, axes (0, 1)
        assert len(matches) == 1
        turns += matches
    assert np.all(np.bincount(turns, minlength=4) >= 5)  # of 60, 15 each are expected
    np.testing.assert_array_equal(turned.labels, data.labels)
    assert turned.classes == data.classes
    np.testing.assert_array_equal(quarter_turns(data, 2).images, turned.images)
    assert not np.array_equal(quarter_turns(data, 3).images, turned.images)
    assert len(quarter_turns(data[:0], 0)) == 0


def test_a_quarter_turn_is_counterclockwise():
    corner = np.zeros((40, 3, 3, 1), np.float32)
    corner[:, 0, 2] = 1  # top right
    data = ImageData(corner, np.zeros(40, int), ("a",))
    k = np.random.default_rng(0).integers(4, size=40)
    turned = quarter_turns(data, 0).images[..., 0]
    for turn, (row, column) in enumerate([(0, 2), (0, 0), (2, 0), (2, 2)]):
        assert np.all(turned[k == turn, row, column] == 1)


def test_rotations_that_cannot_be():
    data = ImageData(np.zeros((2, 3, 4, 1), np.float32), np.array([0, 0]), ("a",))
    with pytest.raises(ValueError, match="quarter_turns: expected square images, got 3 x 4"):
        quarter_turns(data, 0)
    with pytest.raises(ValueError, match="quarter_turns: expected seed to be an integer >= 0, got -1"):
        quarter_turns(random_data(), -1)
