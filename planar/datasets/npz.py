"""Image data as NumPy archives."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Int

from planar.datasets.image_data import ImageData, check_labels, describe, unit_images

#: Of files that hold two parts, Keras' MNIST and MedMNIST: training images and labels, test images and labels.
PARTS = (("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels"))
#: Usual names of images and labels, in the order in which they are looked for.
NAMES = (*(part[:2] for part in PARTS), ("images", "labels"), ("X", "y"), ("x", "y"))
CLASS_NAMES = ("classes", "class_names", "label_names")
#: Integers beyond it are taken for something else than the numbers of classes.
MOST_CLASSES = 1 << 16


def load_npz(path: str | PathLike, images: str | None = None, labels: str | None = None) -> ImageData:
    """The images and labels of an npz archive. Pickled objects are never loaded.

    images, labels: names of the two arrays, both or none, as ``images="x_test", labels="y_test"``; None looks for
    x_train and y_train (Keras' MNIST), train_images and train_labels (MedMNIST), images and labels, X and y, x and y, and
    takes the first pair that is there.

    Images: (n, H, W) or (n, H, W, C), as bytes (divided by 255) or as floats in [0, 1]. Labels: (n,) or (n, 1).
    Integers are kept, so that the parts of a set agree even where one lacks a class; classes are named by an array
    "classes", "class_names" or "label_names" if there is one, else "0", "1", ... up to the largest label. Text
    becomes integers in the order of that array, else in sorted order.

    Raises FileNotFoundError, and ValueError, naming the file, for an archive that is damaged, lacks the arrays or
    holds others than these.
    """
    path = Path(path)
    where = f"load_npz: {path}"
    if not path.is_file():
        raise FileNotFoundError(f"load_npz: there is no file {path}.")
    if (images is None) != (labels is None):
        raise ValueError("load_npz: expected the names of both arrays or of none, got only one of images= and labels=.")
    arrays = _read(path, None if images is None or labels is None else (images, labels))
    pixels = unit_images(arrays["images"], where)
    numbers, classes = _labels(arrays["labels"], len(pixels), arrays.get("classes"), where)
    return ImageData(pixels, numbers, classes)


def _read(path: Path, names: tuple[str, str] | None) -> dict[str, np.ndarray]:
    """The arrays "images", "labels" and, where the archive has one, "classes"."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it is one array, an npy file; np.savez writes images and labels into one archive")
        with loaded as archive:
            keys = list(archive.files)
            pair = _present(keys, (names,) if names else NAMES)
            named = [key for key in CLASS_NAMES if key in keys][:1]
            wanted = (*pair, *named) if pair else ()
            arrays = [archive[key] for key in wanted]
    except Exception as error:  # whatever the damage leads zipfile and NumPy to raise
        if "pickle" in str(error):
            cause = "it holds pickled objects, which are not loaded"
        else:
            cause = "it is damaged, truncated or of another format"
        raise ValueError(f"load_npz: {path} is no readable npz archive of plain arrays: {cause} ({error}).") from error
    if pair is None:
        sought = " or ".join(f"{x!r} and {y!r}" for x, y in ((names,) if names else NAMES))
        raise ValueError(
            f"load_npz: {path}: expected arrays named {sought}; it has {', '.join(keys) or 'none'}. Pass images= and "
            "labels=."
        )
    found: dict[str, np.ndarray] = dict(zip(("images", "labels", "classes"), arrays, strict=False))
    return found


def names_in(path: Path) -> set[str]:
    """Of the arrays of an npz file; nothing of a file that is none, of which ``load_npz`` says what is wrong."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return set(archive.files)
    except Exception:  # whatever the damage leads zipfile and NumPy to raise
        return set()


def _present(keys: list[str], pairs: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    return next(((x, y) for x, y in pairs if x in keys and y in keys), None)


def _labels(
    labels: np.ndarray, n: int, names: np.ndarray | None, where: str
) -> tuple[Int[np.ndarray, " n"], tuple[str, ...]]:
    """Labels as integers, and the classes that they number."""
    if labels.shape not in ((n,), (n, 1)):
        several = " Images with several labels each are no classification." if labels.shape[:1] == (n,) else ""
        raise ValueError(f"{where}: expected labels ({n},), one for each image, got {describe(labels)}.{several}")
    if labels.dtype.kind not in "iuU":
        raise ValueError(f"{where}: expected labels to be integers or text, got {describe(labels)}.")
    labels = labels.reshape(n)
    classes = None if names is None else _class_names(names, where)
    if labels.dtype.kind == "U":
        return _numbered(labels, classes, where)
    if classes is None:
        check_labels(labels, MOST_CLASSES, where)
        classes = tuple(str(number) for number in range(int(labels.max(initial=0)) + 1))
    check_labels(labels, len(classes), where)
    return labels.astype(np.int64), classes


def _class_names(names: np.ndarray, where: str) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind != "U" or len(np.unique(names)) < len(names):
        raise ValueError(
            f"{where}: expected the names of the classes to be distinct texts (k,), got {describe(names)}."
        )
    return tuple(str(name) for name in names)


def _numbered(
    labels: np.ndarray, classes: tuple[str, ...] | None, where: str
) -> tuple[Int[np.ndarray, " n"], tuple[str, ...]]:
    """The place of each name among the classes, or among the sorted names."""
    if classes is None:
        classes = tuple(str(name) for name in np.unique(labels))
    unknown = sorted({str(label) for label in labels} - set(classes))
    if unknown:
        raise ValueError(f"{where}: the label {unknown[0]!r} is none of the classes {', '.join(classes)}.")
    place = {name: number for number, name in enumerate(classes)}
    return np.array([place[str(label)] for label in labels], np.int64), classes
