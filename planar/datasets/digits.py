"""The handwritten digits that scikit-learn brings along: data without a file."""

from __future__ import annotations

from typing import Any

import numpy as np

from planar.datasets.image_data import ImageData


def load_digits() -> ImageData:
    """1,797 handwritten digits, 8 x 8, one channel, ten classes of about 180 images each.

    Values are multiples of 1/16. Source: UCI, "Optical recognition of handwritten digits" (Alpaydin and Kaynak,
    1998, CC BY 4.0), the test part, as embedded in scikit-learn.
    """
    from sklearn import datasets

    bunch: Any = datasets.load_digits()
    images = (bunch.images[..., None] / 16).astype(np.float32)
    return ImageData(images, bunch.target.astype(np.int64), tuple(str(name) for name in bunch.target_names))
