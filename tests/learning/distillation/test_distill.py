"""Distillation against finite differences, closed forms and symmetry; what it refuses."""

import builtins
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
import so3ntk
from so3ntk.errors import PrecisionError
from so3ntk.learning.distillation.inputs import read_data
from so3ntk.learning.distillation.loss import Support, pair_kernel, support_loss

pytest.importorskip("optax", reason="distillation needs optax: so3ntk[train]")
HIDDEN = (so3ntk.Dense(W_std=1.4, b_std=0.3), so3ntk.Relu(), so3ntk.Dense(b_std=0.1))
VECTORS = so3ntk.serial(so3ntk.Flatten(), *HIDDEN)
IMAGES = so3ntk.serial(planar.Flatten(), *HIDDEN)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))
LABELS = np.where(X[:, 0] + 0.5 * X[:, 1] ** 2 > 0.3, "yes", "no")
TARGETS = np.stack([np.tanh(X[:, 0]), X[:, 1] * X[:, 2]], axis=1)
#: Few steps on few inputs: one program serves all tests that call this without other sizes.
quick = functools.partial(so3ntk.distill, steps=40, batch=32, diag_reg=1e-4, progress=False)
#: Of eight support inputs, their targets, eight inputs, targets and a ridge: the loss and its gradient in the first two.
slopes = jax.jit(
    jax.value_and_grad(
        lambda inputs, targets, x, y, diag_reg: support_loss(
            pair_kernel(VECTORS, "ntk"), Support(inputs, targets), x, y, diag_reg
        ),
        (0, 1),
    )
)


@pytest.fixture(scope="module")
def found():
    """Of two classes, with learned labels."""
    return quick(VECTORS, X, LABELS, 4, learn_labels=True, learning_rate=0.1)


@pytest.fixture(scope="module")
def drawn():
    """Of another seed, as it began."""
    return quick(VECTORS, X, LABELS, 4, steps=1, learning_rate=1e-12, seed=1)


def test_the_loss_is_that_of_the_regression():
    """Its definition, by an estimator with the ridge in absolute units."""
    support, x, y = (X[:8], TARGETS[:8]), X[10:18], TARGETS[10:18]
    ridge = 1e-3 * np.mean(np.diag(VECTORS.kernel_fn(X[:8], None, "ntk")))
    model = so3ntk.KernelRegressor(VECTORS, ridge=float(ridge), fit_intercept=False).fit(*support)
    expected = np.sum((model.predict(x) - y) ** 2) / (2 * len(x))
    assert float(slopes(*support, x, y, 1e-3)[0]) == pytest.approx(expected, rel=1e-9)


def test_gradients_by_differences():
    """In inputs and in targets."""
    support, others = [X[:8], TARGETS[:8]], (X[10:18], TARGETS[10:18], 1e-3)
    gradients = slopes(*support, *others)[1]
    for part, gradient in enumerate(gradients):
        for entry in ((0, 0), (3, 1)):
            step = np.zeros_like(support[part])
            step[entry] = 1e-5
            up, down = (
                float(slopes(*(a + sign * step if i == part else a for i, a in enumerate(support)), *others)[0])
                for sign in (1, -1)
            )  # fmt: skip
            assert float(gradient[entry]) == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-8)


def test_all_of_the_data_is_stationary():
    """Without a ridge regression on the training data has no error, and nothing to descend."""
    value, gradients = slopes(X[:8], TARGETS[:8], X[:8], TARGETS[:8], 0.0)
    assert float(value) < 1e-20
    assert max(float(jnp.abs(leaf).max()) for leaf in gradients) < 1e-9


def test_better_than_what_it_began_with(found, drawn):
    """On all of the data, by a third of what as many drawn ones miss; the history falls too."""
    assert sorted(drawn.labels) == ["no", "no", "yes", "yes"]
    assert all(any(np.allclose(s, x) for x in X) for s in drawn.inputs)
    truth = np.where(LABELS[:, None] == drawn.classes, 0.5, -0.5)
    errors = [np.sum((model.outputs(X) - truth) ** 2) for model in (found, drawn)]
    assert errors[0] < 0.7 * errors[1]
    assert found.losses.shape == (40,)
    assert found.losses[-5:].mean() < 0.8 * found.losses[:2].mean()
    assert found.score(X, LABELS) > 0.1 + drawn.score(X, LABELS)


def test_seeds_reproduce(found, drawn):
    again = quick(VECTORS, X, LABELS, 4, learn_labels=True, learning_rate=0.1)
    assert np.array_equal(again.inputs, found.inputs)
    assert np.array_equal(again.losses, found.losses)
    assert not np.isclose(drawn.losses[0], found.losses[0])


