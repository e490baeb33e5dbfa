"""Arrays of torch, pandas and xarray where an array is asked for: the numbers of NumPy's, or their own clear errors."""

import numpy as np
import pandas
import pytest
import xarray

import planar
import so3ntk
from so3ntk.matrices.kernel_matrix import kernel_matrix

RANDOM = np.random.default_rng(0)
X, IMAGES, COEFFICIENTS = (RANDOM.normal(size=shape) for shape in ((12, 3), (4, 3, 3, 1), (5, 4, 1)))
Y, KERNEL = X[:, 0], np.eye(12) + X @ X.T
IMAGE_NET = so3ntk.serial(planar.Flatten(), so3ntk.Dense())


class Tensor:
    """What NumPy can know of a tensor of torch: a dtype of its own, and a refusal in ``__array__``."""

    dtype = "torch.float64"

    def __init__(self, values, refusal=None):
        self.values, self.refusal, self.shape, self.ndim = values, refusal, values.shape, values.ndim

    def __array__(self, dtype=None, copy=None):
        if self.refusal:
            raise RuntimeError(self.refusal)
        return self.values if dtype is None else self.values.astype(dtype)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return Tensor(self.values[index], self.refusal)


def torch_tensor(values):
    return pytest.importorskip("torch").as_tensor(values)


KINDS = {
    "as torch's": Tensor,
    "torch": torch_tensor,
    "pandas": lambda a: {1: pandas.Series, 2: pandas.DataFrame}.get(a.ndim, np.asarray)(a),
    "xarray": xarray.DataArray,
}


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_numpy(kind):
    make = KINDS[kind]
    np.testing.assert_array_equal(kernel_matrix(make(KERNEL), "here").whole("here"), KERNEL)
    np.testing.assert_array_equal(so3ntk.SphereSignal(make(COEFFICIENTS), 2).coefficients, COEFFICIENTS)
    expected = IMAGE_NET.kernel_fn(IMAGES, None, "nngp")
    np.testing.assert_array_equal(IMAGE_NET.kernel_fn(make(IMAGES), None, "nngp"), expected)
    np.testing.assert_array_equal(so3ntk.gram(IMAGE_NET, make(IMAGES), get="nngp", progress=False), expected)
    ours = so3ntk.KernelRegressor("precomputed", ridge=0.1).fit(KERNEL, Y)
    if kind != "as torch's":  # which scikit-learn reads by more than NumPy's interface
        model = so3ntk.KernelRegressor("precomputed", ridge=0.1).fit(make(KERNEL), make(Y))
        np.testing.assert_allclose(model.predict(make(KERNEL)), ours.predict(KERNEL), rtol=1e-12)  # another layout
    coefficients = so3ntk.solve(make(KERNEL), make(Y), 0.1).coefficients
    np.testing.assert_allclose(coefficients, np.linalg.solve(KERNEL + 0.1 * np.eye(12), Y), rtol=1e-10)


def test_refusals_of_the_other_library_are_passed_on():
    wanted = "Can't call numpy\\(\\) on Tensor that requires grad. Use tensor.detach"
    tensor = Tensor(IMAGES, "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
    with pytest.raises(RuntimeError, match=wanted):
        IMAGE_NET.kernel_fn(tensor)
    with pytest.raises(RuntimeError, match=wanted):
        so3ntk.SphereSignal(tensor[..., 0], 2)
    with pytest.raises(RuntimeError, match=wanted):
        kernel_matrix(Tensor(KERNEL, tensor.refusal), "here")
