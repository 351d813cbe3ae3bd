"""Entropies and Kullback-Leibler divergences of one variable, in nats, without cancellation.

Each divergence is a sum of terms that are not negative, made of phi(d) = exp(d) - 1 - d: for
natural parameters a and b with probabilities p at a, and d = b - a less its mean under p,

    KL = log sum_k p_k exp(d_k) = log(1 + sum_k p_k phi(d_k))

so that two distributions which hardly differ have a divergence that is right to all digits, where a
difference of logarithms would be rounding. Derivatives are written down, for the same reason.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cgjax._gaussian.numerics import share

Values = Float[Array, "*shape"]
OnePerSlice = Float[Array, "..."]

_HALF_LOG_2_PI_E = 0.5 * math.log(2 * math.pi * math.e)
# Below 1/2 the series of phi has converged in float64 after this many terms.
_TERMS = 16


@jax.custom_jvp
def excess(d: Values) -> Values:
    """phi(d) = exp(d) - 1 - d, at least 0, to all digits also near 0."""
    near = jnp.where(jnp.abs(d) < 0.5, d, 0)
    series = jnp.ones_like(d)
    for k in range(_TERMS, 2, -1):
        series = 1 + near * series / k
    return jnp.where(jnp.abs(d) < 0.5, near**2 / 2 * series, jnp.expm1(d) - d)


@excess.defjvp
def _excess_jvp(primals, tangents):
    (d,), (tangent,) = primals, tangents
    return excess(d), jnp.expm1(d) * tangent


@jax.custom_jvp
def log_ratio(a: Values, b: Values) -> Values:
    """log(a / b) for positive numbers, to all digits also where they are close."""
    close = jnp.abs(a - b) < 0.5 * b
    change = jnp.where(close, (a - b) / b, 0)
    return jnp.where(close, jnp.log1p(change), jnp.log(a) - jnp.log(b))


@log_ratio.defjvp
def _log_ratio_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    return log_ratio(a, b), da / a - db / b


def gaussian_entropy(scale: Values) -> Values:
    """log(scale) + log(2 pi e) / 2."""
    return jnp.log(scale) + _HALF_LOG_2_PI_E


def gaussian_kl(mean: Values, scale: Values, other_mean: Values, other_scale: Values) -> Values:
    """phi(2 log r) / 2 + ((mean - other_mean) / other_scale)^2 / 2, r = scale / other_scale."""
    spread = excess(2 * log_ratio(scale, other_scale))
    return spread / 2 + ((mean - other_mean) / other_scale) ** 2 / 2


# -- two states, by their log-odds


@jax.custom_jvp
def odds_entropy(a: Values) -> Values:
    """The entropy of a variable with two states whose log-odds are a."""
    size = jnp.abs(a)
    return jnp.log1p(jnp.exp(-size)) + share(jax.nn.sigmoid(-size), size)


@odds_entropy.defjvp
def _odds_entropy_jvp(primals, tangents):
    (a,), (tangent,) = primals, tangents
    return odds_entropy(a), -share(jax.nn.sigmoid(a) * jax.nn.sigmoid(-a), a) * tangent


@jax.custom_jvp
def odds_kl(a: Values, b: Values) -> Values:
    """The divergence of a variable with log-odds a from one with log-odds b."""
    d = jnp.where(a == b, 0, b - a)
    p, rest = jax.nn.sigmoid(a), jax.nn.sigmoid(-a)
    small = jnp.where(jnp.abs(d) < 1, d, 0)
    near = jnp.log1p(p * excess(rest * small) + rest * excess(-p * small))
    # Farther apart, softplus(b) - softplus(a) - p (b - a), seen from the side where p <= 1/2.
    a, b, p = (jnp.where(a > 0, *sides) for sides in ((-a, a), (-b, b), (rest, p)))
    b_above, a_below = jnp.maximum(b, 0), jnp.minimum(a, 0)
    linear = jnp.where(b > 0, (1 - p) * b_above, -share(p, jnp.minimum(b, 0)))
    far = jax.nn.softplus(-jnp.abs(b)) - jax.nn.softplus(a) + linear + share(p, a_below)
    return jnp.where(jnp.isnan(a + b), a + b, jnp.where(jnp.abs(d) < 1, near, far))


@odds_kl.defjvp
def _odds_kl_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    value = odds_kl(a, b)
    known = jnp.isfinite(a) & jnp.isfinite(b)
    d = jnp.where(known, b - a, 0)
    p, rest, q, other = (jax.nn.sigmoid(x) for x in (a, -a, b, -b))
    # q - p, whose digits would cancel where a and b are close.
    up, down = jnp.where(d < 0, 0, d), jnp.where(d < 0, d, 0)
    change = jnp.where(d < 0, p * other * jnp.expm1(down), -q * rest * jnp.expm1(-up))
    change = jnp.where(known | jnp.isinf(value), change, q - p)
    return value, change * db - p * rest * d * da


# -- two states, by their probabilities


def probability_entropy(p: Values, rest: Values) -> Values:
    """The entropy of a variable with the probabilities p and rest = 1 - p."""
    return _of_one_state(p, rest) + _of_one_state(rest, p)


def _of_one_state(p: Values, rest: Values) -> Values:
    possible = p > 0
    below = jnp.where(rest < 0.5, rest, 0)
    log = jnp.where(rest < 0.5, jnp.log1p(-below), jnp.log(jnp.where(possible, p, 1)))
    return jnp.where(possible, -p * log, 0)


def probability_kl(p: Values, rest: Values, q: Values, other: Values, change: Values) -> Values:
    """sum over both states of q - p - p log(q / p), which is p phi(log(q / p)).

    Args:
        p, rest: the first variable's probabilities.
        q, other: the second one's.
        change: q - p, with the digits that the difference of `other` and `rest` has lost.
    """
    return _from_one_state(p, q, change) + _from_one_state(rest, other, -change)


def _from_one_state(p: Values, q: Values, change: Values) -> Values:
    possible = p > 0
    both = possible & (q > 0)
    own, other = jnp.where(both, p, 1), jnp.where(both, q, 1)
    close = both & (jnp.abs(change) < own / 4)
    near = own * excess(jnp.log1p(jnp.where(close, change / own, 0)))
    far = other - own - own * (jnp.log(other) - jnp.log(own))
    return jnp.where(both, jnp.where(close, near, far), jnp.where(possible, jnp.inf, q))


# -- several states, by their logits


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def logits_entropy(a: Values, axis: int) -> OnePerSlice:
    """The entropy of a variable with logits a along an axis, which stays, of size 1."""
    p = jax.nn.softmax(a, axis)
    gap = jnp.max(a, axis, keepdims=True) - a
    first = jax.nn.one_hot(jnp.argmax(a, axis), a.shape[axis], axis=axis, dtype=bool)
    rest = jnp.sum(jnp.where(first, 0, jnp.exp(-gap)), axis, keepdims=True)
    return jnp.log1p(rest) + jnp.sum(share(p, gap), axis, keepdims=True)


@logits_entropy.defjvp
def _logits_entropy_jvp(axis, primals, tangents):
    (a,), (tangent,) = primals, tangents
    p = jax.nn.softmax(a, axis)
    finite = jnp.where(jnp.isinf(a), 0, a - jnp.max(a, axis, keepdims=True))
    slope = p * (jnp.sum(p * finite, axis, keepdims=True) - finite)
    return logits_entropy(a, axis), jnp.sum(slope * tangent, axis, keepdims=True)


def _centred(p: Values, a: Values, b: Values, axis: int) -> Values:
    """b - a less its mean under p; 0 for states that either of them excludes."""
    d = jnp.where((p == 0) | jnp.isinf(b), 0, b - a)
    return d - jnp.sum(p * d, axis, keepdims=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def logits_kl(a: Values, b: Values, axis: int) -> OnePerSlice:
    """The divergence of a variable with logits a from one with logits b, along an axis."""
    p, log_p = jax.nn.softmax(a, axis), jax.nn.log_softmax(a, axis)
    excluded = jnp.any((p > 0) & (b == -jnp.inf), axis, keepdims=True)
    d = _centred(p, a, b, axis)
    small = jnp.abs(d) < 0.5
    far = jnp.where(p > 0, jnp.exp(log_p + d) - p * (1 + d), 0)
    terms = jnp.where(small, p * excess(jnp.where(small, d, 0)), far)
    total = jnp.sum(terms, axis, keepdims=True)
    large = jax.nn.logsumexp(jnp.where(p > 0, log_p + d, -jnp.inf), axis, keepdims=True)
    value = jnp.where(total < 1, jnp.log1p(jnp.where(total < 1, total, 0)), large)
    # Where Q has states that P excludes, it has the less for others: by their share of Q.
    lost = -_log_share(p, b, axis)
    return jnp.where(excluded, jnp.inf, value + lost)


def _log_share(p: Values, b: Values, axis: int) -> OnePerSlice:
    """The log-probability, under logits b, of the states that P does not exclude; mostly 0."""
    possible = p > 0
    within = jax.nn.logsumexp(jnp.where(possible, b, -jnp.inf), axis, keepdims=True)
    beyond = jax.nn.logsumexp(jnp.where(possible, -jnp.inf, b), axis, keepdims=True)
    return jnp.where(beyond == -jnp.inf, 0, -jax.nn.softplus(beyond - within))


@logits_kl.defjvp
def _logits_kl_jvp(axis, primals, tangents):
    (a, b), (da, db) = primals, tangents
    value = logits_kl(a, b, axis)
    p, q = jax.nn.softmax(a, axis), jax.nn.softmax(b, axis)
    d = _centred(p, a, b, axis)
    known = jnp.isfinite(value)
    log = d - jnp.where(known, value, 0)  # log(q / p)
    close = (log < 1) & (p > 0)
    change = jnp.where(close, p * jnp.expm1(jnp.where(close, log, 0)), q - p)
    tangent = jnp.sum(change * db - p * d * da, axis, keepdims=True)
    return value, jnp.where(known, tangent, 0)
