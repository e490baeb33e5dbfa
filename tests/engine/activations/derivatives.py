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
    """Value, jvp, vjp, and second derivatives by forward and by reverse over reverse, at each row."""
    jvp, vjp = jax.jacfwd(function), jax.jacrev(function)
    functions = {"value": function, "jvp": jvp, "vjp": vjp}
    functions |= {"forward over reverse": jax.jacfwd(vjp), "reverse over reverse": jax.jacrev(vjp)}
    return {name: jax.vmap(f)(table) for name, f in functions.items()}
