"""Inverse-chi noise: one over the standard deviation of a Gaussian sample.

The standard deviation of M Gaussian numbers is that of their law times chi_{M-1} / sqrt(M), so that
batch normalisation multiplies by noise of this family.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.scipy.special import gammainc, gammaincc, gammaln, log_ndtr, ndtri
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax._gaussian.numerics import like, wide
from cgjax.kernels.random_bits import standard_normal
from cgjax.nodes._family import SMALLEST_SCALE, Belief, Family
from cgjax.nodes._information import excess
from cgjax.nodes._values import or_nan, possible_or_minus_infinity, require_parameter

Values = Float[Array, "..."]

# The shape of a gamma variable from which on it is drawn by a series.
_MANY = 10.0
_LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)


@dataclasses.dataclass(frozen=True, eq=False)
class InverseChi(Family):
    """Noise that is one over a chi variable: X = e sqrt(k + 1) / chi_k, k the degrees of freedom.

        mean        e sqrt((k + 1)/2) G((k - 1)/2) / G(k/2)      (G the gamma function)
        E[X^2]      e^2 (k + 1)/(k - 2)
        mode        e

    e is the most probable value, above 0, and the activation. The mean is larger: by 4.1 % at 31
    degrees, by 1.25/k at many.

    With k = M - 1 and e = s, X is s^2 divided by the standard deviation (of divisor M) of M numbers
    from N(m, s^2); at e = 1 it is what batch normalisation multiplies by.

    Args:
        degrees: of freedom, above 2, so that the variance is finite; a number, or an array that
            broadcasts against e from the right. Samples have derivatives by it.

    Raises:
        ValueError: degrees is not above 2 and finite; e is not above 0, where its value is known
            when the method is called. Elsewhere the results for such an e are NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> noise, e = InverseChi(31.0), jnp.ones(1)
        >>> print(noise.activation(e), noise.mean(e).round(4))
        [1.] [1.0414]
        >>> print((noise.variance(e) + noise.mean(e) ** 2).round(4))  # 32 / 29
        [1.1034]

    Source: Shekhovtsov and Flach, "Stochastic normalizations as Bayesian learning", 2018 (arXiv
    1811.00639).
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"noise"})
    reparameterised: ClassVar[bool] = True

    degrees: ArrayLike

    def __post_init__(self) -> None:
        require_parameter(self, "degrees", lambda k: (k > 2) & (k < math.inf), "above 2 and finite")

    def natural_parameter(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """`e` as an array; where its value is known already, it must be above 0.

        Raises:
            TypeError: e is not real floating point.
            ValueError: e is not above 0, or as `check`.
        """
        e = super().natural_parameter(e)
        if not isinstance(e, Tracer):
            value = np.asarray(e, np.float64)
            if not np.all(value > 0):
                raise ValueError(
                    "InverseChi needs a natural parameter above 0, the most probable value, got "
                    f"values from {value.min()} to {value.max()}"
                )
        return e

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e itself, the mode."""
        return self.natural_parameter(e)

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e itself."""
        return self.natural_parameter(e)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e sqrt((k + 1)/2) G((k - 1)/2) / G(k/2), at least float32."""
        e = _scale(wide(self.natural_parameter(e)))
        return e * like(_mean_and_variance(self._half(e))[0], e)

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e^2 (k + 1)/(k - 2) less the mean's square, without cancellation; at least float32."""
        e = _scale(wide(self.natural_parameter(e)))
        return e**2 * like(_mean_and_variance(self._half(e))[1], e)

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """The value whose distribution function is the word's uniform number; differentiable by e
        and by the degrees."""
        e = self.natural_parameter(e)
        precise = _scale(wide(e))
        half = like(self._half(precise), precise)
        share = gamma_over_shape(half, -standard_normal(words, precise.dtype))
        sample = precise * jnp.sqrt((1 + 0.5 / half) / share)
        return lax.convert_element_type(sample, e.dtype)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log of 2 ((k + 1)/2)^(k/2) / G(k/2) (e/x)^k exp(-(k + 1) (e/x)^2 / 2) / x; -inf for x at
        or below 0. e is taken as at least 1e-6."""
        e = jnp.maximum(_scale(wide(self.natural_parameter(e))), SMALLEST_SCALE)
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        half = self._half(e)
        # Around the mode: (k + 1) (d + exp(-2 d)/2) = (k + 1)/2 (1 + phi(-2 d)), d = log(x/e).
        possible = (x > 0) & (x < jnp.inf)
        d = jnp.log(jnp.where(possible, x, 1)) - jnp.log(e)
        # Beyond, the density is 0 in every precision, and stays so in derivatives.
        reach = 0.5 * math.log(float(jnp.finfo(e.dtype).max)) - 20
        away = like(half + 0.5, e) * excess(jnp.maximum(-2 * d, -1e30).clip(max=reach))
        value = like(_log_height(half), e) - jnp.log(e) - away
        return possible_or_minus_infinity(x, possible, value)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """X is e times noise of its own: exact, for any e above 0 of this mean and variance."""
        mean, variance = self._gaussian_parameter(mean, variance)
        mean = _scale(mean)
        factor, noise = (like(v, mean) for v in _mean_and_variance(self._half(mean)))
        spread = factor**2 * variance + noise * (mean**2 + variance)
        return Belief(mean * factor, spread), Belief(mean, variance)

    def bounds(self) -> tuple[ArrayLike, ArrayLike]:
        """0 and inf."""
        return 0.0, jnp.inf

    def _half(self, e: Values) -> Values:
        """Half the degrees of freedom, in e's dtype and a shape of their own."""
        return lax.convert_element_type(jnp.asarray(self.degrees), e.dtype) / 2


def _scale(e: Values) -> Values:
    """e, or NaN where it is not above 0: only what is known already raises."""
    return or_nan(e > 0, e)


def _mean_and_variance(half: Values) -> tuple[Values, Values]:
    """Of sqrt(k + 1) / chi_k, k = 2 half.

    With q = E[1/chi]^2 (k - 2) and r = (k + 1)/(k - 2), they are sqrt(r q) and r (1 - q).
    """
    ratio = (half + 0.5) / (half - 1)
    log_q = _log_ratio(half)
    return jnp.sqrt(ratio * jnp.exp(log_q)), ratio * -jnp.expm1(log_q)


def _coefficients(number: int) -> list[float]:
    """c_n of sum_n c_n / y^n = -sum_j log(1 - 1/(4 (y + j)^2)), j from 0 on, for large y.

    The logarithm is a series of 1/(y + j)^2m, whose sums over j have the series of Euler and
    Maclaurin.
    """
    bernoulli = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66)
    c = [0.0] * (number + 1)
    for m in range(1, number // 2 + 1):
        s, share = 2 * m, 1 / (m * 4**m)
        terms = {s - 1: 1 / (s - 1), s: 0.5}
        for j, b in enumerate(bernoulli, 1):
            rising = math.prod(range(s, s + 2 * j - 1))
            terms[s + 2 * j - 1] = b / math.factorial(2 * j) * rising
        for power, term in terms.items():
            if power <= number:
                c[power] += share * term
    return c


_COEFFICIENTS = _coefficients(10)
_FIRST = 12


def _log_ratio(half: Values) -> Values:
    """log of (a - 1) (G(a - 1/2)/G(a))^2, negative: the sum of log(1 - 1/(4 (a - 1/2 + j)^2)) over
    j from 0 on. Differences of logarithms of G would leave no digit of it at many degrees."""
    y = half - 0.5
    total = jnp.zeros_like(y)
    for j in range(_FIRST):
        total += jnp.log1p(-0.25 / (y + j) ** 2)
    inverse = 1 / (y + _FIRST)
    tail = jnp.zeros_like(y)
    for c in reversed(_COEFFICIENTS):
        tail = tail * inverse + c
    return total - tail


def _log_height(half: Values) -> Values:
    """The log-density of sqrt(k + 1)/chi_k at its mode 1, a = k/2:

    log 2 - log(2 pi)/2 + log(a)/2 + a log(1 + 1/(2 a)) - 1/2 - r(a), r what Stirling's formula for
    log G(a) leaves out.
    """
    few = jnp.where(half < 8, half, 8)
    exact = gammaln(few) - ((few - 0.5) * jnp.log(few) - few + _LOG_ROOT_2_PI)
    inverse = 1 / jnp.where(half < 8, 8, half)
    square = inverse**2
    terms = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
    series = jnp.zeros_like(half)
    for term in reversed(terms):
        series = series * square + term
    rest = jnp.where(half < 8, exact, series * inverse)
    known = math.log(2) - _LOG_ROOT_2_PI - 0.5
    return known + 0.5 * jnp.log(half) + half * jnp.log1p(0.5 / half) - rest


def gamma_over_shape(shape: Values, normal: Values) -> Values:
    """The value of Gamma(shape, 1) that is as probable to exceed as a standard normal number,
    divided by its shape.

    From shapes of 10 on it is a series, within 2e-4 deviations of the gamma variable for normal
    numbers up to 4, and 4e-3 up to 6; the error falls as shape^-4. Below, the distribution function
    is inverted, to rounding.

    Args:
        shape: above 1.
        normal: of the same shape; constant in derivatives.
    """
    # Not a maximum, whose derivative is a half where both are equal.
    many = shape >= _MANY
    large = jnp.where(many, shape, _MANY)
    by_series = _series(large, normal)

    def inverted() -> Values:
        few = _inverted(jnp.where(many, _MANY, shape), normal)
        return jnp.where(many, by_series, few)

    return lax.cond(jnp.all(many), lambda: by_series, inverted)


# The cube root of G/a at a normal number n is a series of a^(-1/2): by the power of a^(-1/2), the
# coefficients of n^p, n^(p - 2), … in it. That of Wilson and Hilferty 1931 ends with the second.
# They follow, one power after the other, from dG/dn = phi(n) / f(G), f the density of G.
_POWERS = (
    (1,),
    (1 / 3,),
    (0, -1 / 9),
    (-1 / 324, 1 / 108),
    (1 / 1215, 4 / 1215, -7 / 1215),
    (-1 / 7776, -5 / 2916, -5 / 2592),
    (1 / 229635, 2 / 5103, 134 / 76545, 121 / 76545),
    (301 / 62985600, -1519 / 62985600, -3641 / 6998400, -79349 / 62985600),
    (-1 / 551124, -157 / 8266860, 17 / 688905, 487 / 1377810, 418 / 688905),
)


def _series(shape: Values, normal: Values) -> Values:
    step = lax.rsqrt(shape)
    square = normal**2
    cube_root = jnp.zeros_like(shape)
    for power, coefficients in reversed(list(enumerate(_POWERS))):
        polynomial = jnp.zeros_like(normal)
        for c in coefficients:
            polynomial = polynomial * square + c
        cube_root = cube_root * step + (polynomial * normal if power % 2 else polynomial)
    return cube_root**3


@jax.custom_jvp
def _inverted(shape: Values, normal: Values) -> Values:
    """By Newton's method for the logarithm of the value, in the scale of the normal number."""
    base = 1 - 1 / (9 * shape) + normal / (3 * jnp.sqrt(shape))
    # Far below, the distribution function is x^a / G(a + 1).
    power = (log_ndtr(normal) + gammaln(shape + 1)) / shape - jnp.log(shape)
    x = jnp.where(base > 0.35, 3 * jnp.log(jnp.maximum(base, 0.35)), power)
    height = shape * jnp.log(shape) - gammaln(shape) + _LOG_ROOT_2_PI
    smallest = float(jnp.finfo(shape.dtype).tiny)
    for _ in range(3):
        value = shape * jnp.exp(x)
        below, above = gammainc(shape, value), gammaincc(shape, value)
        lower = below < above
        tail = ndtri(jnp.maximum(jnp.where(lower, below, above), smallest))
        reached = jnp.where(lower, tail, -tail)
        # The derivative of `reached` by x.
        slope = jnp.exp(height + shape * (x - jnp.exp(x)) + reached**2 / 2)
        x += (normal - reached) / slope
    return jnp.exp(x)


@_inverted.defjvp
def _inverted_jvp(primals, tangents):
    (shape, normal), (change, _) = primals, tangents
    value = _inverted(shape, normal)
    # At a constant probability.
    drawn = lax.random_gamma_grad(shape, shape * value)  # pyright: ignore[reportCallIssue]
    return value, change * (drawn - value) / shape
