"""The trainer: against descent by hand and gradient flow, cut and resumed to the bit, refused checkpoints."""

import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
import so3ntk
from so3ntk import empirical, predict
from so3ntk.errors import PrecisionError
from tests.finite.cases import images, sphere_signals

optax = pytest.importorskip("optax", reason="training needs optax: so3ntk[train]")
from so3ntk.finite.training import run, train  # noqa: E402
from so3ntk.finite.training.descent import batch_rows  # noqa: E402

EPS = np.finfo(np.float64).eps
#: A seed of the generator that compiles fastest.
FAST = jax.random.key(0, impl="unsafe_rbg")


def cnn(width=4, outputs=2, activation=None, W_std=1.0):
    return so3ntk.serial(
        planar.Lift((3, 3), group="C4", width=width, W_std=W_std),
        so3ntk.Relu() if activation is None else activation,
        planar.GroupPool(),
        so3ntk.Dense(outputs),
    )


def data(n=6, k=2, seed=5):
    return images(n), np.random.default_rng(seed).normal(size=(n, k))


def teach(net=None, x=None, y=None, **settings):
    """A short run with everything that a checkpoint holds."""
    default_x, default_y = data()
    chosen = {"learning_rate": 0.1, "steps": 7, "members": 2, "batch": 4, "key": FAST, "optimizer": optax.adam,
              "watch": images(2), "times": [0, 0.2, 0.5], "save_every": 2, "progress": False} | settings  # fmt: skip
    return train(net or cnn(), default_x if x is None else x, default_y if y is None else y, **chosen)


def assert_same_bits(a, b):
    for one, other in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("losses", "times", "recorded"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_by_hand(momentum):
    """A linear network f = x w / sqrt(p), with the gradient of half the mean square worked out in NumPy."""
    x, y = data(k=3)
    net = so3ntk.serial(planar.Flatten(), so3ntk.Dense(3))
    optimizer = functools.partial(optax.sgd, momentum=momentum) if momentum else None
    settings = {"learning_rate": 0.7, "members": 2, "key": FAST, "optimizer": optimizer, "progress": False}
    begun = train(net, x, y, steps=0, **settings)
    found = train(net, x, y, steps=20, watch=x, times=[0.7, 7.0], **settings)
    rows = np.asarray(x).reshape(len(x), -1)
    rows = rows / rows.shape[1] ** 0.5
    for member in range(2):
        w = np.asarray(begun.params[1][0][member])
        velocity = np.zeros_like(w)
        for step in range(20):
            residual = rows @ w - y
            np.testing.assert_allclose(found.losses[step, member], np.mean(residual**2) / 2, rtol=1e3 * EPS)
            if step in (1, 10):
                np.testing.assert_allclose(
                    found.recorded[[1, 10].index(step), member], rows @ w, rtol=0, atol=1e3 * EPS
                )
            velocity = momentum * velocity + rows.T @ residual / y.size
            w = w - 0.7 * velocity
        np.testing.assert_allclose(found.predict(x)[member], rows @ w, rtol=0, atol=1e3 * EPS)  # 20 steps of sums
    np.testing.assert_allclose(found.times, [0.7, 7.0])


def test_wide_networks_follow_their_tangent_kernel():
    """At small t gradient flow of a member's own empirical NTK; half of it would be off by half of the way."""
    x, y = data(4, 1)
    tests = images(3, seed=8)
    net = cnn(width=512, outputs=1)
    rate, t = 0.02, 1.0
    settings = {"learning_rate": rate, "key": FAST, "progress": False}
    begun, found = (train(net, x, y, steps=steps, **settings) for steps in (0, 50))
    params = jax.tree.map(lambda leaf: leaf[0], begun.params)
    theta = empirical.ntk(net.apply_fn)
    flow = predict.gradient_flow(theta(params, x), y, theta(params, tests, x), t,
                                 f0_train=begun.predict(x)[0], f0_test=begun.predict(tests)[0])  # fmt: skip
    way = np.abs(flow - begun.predict(tests)[0]).max()
    assert way > 0.05
    # Euler's step is off by half of rate * t * (eigenvalue / n)^2, the kernel's change by 1 / sqrt(width).
    assert np.abs(found.predict(tests)[0] - flow).max() < 0.05 * way


@pytest.mark.slow
def test_on_the_sphere():
    x = sphere_signals(count=4)
    net = so3ntk.serial(so3ntk.Lift(width=16), so3ntk.Erf(), so3ntk.GroupPool(), so3ntk.Dense(1),
                        quadrature=so3ntk.ProductGrid(4))  # fmt: skip
    found = train(
        net, x, [1.0, -1.0, 0.5, 0.0], learning_rate=0.5, epochs=30, batch=2, members=2, key=FAST, progress=False
    )
    assert found.losses.shape == (60, 2)
    assert (found.losses[-4:].mean(axis=0) < 0.5 * found.losses[:4].mean(axis=0)).all()
    np.testing.assert_allclose(found.predict(x, batch=3), found.predict(x), rtol=0, atol=100 * EPS)


def test_precision_is_that_of_the_signals():
    found = teach(x=images(6).astype(jnp.float32), watch=None, times=None)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {jnp.dtype("float32")}
    assert found.losses.dtype == np.float32


def test_resumed_to_the_bit(tmp_path):
    """Stopped twice, and killed in the middle of a save: the bits of a run without interruption."""
    whole = teach()
    assert whole.recorded.shape == (3, 2, 2, 2)
    for steps in (3, 3, 5, 7):
        found = teach(
            steps=steps, times=[t for t in (0, 0.2, 0.5) if t < 0.1 * steps + 0.01], checkpoint=tmp_path / "a.npz"
        )
    assert_same_bits(found, whole)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_killed(at, tmp_path, monkeypatch):
    save, calls = run.save, iter(range(9))

    def killed(*arguments):
        if next(calls) == at:
            raise KeyboardInterrupt
        save(*arguments)

    monkeypatch.setattr(run, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        teach(checkpoint=tmp_path / "deep" / "a.npz")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["a.npz"] * (at > 0)
    monkeypatch.undo()
    assert_same_bits(teach(checkpoint=tmp_path / "deep" / "a.npz"), teach())


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "a.npz"
    teach(checkpoint=path)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"net": cnn(width=5)}, "another network"),
        ({"net": cnn(activation=so3ntk.Elementwise(lambda u: jnp.maximum(u, 0.1)))}, "another network"),
        ({"net": cnn(W_std=1.0 + 1e-12)}, "another network"),
        ({"y": data()[1] + EPS * 4}, "other data"),
        ({"watch": images(2) + 1}, "other data"),
        ({"learning_rate": 0.1 + 1e-9}, "another run"),
        ({"optimizer": functools.partial(optax.adam, b1=0.8)}, "another run"),
        ({"batch": 3}, "another run"),
        ({"key": jax.random.key(1, impl="unsafe_rbg")}, "another run"),
        ({"members": 3}, "another run"),
        ({"steps": 6}, "at step 7 already"),
        ({"times": [0, 0.3, 0.5]}, "recorded after the steps"),
    ],
)
def test_checkpoint_of_another_run(kept, change, words):
    before = kept.read_bytes()
    with pytest.raises(ValueError, match=words):
        teach(checkpoint=kept, **change)
    assert kept.read_bytes() == before


