"""The probability that a node is sampled, checked as far as it is known."""

import jax
import jax.numpy as jnp
import numpy as np

from cgjax import _static
from cgjax._static import Leaf

# A float, where a rate is one number that is known, or an array.
Rate = float | jax.Array


def check_rate(rate: Leaf) -> Rate:
    """Checks a rate and brings it into a form that can be hashed or traced.

    Args:
        rate: a number, or an array of any shape, which may be traced.

    Returns:
        A float, or an array.

    Raises:
        ValueError: it is known, and outside [0, 1].
        TypeError: it is something else, or not real floating point.
    """
    if _static.is_traced(rate):
        return rate
    if _static.is_number(rate) or isinstance(rate, np.integer | np.floating):
        if isinstance(rate, complex):
            raise TypeError(f"A rate is real, got {rate!r}.")
        value = float(rate)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"A rate is a probability in [0, 1], got {rate!r}.")
        return value
    if _static.is_array(rate):
        if not jnp.issubdtype(rate.dtype, jnp.floating):
            raise TypeError(f"A rate is floating point, got an array of {rate.dtype}.")
        known = np.asarray(rate)
        if not np.all((known >= 0) & (known <= 1)):
            raise ValueError(
                f"A rate is a probability in [0, 1], got values in [{known.min()}, {known.max()}]."
            )
        return jnp.asarray(rate)
    raise TypeError(
        "A rate is a number in [0, 1], or an array that broadcasts against the nodes (in `pcff` "
        f"also a dict from patterns over node names to these), got {rate!r}."
    )
