"""What segments of a sequence are at its positions: where they start, end, and what they cover."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def starts(segments: Float[Array, "B T D K"]) -> Float[Array, "B T K"]:
    """The label of the segment that starts at each position, or 0.

    Args:
        segments: of label k and duration d + 1 from t on, 1 where there is one; or probabilities.

    Example:
        >>> import jax.numpy as jnp
        >>> print(starts(jnp.zeros((1, 3, 2, 1)).at[0, 0, 1].set(1))[0, :, 0])
        [1. 0. 0.]
    """
    return jnp.sum(segments, 2)


def ends(segments: Float[Array, "B T D K"]) -> Float[Array, "B T K"]:
    """The label of the segment whose last position each is, or 0.

    Args:
        segments: as in `starts`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(ends(jnp.zeros((1, 3, 2, 1)).at[0, 0, 1].set(1))[0, :, 0])
        [0. 1. 0.]
    """
    return _slanted_sum(segments)


def labels(segments: Float[Array, "B T D K"]) -> Float[Array, "B T K"]:
    """The label of the segment that each position lies in.

    Args:
        segments: as in `starts`.

    Example:
        >>> import jax.numpy as jnp
        >>> segments = jnp.zeros((1, 3, 2, 2)).at[0, 0, 1, 0].set(1).at[0, 2, 0, 1].set(1)
        >>> print(labels(segments)[0])  # two positions of label 0, one of label 1
        [[1. 0.]
         [1. 0.]
         [0. 1.]]
    """
    longer = jnp.cumsum(segments[:, :, ::-1], 2)[:, :, ::-1]  # at least d + 1 long
    return _slanted_sum(longer)


def _slanted_sum(x: Float[Array, "B T D K"]) -> Float[Array, "B T K"]:
    """sum over d of x[t - d, d]."""
    b, length, most, k = x.shape
    rows = jnp.moveaxis(jnp.pad(x, ((0, 0), (0, most), (0, 0), (0, 0))), 2, 1)
    # Rows that are one shorter begin one later each.
    flat = rows.reshape(b, most * (length + most), k)[:, : most * (length + most - 1)]
    return jnp.sum(flat.reshape(b, most, length + most - 1, k), 1)[:, :length]


def totals(positions: Float[Array, "B T K"], most: int) -> Float[Array, "B T D K"]:
    """The sums of what each segment's positions have, of durations from 1 to the most.

    Args:
        positions: a number for each label at each position.
        most: the longest duration, D.

    Example:
        >>> import jax.numpy as jnp
        >>> print(totals(jnp.array([[[1.0], [2.0], [4.0]]]), 2)[0, :, :, 0])
        [[1. 3.]
         [2. 6.]
         [4. 4.]]
    """
    length = positions.shape[1]
    padded = jnp.pad(positions, ((0, 0), (0, most - 1), (0, 0)))
    windows = padded[:, jnp.arange(length)[:, None] + jnp.arange(most)[None]]
    return jnp.cumsum(windows, 2)
