"""Tests run in double precision; what must also hold in single precision asks for float32 explicitly."""

import jax

jax.config.update("jax_enable_x64", True)
