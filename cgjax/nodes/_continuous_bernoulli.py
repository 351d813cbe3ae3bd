"""Continuous Bernoulli nodes: numbers from 0 to 1, such as grey levels of pixels."""

import dataclasses
from fractions import Fraction
from math import comb, factorial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Num, UInt32

from cgjax._gaussian.bends import moments_of_changes
from cgjax._gaussian.numerics import nonnegative, wide
from cgjax.kernels.random_bits import open_uniform
from cgjax.nodes._family import Belief, Family
from cgjax.nodes._values import or_nan, possible_or_minus_infinity


def _coefficients(count: int) -> list[float]:
    """B_2n / (2n)!, of Bernoulli's numbers, for n from 1: the mean is 1/2 + sum_n c_n e^(2n-1)."""
    numbers = [Fraction(1)]
    for m in range(1, 2 * count + 1):
        numbers.append(-sum(comb(m + 1, k) * b for k, b in enumerate(numbers)) / Fraction(m + 1))
    return [float(numbers[2 * n] / factorial(2 * n)) for n in range(1, count + 1)]


# For |e| below 1: each term is a fortieth of the one before.
_SERIES = _coefficients(10)
# Below this the derivative of a sample is a polynomial, right to 1e-7.
_SMALL = 0.2


def _near(e: Float[Array, "*nodes"]) -> tuple[Bool[Array, "*nodes"], Float[Array, "*nodes"]]:
    """Where the series serve, and e there, 0 elsewhere."""
    near = jnp.abs(e) < 1
    return near, jnp.where(near, e, 0)


