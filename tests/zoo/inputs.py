"""Inputs of models."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(*shape: int) -> jax.Array:
    """Random numbers of deviation 1."""
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)
