"""What recurrent layers are given: inputs with an axis of time, and the states before."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float


def checked_inputs(inputs: Float[Array, "..."], features: int, time_major: bool) -> Array:
    """Inputs as an array, still with time where it was.

    Raises:
        TypeError: the inputs are not floating point.
        ValueError: they have no axis of time, or another number of features.
    """
    x = jnp.asarray(inputs)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"A recurrent layer takes floating-point inputs, got {x.dtype}.")
    if x.ndim < 2 or x.shape[-1] != features:
        axes = "(time, *batch" if time_major else "(*batch, time"
        raise ValueError(f"The inputs have the shape {axes}, {features}), got one of {x.shape}.")
    return x


def first_states(initial: ArrayLike | None, like: Array) -> Array:
    """The states before the first step: what is given, for all nodes; 0 by default.

    Args:
        initial: an array of the states' shape, or one number.
        like: an array of their shape and dtype.

    Raises:
        ValueError: they have another shape.
    """
    start = jnp.zeros((), like.dtype) if initial is None else jnp.asarray(initial, like.dtype)
    if start.ndim and start.shape != like.shape:
        raise ValueError(
            f"The initial states have the shape (*batch, features), here {like.shape}, got "
            f"{start.shape}."
        )
    return jnp.broadcast_to(start, like.shape)
