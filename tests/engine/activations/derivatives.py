"""Derivatives of an activation's three functions, to second order, in one program."""

from functools import partial

import jax
import jax.numpy as jnp


def outputs(activation):
    """(c, q1, q2) to the three functions of an activation."""

    def function(triple):
        c, q1, q2 = triple
        return jnp.stack([*activation.duals(c, q1, q2), activation.variance(q1)])

    return function


@partial(jax.jit, static_argnums=0)
def all_derivatives(function, table):
    """Value, jvp, vjp, and second derivatives by forward and, in double precision, reverse over reverse, at each row."""
    # A function beside its derivative: it is traced once
    value, vjp = (lambda x, f=f: (f(x),) * 2 for f in (function, jax.jacrev(function)))

    def at(x):
        (jvp, plain), (forward, first) = (jax.jacfwd(f, has_aux=True)(x) for f in (value, vjp))
        found = {"value": plain, "jvp": jvp, "vjp": first, "forward over reverse": forward}
        if table.dtype == jnp.float32:
            return found
        return found | {"reverse over reverse": jax.jacrev(jax.jacrev(function))(x)}

    return jax.vmap(at)(table)
