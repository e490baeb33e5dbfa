"""Faults in product units and in networks that are polynomials in their kernel."""

from fault import Fault

PRODUCTS = (
    Fault(
        "products-slope",  # right for one power of one
        "so3ntk/engine/activations/products.py",
        "slopes = [None if a is None else a * k for k, a in enumerate(self.coefficients)]",
        "slopes = [None if a is None else a * min(k, 2) for k, a in enumerate(self.coefficients)]",
        ("tests/engine/activations/test_products.py",),
    ),
    Fault(
        "products-share-a-unit",  # finite networks alone: the first unit twice
        "so3ntk/engine/activations/products.py",
        "product = product * units[..., k - 1] if k else product",
        "product = product * units[..., max(k - 2, 0)] if k else product",
        ("tests/engine/activations/test_products.py", "tests/finite/test_products.py"),
    ),
    Fault(
        "products-channels-not-divided",  # the standard parametrisation alone
        "so3ntk/engine/activations/products.py",
        "return channels // self.units",
        "return channels",
        ("tests/engine/activations/test_products.py",),
    ),
    Fault(
        "polynomial-slope-without-power",  # towers alone: NTKs of powers above one
        "so3ntk/engine/evaluation/polynomial.py",
        "slopes = coefficients[1:] * np.arange(1, len(coefficients), dtype=coefficients.dtype)",
        "slopes = coefficients[1:] * np.arange(1, len(coefficients), dtype=coefficients.dtype) ** 0.5",
        ("tests/engine/test_polynomial.py",),
    ),
    Fault(
        "exact-grid-without-the-irrep",  # mean kernels stay right
        "so3ntk/sphere/degrees.py",
        "return at._replace(integrated=max(at.integrated, at.degree + added), pooled=True)",
        "return at._replace(integrated=max(at.integrated, at.degree), pooled=True)",
        ("tests/sphere/test_products.py",),
    ),
)