def test_as_an_estimator(found):
    model = found.regressor()
    assert np.allclose(model.predict(X), found.outputs(X), atol=1e-10)
    assert model.ridge == pytest.approx(1e-4 * np.mean(np.diag(VECTORS.kernel_fn(found.inputs, None, "ntk"))), rel=1e-9)
    classifier = so3ntk.KernelClassifier(VECTORS, ridge=found.ridge).fit(found.inputs, found.labels)
    assert set(classifier.predict(X)) <= {"no", "yes"}


def test_labels_alone_end_at_least_squares():
    """The loss is a square in the targets: y_s is the solution of K_ts (K_ss + lambda I)^-1 y_s = y_t."""
    start = (X[:3], TARGETS[:3])
    found = quick(
        VECTORS, X, TARGETS, 3, start=start, learn_inputs=False, learn_labels=True, batch=60, steps=600, learning_rate=0.1
    )  # fmt: skip
    assert np.array_equal(found.inputs, X[:3])
    k = np.asarray(VECTORS.kernel_fn(X[:3], None, "ntk"))
    design = np.asarray(VECTORS.kernel_fn(X, X[:3], "ntk")) @ np.linalg.inv(k + 1e-4 * np.trace(k) / 3 * np.eye(3))
    best = np.linalg.lstsq(design, TARGETS, rcond=None)[0]
    assert np.abs(found.targets - best).max() < 1e-3 * np.abs(best).max()


def test_targets_with_one_axis_and_repeated_batches():
    """Every batch stays for three steps: the loss goes on falling on it."""
    found = quick(VECTORS, X, TARGETS[:, 0], 4, repeat=3, steps=6, learning_rate=1e-3)
    assert found.targets.shape == found.dual_coef.shape == (4,)
    assert found.predict(X).shape == (60,)
    assert np.all(np.diff(found.losses)[[0, 1, 3, 4]] < 0)
    assert not np.allclose(found.targets, 0)
    assert any(np.isclose(found.targets[0], TARGETS[:, 0]))
    with pytest.raises(ValueError, match="the data had targets, not labels"):
        _ = found.labels


@pytest.fixture(scope="module")
def pictures():
    return planar.datasets.load_digits().images[:40, ::2, ::2].astype(np.float64), np.arange(40) % 2


@pytest.fixture(scope="module")
def invariant(pictures):
    kernel = so3ntk.augmented(IMAGES.kernel_fn, planar.motions("C4"))
    return quick(kernel, *pictures, 2, steps=4, kernel="nngp")


def test_one_image_stands_for_its_orbit(invariant, pictures):
    """Predictions do not change when an image is turned; the plain network's do."""
    images = pictures[0]
    turned = np.rot90(images, axes=(1, 2))
    assert np.abs(invariant.outputs(turned) - invariant.outputs(images)).max() < 1e-10
    plain = [np.asarray(IMAGES.kernel_fn(x, invariant.inputs, "nngp")) @ invariant.dual_coef for x in (images, turned)]
    assert np.abs(plain[0] - plain[1]).max() > 1e-3
    with pytest.raises(TypeError, match="estimators take networks, and this kernel is a function"):
        invariant.regressor()


def test_pictures(invariant, found, tmp_path):
    invariant.plot(tmp_path / "images.png", title="two")
    assert (tmp_path / "images.png").read_bytes()[:4] == b"\x89PNG"
    axes = found.plot(shape=(1, 5))
    assert [text.get_text() for text in axes.get_xticklabels()] == ["no", "yes"]
    assert found.drawn_as.tolist() == ["no", "no", "yes", "yes"]
    with pytest.raises(ValueError, match=r"the inputs are vectors; pass shape=\(H, W\)"):
        found.plot()


def test_signals_stay_real():
    """Coefficients of real harmonics are what is learned."""
    signals = so3ntk.SphereSignal(RNG.normal(size=(12, 4, 1)), 2)
    net = so3ntk.serial(so3ntk.Flatten(), *HIDDEN)
    found = quick(net, signals, np.arange(12) % 2, 2, batch=12, steps=3)
    assert isinstance(found.inputs, so3ntk.SphereSignal)
    assert found.inputs.shape == (2, 4, 1)
    assert found.inputs.coefficients.dtype == np.float64
    samples = found.inputs.to_samples("dh")
    assert np.isrealobj(samples)
    assert np.allclose(so3ntk.SphereSignal.from_samples(samples, "dh", 2).coefficients, found.inputs.coefficients)
    assert not any(np.allclose(s, x) for s in found.inputs.coefficients for x in signals.coefficients)
    found.plot()


