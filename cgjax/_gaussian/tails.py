"""The standard normal's density phi, its distribution function Phi, their logarithms and tails.

All tails come from two functions of t >= 0, with Mills' ratio R(t) = Phi(-t) / phi(t):

    Q = t^2 (1 - t R)                P = t^3 (R - t (1 - t R)) / 2

Both go from 0 to 1, smoothly in 1 / t, so nothing cancels however far out t lies; without them the
digits lost grow with t^2 and t^4.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cgjax._gaussian.numerics import wide

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)

# In single precision Q / t^2 and 2 P / t^3 are u^2 and u^3 times 1 and sqrt(pi/2) plus 1 - u times
# polynomials in u = 1 / (1 + t/4): minimax fits to exact values that hold from t = 0 on. Beside the
# density all tails are within 1.3e-6 of themselves, and exact at 0. One form everywhere needs one
# exponential and no error function, and a ReLU's mean and variance cost an eighth of what they did
# with a direct form near 0 and another one beyond.
_SHORTFALL = (
    -0.93737887,
    -0.81490006,
    -0.61667577,
    -0.52497157,
    0.009812069,
    -0.44748109,
    0.3048611,
    0.076162046,
    -0.062692096,
)
_SPREAD = (
    -1.2216601,
    -1.1365942,
    -0.88049653,
    -1.044599,
    0.59425111,
    -1.8303378,
    1.7158317,
    -0.40227278,
    -0.034211444,
)
# Otherwise they are direct forms near 0, and from there on (in float64, and in float32) a continued
# fraction, 1 / R = t + 1 / (t + 2 / (t + 3 / (t + ...))), which has converged after so many steps.
_FAR_IN_DOUBLE, _FAR, _STEPS = 5.0, 2.0, 24
# Every tail is exactly zero long before this many deviations; beyond, squares would overflow.
LARGEST_RATIO = 64.0


class Tails(NamedTuple):
    """Of the standard normal beyond t >= 0, all accurate far out.

    Attributes:
        density: phi(t).
        probability: Phi(-t).
        excess: A(-t) = E[max(x - t, 0)] = phi(t) - t Phi(-t).
        spread: Var[max(x - t, 0)] = Phi(-t) - A(-t) (t + A(-t)).
    """

    density: Float[Array, "*shape"]
    probability: Float[Array, "*shape"]
    excess: Float[Array, "*shape"]
    spread: Float[Array, "*shape"]


@partial(jax.jit, inline=True)
def tails(t: Float[Array, "*shape"]) -> Tails:
    """What lies beyond t, an array of float32 or float64 that is at least 0."""
    return _tails(t)


# Functions of so many operations are under `jax.jit` here: traced, and differentiated, once.
@jax.custom_jvp
def _tails(t: Float[Array, "*shape"]) -> Tails:
    density = jnp.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    if t.dtype == jnp.float64:
        return _tails_in_double(t, density)
    # Written so that at t = 0, where 1 - u = u t / 4 is 0, both are what they have to be.
    u = 1 / (1 + t / 4)
    square, rest_of_u = u**2, u * (t / 4)
    shortfall = (1 + rest_of_u * _polynomial(_SHORTFALL, u)) * square
    rest = (math.sqrt(math.pi / 2) + rest_of_u * _polynomial(_SPREAD, u)) * (square * u)
    excess = density * shortfall
    return Tails(
        density,
        # R = t Q / t^2 + 2 P / t^3, and E[max(x - t, 0)^2] = phi 2 P / t^3.
        density * (t * shortfall + rest),
        excess,
        density * rest - excess**2,
    )


@_tails.defjvp
def _tails_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Tails, Tails]:
    (t,), (tangent,) = primals, tangents
    out = tails(t)
    density, probability, excess, _ = out
    slopes = -t * density, -density, -probability, -2 * excess * (1 - probability)
    return out, Tails(*(slope * tangent for slope in slopes))


def _tails_in_double(t: Float[Array, "*shape"], density: Float[Array, "*shape"]) -> Tails:
    probability = jax.scipy.special.erfc(t / math.sqrt(2)) / 2
    excess = density - t * probability
    spread = probability - excess * (t + excess)
    far = _precisely(t)
    inverse = 1 / far.t
    shortfall = far.shortfall * inverse**2
    far_spread = 2 * far.spread * inverse**3
    return Tails(
        density,
        jnp.where(far.here, density * (1 - shortfall) * inverse, probability),
        jnp.where(far.here, density * shortfall, excess),
        jnp.where(far.here, density * (far_spread - density * shortfall**2), spread),
    )


class _Far(NamedTuple):
    """Q and P where `here` is true, at t; elsewhere their values where they begin."""

    here: Array
    t: Array
    shortfall: Array
    spread: Array

    @property
    def rest(self) -> Array:
        """t R, which tends to 1."""
        return 1 - self.shortfall * (1 / self.t) ** 2


def _precisely(t: Float[Array, "*shape"]) -> _Far:
    """To all digits, as derivatives need them."""
    start = _FAR_IN_DOUBLE if t.dtype == jnp.float64 else _FAR
    here = t > start
    far = jnp.where(here, t, start)
    # d_k = 1 + k / (t^2 d_(k + 1)): 1 / (t R) = d_1, Q = 1 / (d_1 d_2) and P = Q / d_3.
    square = (1 / far) ** 2
    fractions = [jnp.ones_like(far)]
    for step in range(_STEPS, 0, -1):
        fractions.append(1 + step * square / fractions[-1])
    first, second, third = fractions[:-4:-1]
    shortfall = 1 / (first * second)
    return _Far(here, far, shortfall, shortfall / third)


def _polynomial(
    coefficients: tuple[float, ...], argument: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    value = jnp.full_like(argument, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * argument + coefficient
    return value


def mills_ratio(t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Phi(-t) / phi(t); at least float32. It overflows for t below -13, or -37 in float64."""
    t = wide(t)
    far = _precisely(jnp.where(t > 0, t, 0))
    near = jnp.where(far.here, 0, t)
    direct = jax.scipy.special.erfc(near / math.sqrt(2)) * jnp.exp(near**2 / 2)
    return jnp.where(far.here, far.rest / far.t, math.sqrt(math.pi / 2) * direct)


