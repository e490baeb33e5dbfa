"""Derivatives of a function in every mode, to second order, against central differences."""

import jax
import jax.numpy as jnp
import numpy as np

STEP = 1e-5


def check_derivatives(function, *point, rtol):
    """Of an array, along a random direction of all arguments and for random weights of its entries, in one program.

    Against differences, whose errors are STEP^2 and eps / STEP, within rtol of the largest entry.
    """
    rng = np.random.default_rng(0)
    # Of NumPy, as the point: a scalar of JAX may be weakly typed, and is another program than what is added to it
    direction = tuple(np.asarray(rng.normal(size=np.shape(x))) for x in point)
    weights = rng.normal(size=jax.eval_shape(function, *point).shape)

    def along(f):
        return lambda x: jax.jvp(f, (x,), (direction,))

    def dot(a, b):
        return sum(jnp.vdot(x, y) for x, y in zip(a, b, strict=True))

    @jax.jit
    def every(x):
        value = lambda x: function(*x)  # noqa: E731
        slope, gradient = along(value), jax.grad(lambda x: jnp.vdot(weights, value(x)))
        # What is differentiated comes with its derivative, and so is traced once
        (at, forward), (_, forward_over_forward) = along(slope)(x)
        reverse, forward_over_reverse = along(gradient)(x)
        return {
            "value": at,
            "forward": forward,
            "reverse": reverse,
            "forward over forward": forward_over_forward,
            "forward over reverse": forward_over_reverse,
            "reverse over forward": jax.grad(lambda x: jnp.vdot(weights, slope(x)[1]))(x),
            "reverse over reverse": jax.grad(lambda x: dot(gradient(x), direction))(x),
        }

    def difference(name):
        return jax.tree.map(lambda a, b: (a - b) / (2 * STEP), ahead[name], behind[name])

    found, ahead, behind = (
        jax.tree.map(np.asarray, every(tuple(x + sign * STEP * d for x, d in zip(point, direction, strict=True))))
        for sign in (0, 1, -1)
    )
    expected = {
        "forward": difference("value"),
        "forward over forward": difference("forward"),
        **{f"{mode} over {other}": difference("reverse")
           for mode, other in (("forward", "reverse"), ("reverse", "forward"), ("reverse", "reverse"))},
    }  # fmt: skip
    for mode, values in expected.items():
        for ours, theirs in zip(jax.tree.leaves(found[mode]), jax.tree.leaves(values), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * np.abs(theirs).max(), err_msg=mode)
    np.testing.assert_allclose(float(dot(found["reverse"], direction)), np.vdot(weights, found["forward"]), rtol=1e-10)