def _mean(e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """1 / (1 - exp(-e)) - 1 / e."""
    near, small = _near(e)
    series = jnp.zeros_like(e)
    for coefficient in _SERIES[::-1]:
        series = series * small**2 + coefficient
    size = jnp.where(near, 1, jnp.abs(e))
    low = 1 / size - 1 / jnp.expm1(size)  # of -|e|, which is what is close to 0
    far = jnp.where(e < 0, low, 1 - low)
    return jnp.where(near, 0.5 + small * series, far)


def _variance(e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """1 / e^2 - exp(e) / (exp(e) - 1)^2, the derivative of the mean."""
    near, small = _near(e)
    series = jnp.zeros_like(e)
    for n, coefficient in list(enumerate(_SERIES))[::-1]:
        series = series * small**2 + (2 * n + 1) * coefficient
    size = jnp.where(near, 1, jnp.abs(e))
    shrunk = jnp.exp(-size)
    return jnp.where(near, series, (1 / size) ** 2 - shrunk / (1 - shrunk) ** 2)


_mean_of = jax.custom_jvp(_mean)
_mean_of.defjvp(lambda primals, tangents: (_mean_of(*primals), _variance(*primals) * tangents[0]))


@jax.custom_jvp
def _log_density(x: Float[Array, "*nodes"], e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """x e - log((exp(e) - 1) / e), seen from the end that is likelier."""
    size = jnp.abs(e)
    positive = jnp.where(size == 0, 1, size)
    log_total = jnp.where(size == 0, 0, jnp.log(-jnp.expm1(-positive) / positive))
    return -size * jnp.where(e > 0, 1 - x, x) - log_total


@_log_density.defjvp
def _log_density_jvp(primals, tangents):
    (x, e), (dx, de) = primals, tangents
    return _log_density(x, e), e * dx + (x - _mean_of(e)) * de


@jax.custom_jvp
def _quantile(u: Float[Array, "*nodes"], e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """log(1 + u (exp(e) - 1)) / e, without gradient by u."""
    size = jnp.abs(e)
    positive = jnp.where(size == 0, 1, size)
    below, rest = jnp.where(e > 0, 1 - u, u), jnp.where(e > 0, u, 1 - u)
    near = jnp.log1p(below * jnp.expm1(-jnp.minimum(positive, 1)))
    far = jnp.log(rest + below * jnp.exp(-positive))
    distance = jnp.where(size < 1, near, far) / -positive
    distance = jnp.where(size == 0, below, distance)
    return jnp.where(e > 0, 1 - distance, distance)


@_quantile.defjvp
def _quantile_jvp(primals, tangents):
    """((1 - exp(-e x)) / (1 - exp(-e)) - x) / e, which is -dF/de / dF/dx."""
    u, e = primals
    x = _quantile(u, e)
    size = jnp.abs(e)
    small = size < _SMALL
    far = jnp.where(small, 1, size)
    y = jnp.where(e < 0, 1 - x, x)  # of -e the quantile is mirrored, and its slope the same
    slope = (jnp.expm1(-far * y) / jnp.expm1(-far) - y) / far
    near = jnp.where(small, size, 0)
    rest = y * (1 - y)
    series = 0.5 + near * ((1 - 2 * y) / 12 - near * rest / 24)
    series += near**3 * (0.5 - y) * (-rest - 1 / 3) / 120
    return x, jnp.where(small, rest * series, slope) * tangents[1]


def _given(e: Float[Array, "*nodes"]) -> list[Float[Array, "*nodes"]]:
    """The mean and the variance."""
    return [_mean_of(e), _variance(e)]


def _changes(
    mean: Float[Array, "*nodes"], by: Float[Array, "*nodes"]
) -> list[Float[Array, "*nodes"]]:
    return [there - here for there, here in zip(_given(mean + by), _given(mean), strict=True)]


@dataclasses.dataclass(frozen=True, eq=False)
class ContinuousBernoulli(Family):
    """A node that is a number from 0 to 1: its density is proportional to exp(e x).

        p(x) = e exp(e x) / (exp(e) - 1) = C(p) p^x (1 - p)^(1 - x),  p = sigmoid(e)

    It is to grey levels what `Bernoulli` is to black and white: the same logits, with the constant
    C that makes it a density. Its activation is its exact mean, 1 / (1 - exp(-e)) - 1 / e.

    Example:
        >>> import jax.numpy as jnp
        >>> pixel, e = ContinuousBernoulli(), jnp.array([-5.0, 1.0, 5.0])
        >>> print(pixel.activation(e).round(3))
        [0.193 0.582 0.807]
        >>> print(pixel.log_prob(jnp.array([0.0, 0.3, 2.0]), e).round(3))
        [ 1.616 -0.241   -inf]

    Source: Loaiza-Ganem and Cunningham, "The continuous Bernoulli: fixing a pervasive error in
    variational autoencoders", 2019.
    """

    reparameterised: ClassVar[bool] = True
    kinds: ClassVar[frozenset[str]] = frozenset({"node"})

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[X] given e, shape and dtype of e."""
        e = self.natural_parameter(e)
        return lax.convert_element_type(self.mean(e), e.dtype)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """1 / (1 - exp(-e)) - 1 / e, at least float32."""
        return _mean_of(wide(self.natural_parameter(e)))

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """1 / e^2 - exp(e) / (exp(e) - 1)^2, at least float32."""
        return _variance(wide(self.natural_parameter(e)))

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log(1 + u (exp(e) - 1)) / e, u the word's uniform number; differentiable."""
        e = self.natural_parameter(e)
        precise = wide(e)
        sample = _quantile(open_uniform(words, precise.dtype), precise)
        return lax.convert_element_type(or_nan(precise == precise, sample), e.dtype)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """x e - log((exp(e) - 1) / e) for x from 0 to 1; -inf elsewhere, with zero gradient."""
        e = wide(self.natural_parameter(e))
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        possible = (x >= 0) & (x <= 1)
        return possible_or_minus_infinity(x, possible, _log_density(jnp.where(possible, x, 0), e))

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """-E[log p(X)], the negative log-density at the mean, since that is linear in x."""
        e = wide(self.natural_parameter(e))
        return -_log_density(_mean_of(e), e)

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """1 for positive e, else 0; no gradient."""
        e = lax.stop_gradient(self.natural_parameter(e))
        return or_nan(e == e, (e > 0).astype(e.dtype))

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs of X and of the activation when e ~ N(mean, variance), by quadrature over e.

        Within 1e-4 for the means and the variances, apart from rounding.
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        (centre, wobble), (noise, _) = moments_of_changes(
            _given, _changes, mean, variance, narrow=3.0
        )
        centre, noise = jnp.clip(centre, 0, 1), nonnegative(noise)
        return Belief(centre, noise + wobble), Belief(centre, wobble)

    def bounds(self) -> tuple[ArrayLike, ArrayLike]:
        """0 and 1."""
        return 0.0, 1.0
