"""Signals on the sphere as batches: indexing, transformations of JAX, scikit-learn; and a process in single precision."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.model_selection import KFold, train_test_split

from so3ntk.sphere.rotations import random_rotations
from so3ntk.sphere.signals import SphereSignal, concatenate, rotate
from tests.sphere.test_sphere import EPS, SHAPES, assert_close, random_signal, unit_vectors


class TestBatch:
    @pytest.mark.parametrize(
        ("index", "rows"),
        [(0, [0]), (-1, [4]), (np.int64(2), [2]), (jnp.asarray(2), [2]), (slice(1, None, 2), [1, 3]),
         (slice(9, 12), []), ([3, 0, 3], [3, 0, 3]), (np.array([4, -5]), [4, 0]), (jnp.array([1, 2]), [1, 2]),
         ([], []), (np.arange(5) % 2 == 0, [0, 2, 4]), ([False] * 5, []), ((np.array([1, 4]), ...), [1, 4])],
    )  # fmt: skip
    def test_indexing(self, index, rows):
        signal = random_signal(5, 3)
        assert (len(signal), signal.shape, signal.channels) == (5, (5, 9, 2), 2)
        part = signal[index]
        assert (part.bandlimit, part.shape, len(part)) == (3, (len(rows), 9, 2), len(rows))
        np.testing.assert_array_equal(part.coefficients, np.asarray(signal.coefficients)[rows])

    def test_transformations(self):
        signal = random_signal(3, 4)
        leaves, structure = jax.tree.flatten(signal)
        assert len(leaves) == 1
        for leaf in (None, object(), np.zeros(3), jax.ShapeDtypeStruct((1,), jnp.float32)):
            assert jax.tree.unflatten(structure, [leaf]).bandlimit == 4
        doubled = jax.vmap(jax.jit(lambda x: jax.tree.map(lambda a: 2 * a, x)))(signal)
        np.testing.assert_array_equal(doubled.coefficients, 2 * signal.coefficients)
        part = jax.jit(lambda x, i: x[i])(signal, 2)
        np.testing.assert_array_equal(part.coefficients, signal[2].coefficients)

    def test_scikit_learn(self):
        signal, y = random_signal(10, 3), np.arange(10)
        folds = [(signal[a], signal[b]) for a, b in KFold(5, shuffle=True, random_state=0).split(signal, y)]
        assert [(len(train), len(test)) for train, test in folds] == [(8, 2)] * 5
        x_train, x_test, y_train, y_test = train_test_split(signal, y, test_size=3, random_state=0)
        for part, rows in [(x_train, y_train), (x_test, y_test)]:
            assert isinstance(part, SphereSignal)
            np.testing.assert_array_equal(part.coefficients, signal[rows].coefficients)

    def test_concatenate(self):
        parts = [random_signal(2, 3), random_signal(0, 3), random_signal(3, 3, seed=1)]
        both = concatenate(part for part in parts)
        expected = np.concatenate([part.coefficients for part in parts])
        np.testing.assert_array_equal(both.coefficients, expected)
        np.testing.assert_array_equal(concatenate(list(both)).coefficients, expected)  # iterates by ones

    def test_norm_and_power_spectrum(self):
        signal = random_signal(3, 5, 4)
        weights = np.polynomial.legendre.leggauss(9)[1] / 2 / 17  # of the mean over the sphere
        square = np.einsum("ntpc,t->n", signal.to_samples("gl", bandlimit=9) ** 2, weights) / 4
        assert_close(signal.norm(), np.sqrt(square), 100 * EPS)
        power_spectrum = jax.jit(SphereSignal.power_spectrum)
        spectrum = power_spectrum(signal)
        second = np.sum(np.asarray(signal.coefficients)[:, 4:9] ** 2, axis=(1, 2)) / (4 * np.pi * 4)
        assert_close(spectrum[:, 2], second, 4 * EPS)
        assert_close(jnp.sum(spectrum, axis=1), square, 100 * EPS)
        assert_close(power_spectrum(rotate(signal, random_rotations(3))), spectrum, 100 * EPS)
        gradient = jax.jit(jax.grad(lambda a: jnp.sum(SphereSignal(a, 3).norm())))(jnp.zeros((2, 9, 1)))
        assert_close(gradient, 0, 0)
        assert signal[:0].power_spectrum().shape == (0, 5)

    def test_at_and_with_bandlimit(self):
        signal, points = random_signal(2, 4), unit_vectors(5)
        wider = signal.with_bandlimit(6)
        assert wider.shape == (2, 36, 2)
        assert_close(jax.jit(lambda x: x.at(points))(wider), signal.at(points), 64 * EPS)
        np.testing.assert_array_equal(wider.with_bandlimit(4).coefficients, signal.coefficients)
        np.testing.assert_array_equal(signal.with_bandlimit(2).coefficients, signal.coefficients[:, :4])
        assert signal.at(points[:0]).shape == (2, 0, 2)


SINGLE = """
import sys
import numpy as np
import jax
import so3ntk.sphere.signals as sphere
assert "s2fft" not in sys.modules, "importing so3ntk.sphere imports s2fft"
assert not jax.config.jax_enable_x64
samples = np.load(sys.argv[1] + "samples.npz")
for name in samples:
    signal = sphere.SphereSignal.from_samples(samples[name], sampling=name, bandlimit=16)
    again = sphere.SphereSignal.from_coefficients(np.asarray(signal.to_coefficients(), complex))
    results = signal, again, signal[0].norm(), signal.at(np.eye(3)), sphere.rotate(signal, np.eye(3))
    assert all(result.dtype == "float32" for result in results), results
    np.save(sys.argv[1] + name + ".npy", signal.coefficients)
assert "s2fft" in sys.modules
assert not jax.config.jax_enable_x64, "the configuration of JAX has changed"
"""


def test_in_a_fresh_process_with_x64_off(tmp_path):
    """Analysis is in double precision, the result rounded once; nothing is printed, no warning by s2fft."""
    samples = {name: random_signal(2, 16).to_samples(name) for name in SHAPES}
    np.savez(tmp_path / "samples.npz", **samples)
    command = [sys.executable, "-c", SINGLE, f"{tmp_path}/"]
    environment = {**os.environ, "JAX_ENABLE_X64": "0", "JAX_PLATFORMS": "cpu"}
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for name in SHAPES:
        double = np.asarray(SphereSignal.from_samples(samples[name], name, 16).coefficients)
        one_rounding = np.finfo(np.float32).eps / 2 * abs(double).max() * 1.001
        assert_close(np.load(tmp_path / f"{name}.npy"), double, one_rounding)