@pytest.mark.parametrize(("changed", "message"), [
    ({"n": 3}, r"n = 3 is not a multiple of the 2 classes.*Take n = 4"),
    ({"n": 62}, "n = 62 support inputs cannot be drawn from 60"),
    ({"n": 58}, "29 inputs of each class were asked for, but '(yes|no)' has"),
    ({"n": 0}, "expected n to be an integer >= 1, got 0"),
    ({"y": LABELS[:-1]}, r"expected a label for each of the 60 inputs, got y of shape \(59,\)"),
    ({"y": TARGETS[:-1]}, r"expected a target for each of the 60 inputs, got y of shape \(59, 2\)"),
    ({"y": np.where(X[:, :1] > 1, np.nan, X[:, :1])}, "NaN"),
    ({"y": np.ma.array(LABELS, mask=X[:, 0] > 1)}, "the targets y are masked"),
    ({"x": np.ma.array(X, mask=X > 1)}, "the inputs x are masked"),
    ({"x": np.where(X > 2, np.inf, X)}, "x holds NaN or infinity, first in input"),
    ({"kernel": "NTK"}, 'expected kernel to be "ntk" or "nngp", got'),
    ({"batch": 61}, "a batch of 61 is larger than the 60 inputs"),
    ({"steps": 0}, "expected steps to be an integer >= 1"),
    ({"repeat": 1.5}, "expected repeat to be an integer >= 1"),
    ({"seed": -1}, "expected seed to be an integer >= 0"),
    ({"learning_rate": 0.0}, "expected learning_rate to be a finite number > 0"),
    ({"diag_reg": -1e-3}, "expected diag_reg to be a finite number >= 0"),
    ({"learn_inputs": False}, "nothing would be learned"),
    ({"start": (X[:3], LABELS[:3])}, r"expected a start of n = 4 inputs with 2 targets each, got \(3, 2\)"),
    ({"start": (X[:4, :3], LABELS[:4])}, r"expected start inputs like those of x, \[\(5,\)\], got \[\(3,\)\]"),
    ({"start": (X[:4], ["yes", "no", "no", "maybe"])}, "the start has the label 'maybe', which y does not have"),
    ({"net": so3ntk.serial(so3ntk.Lift(), so3ntk.IrrepPool(1)), "x": so3ntk.SphereSignal(X[:, :4, None], 2)}, "one number per pair"),
])  # fmt: skip
def test_refused(changed, message, wrong_arguments):
    arguments = {"net": VECTORS, "x": X, "y": LABELS, "n": 4} | changed
    with pytest.raises(ValueError, match=message):
        quick(**arguments)


@pytest.mark.parametrize(("changed", "message"), [
    ({"net": 3}, "expected a network made by so3ntk.serial, or a kernel function"),
    ({"x": {"a": np.arange(60)}}, "expected inputs of real numbers, a row for each"),
    ({"x": X + 1j}, "expected inputs of real numbers"),
    ({"start": X[:4]}, r"expected start to be None or \(inputs, targets\), got ndarray"),
    ({"learn_labels": 1}, "expected learn_labels to be True or False"),
])  # fmt: skip
def test_refused_types(changed, message, wrong_arguments):
    with pytest.raises(TypeError, match=message):
        quick(**({"net": VECTORS, "x": X, "y": LABELS, "n": 4} | changed))


def test_a_loss_that_is_not_finite():
    """Equal support inputs and no ridge."""
    start = (np.repeat(X[:1], 4, 0), LABELS[[0, 0, 0, 0]])
    with pytest.raises(PrecisionError, match=r"the loss is not finite before step 0.*Raise diag_reg"):
        quick(VECTORS, X, LABELS, 4, start=start, diag_reg=0.0)


def test_labels_and_targets():
    """Integers and text are labels, floats and two axes targets."""
    assert read_data(X[:3], [2, 0, 2]).classes.tolist() == [0, 2]
    assert read_data(X[:3], [2.0, 0.0, 2.0]).classes is None
    assert read_data(X[:3], np.eye(3, dtype=int)).y.shape == (3, 3)
    integers = read_data(np.arange(6, dtype=np.uint8).reshape(3, 2), [0, 1, 1])
    assert integers.x.dtype == np.float64


def test_without_optax(monkeypatch):
    real = builtins.__import__

    def absent(name, *arguments, **settings):
        if name == "optax":
            raise ImportError(name)
        return real(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"distill: training needs optax: pip install optax\."):
        so3ntk.distill(VECTORS, X, LABELS, 4)
