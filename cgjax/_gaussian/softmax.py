"""Mean and variance of softmax(e) for independent Gaussian logits e."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cgjax._gaussian.numerics import nonnegative
from cgjax._gaussian.quadrature import logistic_moments

# The second-order mean of a log-sum-exp grows with the variance v of the logits; the true one,
# like the largest of several Gaussians, with its square root. (second-order) / sqrt(1 + v / 10)
# agrees with both.
_DAMPING = 0.1
# Likewise for its variance, which is bounded by the largest variance of a logit: for up to ten
# classes and variances up to 20, on average within 5 % (three classes: 18 %).
_VARIANCE_DAMPING = 0.4
# Products of variances, and their sums, stay finite below.
_LARGEST_VARIANCE = 1e30
# exp(-_FAR) is 0, and it is not lost in a sum with logits of ordinary size.
_FAR = 1e4


# Traced once for all logits of one shape.
@partial(jax.jit, static_argnames="axis", inline=True)
def softmax_moments(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"], axis: int
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """P = E[softmax(e)], 1 - P, and Var[softmax(e)] for e ~ N(mean, diag(variance)).

    softmax(e)_i = sigmoid(e_i - log-sum-exp of the others). The log-sum-exp is taken as Gaussian,
    with its first-order variance and its damped second-order mean; the expectation of the sigmoid
    is then computed by quadrature, and P is scaled to sum to 1 along `axis`. For two classes only
    the quadrature's error (1e-6) remains.
    """
    if mean.shape[axis] == 1:
        return jnp.ones_like(mean), jnp.zeros_like(mean), jnp.zeros_like(mean)
    # Infinite variances are the largest ones here: the limit is the same, as far as there is one.
    variance = jnp.minimum(variance, _LARGEST_VARIANCE)
    mean, variance = _possible(mean, variance, axis)
    is_top = one_hot_argmax(mean, axis)
    rest = jnp.where(is_top, -jnp.inf, mean)
    log_p = jax.nn.log_softmax(mean, axis=axis)
    p = jnp.exp(log_p)

    # Against the top class, the others are summed as they are; against any other class, that class
    # (of p <= 1/2) is subtracted from the sum over all. Neither cancels.
    small = jnp.where(is_top, 0, p)
    top_log_odds = mean - jax.nn.logsumexp(rest, axis=axis, keepdims=True)
    log_odds = jnp.where(is_top, top_log_odds, log_p - jnp.log1p(-small))
    q = jax.nn.softmax(rest, axis=axis)

    def over_others(power: int) -> Float[Array, "*nodes"]:
        without_top = jnp.sum(q**power * variance, axis=axis, keepdims=True)
        over_all = jnp.sum(p**power * variance, axis=axis, keepdims=True)
        without_this = (over_all - small**power * variance) / (1 - small) ** power
        return jnp.where(is_top, without_top, nonnegative(without_this))

    first, second = over_others(1), over_others(2)
    shift = (first - second) / 2 / jnp.sqrt(1 + _DAMPING * first)
    unscaled, _, wobble = logistic_moments(log_odds - shift, variance + second)
    total = jnp.sum(unscaled, axis=axis, keepdims=True)
    # Under variances so unequal that every class looks impossible, fall back to the mean's softmax.
    known = total > 0
    expectation = jnp.where(known, unscaled / jnp.where(known, total, 1), p)
    complement = complement_of(expectation, axis)
    # A value in [0, 1] with mean P has at most the variance P (1 - P).
    wobble, most = wobble / jnp.where(known, total, 1), expectation * complement
    return expectation, complement, jnp.where(wobble > most, most, wobble)


def _possible(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"], axis: int
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """Logits so low that their classes have probability 0 in place of -inf, as masks have it."""
    masked = mean == -jnp.inf
    low = jax.lax.stop_gradient(jnp.max(mean, axis=axis, keepdims=True)) - _FAR
    return jnp.where(masked, low, mean), jnp.where(masked, 0, variance)


@partial(jax.jit, static_argnames="axes", inline=True)
def log_sum_exp_moments(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"], axes: tuple[int, ...]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Mean and variance of log sum exp(e), for e ~ N(mean, diag(variance)), kept with size 1.

    With p = softmax(mean), to second order and damped: the mean as in `softmax_moments`, and the
    variance sum_i p_i^2 v_i + sum_ij H_ij^2 v_i v_j / 2, with H the Hessian diag(p) - p p^T.
    """

    def total(terms: Float[Array, "*nodes"]) -> Float[Array, "..."]:
        return jnp.sum(terms, axes, keepdims=True)

    p = jax.nn.softmax(mean, axis=axes)
    first, second = total(p * variance), total(p**2 * variance)
    shift = (first - second) / 2 / jnp.sqrt(1 + _DAMPING * first)
    # H_ii = p_i (1 - p_i), H_ij = -p_i p_j; (1 - p)^2 - p^2 = 1 - 2 p.
    bend = (total((p * variance) ** 2 * (1 - 2 * p)) + second**2) / 2
    spread = second + bend / (1 + _VARIANCE_DAMPING * first)
    return jax.nn.logsumexp(mean, axis=axes, keepdims=True) + shift, spread


def complement_of(probability: Float[Array, "*nodes"], axis: int) -> Float[Array, "*nodes"]:
    """1 - p without cancellation: for the likeliest class, the sum of all others."""
    is_top = one_hot_argmax(probability, axis)
    others = jnp.sum(jnp.where(is_top, 0, probability), axis=axis, keepdims=True)
    return jnp.where(is_top, others, 1 - probability)


def one_hot_argmax(values: Float[Array, "*nodes"], axis: int) -> Array:
    """Boolean array, true at the first largest value of each slice."""
    return jax.nn.one_hot(jnp.argmax(values, axis=axis), values.shape[axis], dtype=bool, axis=axis)
