"""Moments of logistic curves and softplus of a Gaussian variable, and what they are made of."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cgjax._gaussian.bends import moments_of_changes
from cgjax._gaussian.numerics import MeanAndVariance

Nodes = Float[Array, "*nodes"]

# Below, 1 - exp(-t) is a polynomial of t.
_NEAR = 0.5


def logistic_moments(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """E[sigmoid(e)], E[sigmoid(-e)] and Var[sigmoid(e)] for e ~ N(mean, variance)."""
    # Of the rarer one, which keeps its digits.
    above = mean > 0
    ((rarer, spread),) = moments_of_changes(
        _logistic, _logistic_changes, jnp.where(above, -mean, mean), variance, narrow=3.0
    )
    return jnp.where(above, 1 - rarer, rarer), jnp.where(above, rarer, 1 - rarer), spread


def _logistic(mean: Nodes) -> list[Nodes]:
    return [jax.nn.sigmoid(mean)]


def _logistic_changes(mean: Nodes, by: Nodes) -> list[Nodes]:
    # sigmoid(a + d) - sigmoid(a) = sigmoid(a + d) sigmoid(-a) (1 - exp(-d)), and the mirror image
    # of it for d < 0: no cancellation, so small variances keep their accuracy.
    up = by > 0
    there = mean + by
    _, lost = shrinking(jnp.abs(by))
    size = lost * jax.nn.sigmoid(jnp.where(up, there, -there))
    return [jnp.where(up, jax.nn.sigmoid(-mean), -jax.nn.sigmoid(mean)) * size]


def softplus_moments(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
) -> MeanAndVariance:
    """E[softplus(e)] and Var[softplus(e)] for e ~ N(mean, variance)."""
    ((centre, spread),) = moments_of_changes(
        _softplus, _softplus_changes, mean, variance, narrow=3.0
    )
    infinite = variance == jnp.inf
    return jnp.where(infinite, jnp.inf, centre), jnp.where(infinite, jnp.inf, spread)


def _softplus(mean: Nodes) -> list[Nodes]:
    return [jax.nn.softplus(mean)]


def _softplus_changes(mean: Nodes, by: Nodes) -> list[Nodes]:
    # For small d, softplus(a + d) - softplus(a) = log(1 + sigmoid(a) (exp(d) - 1)) keeps what the
    # difference of two rounded numbers loses.
    is_near = jnp.abs(by) < 1
    near = jnp.log1p(jax.nn.sigmoid(mean) * jnp.expm1(jnp.where(is_near, by, 0)))
    bump = _softplus_bump(mean + by) - _softplus_bump(mean)
    return [jnp.where(is_near, near, rectified_change(mean, by) + bump)]


def _softplus_bump(x: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """softplus(x) - max(x, 0)."""
    return jnp.log1p(jnp.exp(jnp.where(x > 0, -x, x)))


def rectified_change(
    mean: Float[Array, "*nodes"], by: Float[Array, "*nodes"]
) -> Float[Array, "*nodes"]:
    """max(mean + by, 0) - max(mean, 0), without rounding; the derivative of max(x, 0) at 0 is 0."""
    there = mean + by
    return jnp.where(mean > 0, jnp.where(by > -mean, by, -mean), jnp.where(there > 0, there, 0))


def shrinking(
    size: Float[Array, "*nodes"],
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """exp(-size) and 1 - exp(-size), both to all digits, for size >= 0."""
    shrunk = jnp.exp(-size)
    if size.dtype != jnp.float32:
        return shrunk, -jnp.expm1(-size)
    # A polynomial costs less than another transcendental function.
    near = jnp.minimum(size, _NEAR)
    rest = 1 - near / 7
    for n in range(6, 1, -1):
        rest = 1 - near * rest / n
    return shrunk, jnp.where(size < _NEAR, near * rest, 1 - shrunk)
