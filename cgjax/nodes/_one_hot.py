"""One-hot statistics of positions along the last axis but one."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Num


def only_known_states(e: Float[Array, "*nodes"], x: Num[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """Natural parameters in which states that a one-hot x excludes are impossible.

    Where x is NaN nothing is excluded. A position whose x is not one-hot has no possible state.
    """
    known = ~jnp.isnan(x).any(-1, keepdims=True)
    one_hot = ((x == 0) | (x == 1)).all(-1, keepdims=True) & (x.sum(-1, keepdims=True) == 1)
    return jnp.where(known & ((x != 1) | ~one_hot), -jnp.inf, e)