def test_checkpoint_of_another_environment(kept, monkeypatch):
    monkeypatch.setattr(run, "environment", lambda: "jax 9.9 on abacus")
    with pytest.raises(ValueError, match=r"written by jax .* on cpu, and this is jax 9.9 on abacus"):
        teach(checkpoint=kept)


def test_damaged_checkpoints(kept, tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(kept.read_bytes()[:-200])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        teach(checkpoint=path)
    arrays: Any = dict(np.load(kept))
    np.savez(path, **{name: a for name, a in arrays.items() if name != "state_0"})
    with pytest.raises(ValueError, match="lacks the array 'state_0'"):
        teach(checkpoint=path)
    np.savez(path, **arrays | {"state_0": arrays["state_0"][:1]})
    with pytest.raises(ValueError, match="do not fit each other"):
        teach(checkpoint=path)
    np.savez(path, **arrays | {"step": np.array([None])})
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        teach(checkpoint=path)


def test_batches_are_without_replacement_and_seeded():
    keys = jax.random.split(jax.random.key(0), 2)
    rows = np.array([[batch_rows(key, jnp.asarray(step), 7, 2) for step in range(9)] for key in keys])
    epochs = rows.reshape(2, 3, 6)
    assert all(len(set(epoch)) == 6 and set(epoch) <= set(range(7)) for epoch in epochs.reshape(6, 6))
    assert len({epoch.tobytes() for epoch in epochs.reshape(6, 6)}) == 6
    assert_same_bits(teach(), teach())
    other = teach(key=jax.random.key(1, impl="unsafe_rbg"))
    assert (teach().losses[0] != other.losses[0]).all()


@pytest.mark.slow
def test_members_do_not_depend_on_the_ensemble():
    few, many = (teach(members=members, steps=2, key=0, watch=None, times=None) for members in (1, 3))
    np.testing.assert_allclose(few.losses[:, 0], many.losses[:, 0], rtol=1e4 * EPS)  # Adam divides by roots of squares
    assert len(set(many.losses[0])) == 3


def test_divergence_is_reported(tmp_path):
    with pytest.raises(
        PrecisionError, match=r"not finite before step \d+, in the members \[0, 1\]. Lower learning_rate"
    ):
        teach(learning_rate=1e6, optimizer=None, steps=200, times=[0], save_every=150, checkpoint=tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


def test_progress_is_shown(capsys):
    teach(progress=True)
    assert "7/7" in capsys.readouterr().err


def test_without_optax(monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(ImportError, match=r"training needs optax: pip install optax\."):
        teach()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate to be a finite number > 0"),
        ({"learning_rate": np.nan}, "learning_rate"),
        ({"steps": None}, "either steps or epochs"),
        ({"epochs": 1}, "either steps or epochs"),
        ({"steps": -1}, "steps to be an integer >= 0"),
        ({"members": 0}, "members to be an integer >= 1"),
        ({"batch": 7}, "larger than the 6 training inputs"),
        ({"y": np.zeros(5)}, "a target for each input"),
        ({"y": np.full(6, np.nan)}, "NaN"),
        ({"y": np.zeros(6)}, r"End the network with GroupPool\(\) and Dense\(1\)"),
        ({"times": [0.8]}, "from 0 to learning_rate"),
        ({"times": [-0.1]}, "from 0 to learning_rate"),
        ({"times": None}, "go together"),
        ({"save_every": 0, "checkpoint": "unused.npz"}, "save_every"),
        ({"net": so3ntk.serial(planar.Lift((3, 3)), planar.GroupPool(), so3ntk.Dense(2))}, "give width="),
    ],
)
def test_wrong_arguments(change, words):
    with pytest.raises(ValueError, match=words):
        teach(**change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"net": so3ntk.Relu()}, "so3ntk.serial"),
        ({"optimizer": optax.adam(0.1)}, r"Pass optax.adam, not"),
        ({"optimizer": float}, "function of the learning rate"),
        ({"y": np.full(6, "a")}, "real targets"),
        ({"key": 0.5}, "a seed"),
    ],
)
def test_wrong_types(change, words):
    with pytest.raises(TypeError, match=words):
        teach(**change)
