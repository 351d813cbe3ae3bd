"""What metrics share: checks of what they are given, and sums that do not lose digits."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int

# How far the probabilities of an example may sum to something else than 1: rounded by hand, or
# computed in half precision.
_SUM = 0.05
# Summands that are added one after another: more would lose digits.
_CHUNK = 64


def precise(values: ArrayLike) -> Float[Array, "..."]:
    """An array in at least float32."""
    values = jnp.asarray(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def same(names: str, first: ArrayLike, second: ArrayLike) -> tuple[Array, Array]:
    """Two arrays of one shape, in one dtype of at least float32."""
    first, second = jnp.asarray(first), jnp.asarray(second)
    if first.shape != second.shape:
        raise ValueError(f"{names} have shapes {first.shape} and {second.shape}; expected equal.")
    dtype = jnp.promote_types(jnp.result_type(first, second), jnp.float32)
    return first.astype(dtype), second.astype(dtype)


def with_labels(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[Float[Array, "*batch classes"], Int[Array, "*batch"], Bool[Array, "*batch"]]:
    """Scores in at least float32, labels, and which of these are classes (the others become 0)."""
    scores, labels = jnp.asarray(scores), jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels are the numbers of classes, integers from 0; got {labels.dtype}.")
    if scores.ndim == 0 or scores.shape[:-1] != labels.shape:
        raise ValueError(
            f"scores of shape {scores.shape} and labels of shape {labels.shape} do not fit; "
            "expected (*batch, classes) and (*batch)."
        )
    if math.prod(labels.shape) == 0:
        raise ValueError(f"no examples: labels have shape {labels.shape}.")
    # In a dtype that holds the number of classes, too.
    labels = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))
    is_class = (labels >= 0) & (labels < scores.shape[-1])
    return precise(scores), jnp.where(is_class, labels, 0), is_class


def probabilities(values: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """Probabilities of classes, checked.

    Raises:
        ValueError: the values are known, and are none.
    """

    return _checked(
        values,
        _are_probabilities,
        "probabilities: numbers from 0 to 1, whose sum is 1",
        "jax.nn.softmax(logits)",
    )


def log_probabilities(values: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """Log-probabilities of classes, checked.

    Raises:
        ValueError: the values are known, and are none.
    """

    return _checked(
        values,
        _are_log_probabilities,
        "log-probabilities: numbers up to 0, the sum of whose exponentials is 1",
        "jax.nn.log_softmax(logits)",
    )


@jax.jit
def _are_probabilities(p: Array) -> Array:
    fit = (p >= -_SUM).all(-1) & (jnp.abs(p.sum(-1) - 1) <= _SUM)
    return fit | jnp.isnan(p).any(-1)


@jax.jit
def _are_log_probabilities(p: Array) -> Array:
    fit = (p <= _SUM).all(-1) & (jnp.abs(jnp.exp(p).sum(-1) - 1) <= _SUM)
    return fit | jnp.isnan(p).any(-1)


def _checked(values: Array, fit: Callable[[Array], Array], what: str, example: str) -> Array:
    is_right = jax.lax.stop_gradient(fit(values))
    if isinstance(is_right, Tracer):
        return jnp.where(is_right[..., None], values, jnp.nan)
    if not is_right.all():
        wrong = values[jnp.logical_not(is_right)][0]
        raise ValueError(
            f"This metric takes {what}, for example `{example}`; got {wrong[:5]}"
            f"{' and so on' if wrong.size > 5 else ''} of an example. Probabilities and "
            "log-probabilities are not told apart by themselves: convert them first."
        )
    return values


def known(condition: ArrayLike) -> bool:
    """Whether a condition holds for some value, and this is known while tracing."""
    return not isinstance(condition, Tracer) and bool(jnp.any(condition))


@jax.jit
def careful_sum(values: Float[Array, "n ..."]) -> Float[Array, "..."]:
    """The sum over the leading axis, in chunks of chunks: its error grows with none.

    A sum one after another stops at 2^24 times its summands in float32.
    """
    while len(values) > _CHUNK:
        rest = -len(values) % _CHUNK
        values = jnp.pad(values, [(0, rest)] + [(0, 0)] * (values.ndim - 1))
        values = values.reshape(-1, _CHUNK, *values.shape[1:]).sum(1)
    return values.sum(0)


def mean(values: Array) -> Float[Array, ""]:
    """The average of all elements, in at least float32."""
    return careful_sum(precise(values).reshape(-1)) / values.size
