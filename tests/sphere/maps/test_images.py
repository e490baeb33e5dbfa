"""Pictures on the sphere, against sums over fine grids of the functions that they are."""

import re

import numpy as np
import pytest

from so3ntk.sphere.signals import SphereSignal
from tests.oracles.maps import bilinear, integrals

RNG = np.random.default_rng(0)
PICTURES = RNG.normal(size=(2, 5, 7, 3))


#: Places in a picture of 5 by 7 pixels, in pixels from its top left corner: 20 in a pixel's side.
ROW, COLUMN = np.broadcast_arrays((np.arange(100)[:, None] + 0.5) / 20, (np.arange(140) + 0.5) / 20)


class TestStereographic:
    @pytest.mark.parametrize("extent", [None, 1.0, 2.5])
    def test_coefficients_are_integrals(self, extent):
        x = SphereSignal.from_images(PICTURES, 4, extent=extent)
        to_corner = 2 * np.tan((extent or np.pi / 2) / 2)  # from the centre of the plane that touches the north pole
        right, up = (to_corner / np.hypot(2.5, 3.5) * side for side in (COLUMN - 3.5, 2.5 - ROW))
        theta, phi = 2 * np.arctan(np.hypot(right, up) / 2), np.arctan2(up, right)
        area = (np.cos(theta / 2) ** 2 * to_corner / np.hypot(2.5, 3.5) / 20) ** 2
        for picture, signal in zip(PICTURES, x.coefficients, strict=True):
            expected = integrals(bilinear(picture, ROW, COLUMN), theta, phi, area, 4)
            np.testing.assert_allclose(signal, expected, atol=2e-3)  # midpoints: (l / 20)^2 / 24 times some

    def test_a_white_picture_is_as_large_as_its_square(self):
        """Its mean is the area of a stereographic square with its corners at the equator, where the plane's radius is 1."""
        x = SphereSignal.from_images(np.ones((1, 3, 3, 1), np.float32), 1)
        side = (np.arange(1000) + 0.5) / 1000 - 0.5
        area = np.sum(4 / (1 + 2 * side[:, None] ** 2 + 2 * side**2) ** 2) * 2 / 1000**2
        assert float(x.coefficients[0, 0, 0]) == pytest.approx(area / np.sqrt(4 * np.pi), rel=1e-6)
        assert x.dtype == np.float32

    def test_orientation(self):
        """The upper right pixel is towards +x and +y."""
        picture = np.zeros((1, 8, 8, 1))
        picture[0, 1, 6] = 1
        x = SphereSignal.from_images(picture, 12)
        vectors = np.array([[sx * 0.6, sy * 0.6, np.sqrt(0.28)] for sx in (1, -1) for sy in (1, -1)])
        values = np.asarray(x.at(vectors))[0, :, 0]
        assert values.argmax() == 0
        assert values[0] > 5 * abs(values[1:]).max()

    def test_large_pictures_are_summed_in_blocks(self, monkeypatch):
        x = SphereSignal.from_images(PICTURES, 6)
        monkeypatch.setattr("so3ntk.sphere.maps.images.BLOCK", 6**2 * 100)
        blocks = SphereSignal.from_images(PICTURES, 6)
        np.testing.assert_allclose(blocks.coefficients, x.coefficients, atol=1e-14)


class TestEquirectangular:
    def test_coefficients_are_integrals(self):
        x = SphereSignal.from_images(PICTURES, 4, "equirectangular")
        theta, phi = ROW * np.pi / 5, (COLUMN - 3.5) * 2 * np.pi / 7
        area = np.sin(theta) * (np.pi / 100) * (2 * np.pi / 140)
        for picture, signal in zip(PICTURES, x.coefficients, strict=True):
            expected = integrals(bilinear(picture, ROW, COLUMN, around=True), theta, phi, area, 4)
            np.testing.assert_allclose(signal, expected, atol=2e-3)

    def test_a_white_picture_is_one(self):
        x = SphereSignal.from_images(np.ones((1, 6, 9, 1), int), 6, "equirectangular")
        np.testing.assert_allclose(x.coefficients[0, 0], np.sqrt(4 * np.pi), atol=1e-8)
        np.testing.assert_allclose(x.coefficients[0, 1:], 0, atol=1e-8)


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        (PICTURES[0], {}, "expected images (N, H, W, C), got (5, 7, 3). Grey pictures are images[..., None]."),
        (PICTURES[0, ..., 0], {}, "images[None, ..., None]"),
        (PICTURES[:, :0], {}, "got (2, 0, 7, 3)"),
        (PICTURES * np.nan, {}, "hold nan at index (0, 0, 0, 0)"),
        (PICTURES, {"projection": "mollweide"}, "expected the projection"),
        (PICTURES, {"extent": np.pi}, "between 0 and pi radians"),
        (PICTURES, {"extent": True}, "between 0 and pi radians"),
        (PICTURES, {"extent": 1.0, "projection": "equirectangular"}, "covers the whole sphere, but extent is 1.0"),
        (PICTURES, {"bandlimit": 65}, "a bandlimit from 1 to 64"),
    ],
)
def test_what_is_refused(images, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        SphereSignal.from_images(images, **{"bandlimit": 4, **options})


def test_complex_images_are_refused():
    with pytest.raises(TypeError, match="expected real images, got dtype complex128"):
        SphereSignal.from_images(PICTURES * 1j, 4)
