"""Expectations of functions of a Gaussian variable that bend (or break) at 0 and nowhere else.

Gauss-Hermite points miss what happens at 0 once the Gaussian is much wider than the bend. Here the
Gaussian is cut at 0, and on either side Gauss-Legendre points are placed at distances u^2 from the
cut, which is dense near it: a bend is resolved whether it is wider or much narrower than the
Gaussian, and a kink at 0 costs nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

# Twenty points a side: for all families here and any variance, means are within 5e-6 standard
# deviations of e and variances within 5e-6 of its variance. For sigmoids, whose values are bounded,
# the error is also below 1e-5 of their range, and 1e-4 when the Gaussian is more than ten times as
# wide as the bend.
_ROOTS, _LEGENDRE = np.polynomial.legendre.leggauss(20)
_ROOTS, _LEGENDRE = (_ROOTS + 1) / 2, _LEGENDRE / 2
# The Gaussian is integrated to 6 standard deviations (its variance beyond is 8e-8), and a cut
# further out than 4 is moved there: nothing at 0 can matter then, and the points are better spent.
_REACH, _FURTHEST_CUT = 6.0, 4.0

# Below this standard deviation its derivative by the variance, 1 / (2 std), is held constant: a
# variance of 0 has finite gradients, and rounding in them stays below 1e-2 in float32.
SMALLEST_DEVIATION = 1e-5


@jax.custom_jvp
def standard_deviation(variance: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """Square root of a variance, whose derivative stays finite at 0."""
    return jnp.sqrt(jnp.maximum(variance, 0))


def _standard_deviation_jvp(primals, tangents):
    deviation = standard_deviation(*primals)
    return deviation, tangents[0] / (2 * jnp.maximum(deviation, SMALLEST_DEVIATION))


standard_deviation.defjvp(_standard_deviation_jvp)


def displacements(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
) -> tuple[Float[Array, "points *nodes"], Float[Array, "points *nodes"]]:
    """Quadrature points of N(mean, variance), as displacements from the mean, and their weights.

    The sum over the first axis of weights * f(mean + displacement) is E[f(e)]. Derivatives pass
    through the displacements; the weights are constants.
    """
    deviation = standard_deviation(variance)
    roots, legendre = (
        jnp.asarray(values, mean.dtype).reshape((-1,) + (1,) * mean.ndim)
        for values in (_ROOTS, _LEGENDRE)
    )
    # An integral does not change with the place where it is cut, so the cut is a constant.
    known = lax.stop_gradient((mean, deviation))
    cut = -known[0] / jnp.where(known[1] > 0, known[1], 1)
    cut = jnp.clip(cut, -_FURTHEST_CUT, _FURTHEST_CUT)[None]
    above, below = _REACH - cut, _REACH + cut
    standard = jnp.concatenate([cut + above * roots**2, cut - below * roots**2])
    weights = jnp.concatenate([above * roots * legendre, below * roots * legendre])
    weights = weights * jnp.exp(-(standard**2) / 2)
    weights = weights / jnp.sum(weights, axis=0, keepdims=True)
    # Shift and scale by what is left of the error, so that affine and quadratic functions are
    # integrated exactly.
    standard = standard - jnp.sum(weights * standard, axis=0, keepdims=True)
    standard = standard / jnp.sqrt(jnp.sum(weights * standard**2, axis=0, keepdims=True))
    return standard * deviation[None], weights


def weighted_moments(
    values: Float[Array, "points *nodes"], weights: Float[Array, "points *nodes"]
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """Mean and variance over the first axis; the variance as a sum of squares."""
    mean = jnp.sum(weights * values, axis=0)
    return mean, jnp.sum(weights * (values - mean[None]) ** 2, axis=0)


def logistic_moments(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """E[sigmoid(e)], E[sigmoid(-e)] and Var[sigmoid(e)] for e ~ N(mean, variance)."""
    displacement, weights = displacements(mean, variance)
    here, opposite = jax.nn.sigmoid(mean), jax.nn.sigmoid(-mean)
    there = jax.nn.sigmoid(mean[None] + displacement)
    back = jax.nn.sigmoid(-mean[None] - displacement)
    # sigmoid(a + d) - sigmoid(a) = sigmoid(a + d) sigmoid(-a) (1 - exp(-d)), and the mirror image
    # of it for d < 0: no cancellation, so a small variance keeps its relative accuracy.
    rise = there * opposite[None] * -jnp.expm1(-jnp.maximum(displacement, 0))
    fall = back * here[None] * jnp.expm1(jnp.minimum(displacement, 0))
    shift, spread = weighted_moments(rise + fall, weights)
    return here + shift, opposite - shift, spread


def softplus_moments(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """E[softplus(e)] and Var[softplus(e)] for e ~ N(mean, variance)."""
    displacement, weights = displacements(mean, variance)
    far = jax.nn.softplus(mean[None] + displacement) - jax.nn.softplus(mean)[None]
    # For small d, softplus(a + d) - softplus(a) = log(1 + sigmoid(a) (exp(d) - 1)) keeps what the
    # difference of two rounded numbers loses.
    is_near = jnp.abs(displacement) < 1
    near = jnp.expm1(jnp.where(is_near, displacement, 0)) * jax.nn.sigmoid(mean)[None]
    shift, spread = weighted_moments(jnp.where(is_near, jnp.log1p(near), far), weights)
    return jax.nn.softplus(mean) + shift, spread
