"""Faults in the reading of maps and pictures, and in the conversion of coefficients."""

from fault import Fault

FOLDER = "so3ntk/sphere/maps"
FITS = ("tests/sphere/maps/test_maps.py",)
CONVERTERS = ("tests/sphere/maps/test_converters.py",)
PICTURES = ("tests/sphere/maps/test_images.py",)

MAPS: tuple[Fault, ...] = (
    Fault("sines-in-the-wrong-order", f"{FOLDER}/rings.py", "np.sin(angles[:, :0:-1])", "np.sin(angles[:, 1:])", FITS),
    Fault("fit-without-its-correction", f"{FOLDER}/least_squares.py", "coefficients += self._solve(gradient)",
          "coefficients += 0 * self._solve(gradient)", FITS),
    Fault("ridge-not-relative-to-the-sphere", f"{FOLDER}/least_squares.py", "weights * (4 * np.pi / weights.sum())",
          "weights / weights.sum()", FITS),
    Fault("areas-without-the-sine", f"{FOLDER}/coordinates.py", "np.diff(np.sin(np.radians(borders)))",
          "np.diff(np.radians(borders))", FITS),
    Fault("columns-at-a-border-as-wide-as-the-gap", f"{FOLDER}/coordinates.py", "if len(lon) > 1 and gaps[widest] > 2 *",
          "if len(lon) > 1 and gaps[widest] > 400 *", FITS),
    Fault("mask-of-the-first-channel", f"{FOLDER}/weights.py", "total = total * ~np.reshape(hidden, pixels.flat.shape)",
          "total = total * ~np.reshape(hidden, pixels.flat.shape)[:, :, :1]", FITS),
    Fault("residual-without-weights", f"{FOLDER}/least_squares.py", "return coefficients, left**2 @ self.weights, values**2 @ self.weights",
          "return coefficients, (left**2).sum(axis=1), (values**2).sum(axis=1)", FITS),
    Fault("nested-faces-of-the-belt-not-shifted", f"{FOLDER}/places.py", "np.where(face // 4 == 1, 2 * (face % 4), 2 * (face % 4) + 1)",
          "2 * (face % 4) + 1", CONVERTERS),
    Fault("phase-of-even-orders", f"{FOLDER}/converters.py", "np.where(order % 2, csphase, 1)", "np.where(order, csphase, 1)", CONVERTERS),
    Fault("healpy-order-zero-halved", f"{FOLDER}/converters.py", "scale = (np.where(order, np.sqrt(0.5), 1)", "scale = (np.sqrt(0.5)",
          CONVERTERS),
    Fault("pictures-upside-down", f"{FOLDER}/images.py", "width * aspect * (0.5 - v)[:, None]", "width * aspect * (v - 0.5)[:, None]",
          PICTURES),
    Fault("pictures-without-their-area", f"{FOLDER}/images.py", "scale**2 * width**2 * aspect", "scale * width**2 * aspect", PICTURES),
)  # fmt: skip
