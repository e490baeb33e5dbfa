"""Arrays of NumPy as arrays of JAX: their own memory, and no program."""

import jax
import numpy as np

import planar
import so3ntk
from so3ntk.basics.arrays import on_device


def aligned(values):
    """The values where JAX would share their memory."""
    memory = np.zeros(values.size + 64)
    found = memory[-memory.ctypes.data // 8 % 8 :][: values.size].reshape(values.shape)
    found[...] = values
    return found


def test_later_changes_do_not_reach_what_was_made():
    values = aligned(np.arange(1.0, 9.0).reshape(2, 4, 1))
    x, array = so3ntk.SphereSignal(values, 2), on_device(values)
    images = aligned(np.arange(1.0, 17.0).reshape(1, 4, 4, 1))
    read = planar.layers.read_images(images, "test", group=None)
    before = [np.array(a) for a in (x.coefficients, array, read)]
    values[:], images[:] = 0, 0
    for now, then in zip((x.coefficients, array, read), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_arrays_of_jax_are_as_they_are():
    array = jax.numpy.ones(3)
    assert on_device(array) is array
    assert jax.jit(lambda: on_device(np.ones(2)) * 2)().tolist() == [2, 2]