def density(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """phi(z), the standard normal density; at least float32."""
    return jnp.exp(-(wide(z) ** 2) / 2) / math.sqrt(2 * math.pi)


def log_density(
    x: Float[Array, "*shape"], mean: Float[Array, "*shape"], scale: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """log N(x; mean, scale^2), element by element; the scale must be positive."""
    return -(((x - mean) / scale) ** 2) / 2 - jnp.log(scale) - _HALF_LOG_2_PI


def distribution(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Phi(z); at least float32, and accurate far out on the left."""
    return jax.scipy.special.ndtr(wide(z))


def log_distribution(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log Phi(z); at least float32. It and its first three derivatives are accurate for every z."""
    return jax.jit(_log_distribution, inline=True)(wide(z))


# The derivatives of log Phi, each by name: h = phi / Phi, then -h (z + h), then the derivative of
# that. At z = 0, where formulas change, each is defined as a whole: no tie halves it.


@jax.custom_jvp
def _log_distribution(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    left = z < 0
    size = jnp.where(left, -z, z)
    far = _precisely(size)
    probability = jax.scipy.special.erfc(jnp.where(far.here, 0, size) / math.sqrt(2)) / 2
    distant = jnp.log(far.rest) - jnp.log(far.t) - size * (size / 2) - _HALF_LOG_2_PI
    on_left = jnp.where(far.here, distant, jnp.log(probability))
    beyond = jax.scipy.special.erfc(jnp.where(left, 0, size) / math.sqrt(2)) / 2
    return jnp.where(left, on_left, jnp.log1p(-beyond))


@_log_distribution.defjvp
def _log_distribution_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (z,), (tangent,) = primals, tangents
    return _log_distribution(z), _slope(z) * tangent


@jax.custom_jvp
def _slope(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """h = phi(z) / Phi(z)."""
    near, far = _split(z)
    return jnp.where(far.here, far.t / far.rest, near)


@_slope.defjvp
def _slope_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (z,), (tangent,) = primals, tangents
    return _slope(z), _bend(z) * tangent


@jax.custom_jvp
def _bend(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """-h (z + h), from -1 to 0."""
    near, far = _split(z)
    bounded = jnp.clip(z, -LARGEST_RATIO, LARGEST_RATIO)
    return -jnp.where(far.here, far.shortfall / far.rest**2, near * (bounded + near))


@_bend.defjvp
def _bend_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (z,), (tangent,) = primals, tangents
    near, far = _split(z)
    bounded = jnp.clip(z, -LARGEST_RATIO, LARGEST_RATIO)
    sum_ = bounded + near
    # The derivative of h is b = -h (z + h), and that of b is -(b (z + h) + h (1 + b)).
    bend = -near * sum_
    direct = -(bend * sum_ + near * (1 + bend))
    # Far out, in Q, P and m = Q / t^2: h (1 + b) = (2 P (1 - m) - Q^2) / ((1 - m)^3 t), and
    # b (z + h) = -Q^2 / ((1 - m)^3 t).
    distant = 2 * (far.shortfall**2 - far.spread * far.rest) / far.t / far.rest**3
    return _bend(z), jnp.where(far.here, distant, direct) * tangent


def _split(z: Float[Array, "*shape"]) -> tuple[Array, _Far]:
    """phi / Phi by its definition where that is accurate, and what replaces it far on the left."""
    far = _precisely(jnp.where(z < 0, -z, 0))
    near = jnp.where(far.here, 0, jnp.minimum(z, LARGEST_RATIO))
    probability = jax.scipy.special.erfc(-near / math.sqrt(2)) / 2
    return jnp.exp(-(near**2) / 2) / math.sqrt(2 * math.pi) / probability, far
