"""Families of noise nodes: dropout masks ([A] section 4.3), and soft clamping ([A] 2.3).

Their natural parameter is a probability or an expected value, so that they are exact at both ends.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax._gaussian.numerics import wide
from cgjax._gaussian.tails import log_density
from cgjax.kernels.random_bits import open_uniform, standard_normal
from cgjax.nodes._binary import TwoStates
from cgjax.nodes._family import Belief, Family
from cgjax.nodes._gaussian import AnyGaussian
from cgjax.nodes._information import probability_entropy, probability_kl
from cgjax.nodes._values import or_nan, possible_or_minus_infinity, require_parameter

# A Gaussian mask has no finite variance at keep probability 0; below this one, it is computed
# with this one.
SMALLEST_KEEP = 1e-6
# The derivative of a standard deviation by its variance, 1 / (2 std), stops growing below this one,
# so that it is finite at keep probability 1.
_SMALLEST_DEVIATION = 1e-5


@jax.custom_jvp
def _standard_deviation(variance: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    return jnp.sqrt(variance)


def _standard_deviation_jvp(primals, tangents):
    deviation = _standard_deviation(*primals)
    return deviation, tangents[0] / (2 * jnp.maximum(deviation, _SMALLEST_DEVIATION))


_standard_deviation.defjvp(_standard_deviation_jvp)


class _ByExpectation(TwoStates):
    """X in {low, high} with E[X] = e: what BernoulliMask and SoftClamp share."""

    def natural_parameter(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """`e` as an array; where its value is known already, it must lie in [low, high].

        Raises:
            TypeError: e is not real floating point.
            ValueError: e lies outside [low, high], or as `check`.
        """
        e = super().natural_parameter(e)
        low, high = self._levels()
        if not any(isinstance(value, Tracer) for value in (e, low, high)):
            value = np.asarray(e, np.float64)
            # In e's dtype: a float32 image clamped to [0, 0.1] may hold float32's 0.1.
            low, high = (np.asarray(level).astype(e.dtype).astype(float) for level in (low, high))
            if not np.all((value >= low) & (value <= high)):
                raise ValueError(
                    f"{type(self).__name__} needs a natural parameter from {low} to {high}, got "
                    f"values from {value.min()} to {value.max()}"
                )
        return e

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e itself."""
        return self.natural_parameter(e)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e, at least float32."""
        return self._in_range(wide(self.natural_parameter(e)))

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """(e - low) (high - e), at least float32."""
        return self._variance(wide(self.natural_parameter(e)))

    def _in_range(self, e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        """e, or NaN where it is no expected value: only what is known already raises."""
        low, high = self._levels_like(e)
        return or_nan((e >= low) & (e <= high), e)

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """high where the word's uniform number is below P(high), else low; no gradient."""
        e = lax.stop_gradient(self.natural_parameter(e))
        precise = wide(e)
        low, high = lax.stop_gradient(self._levels_like(precise))
        is_high = open_uniform(words, precise.dtype) * (high - low) < precise - low
        sample = or_nan((precise >= low) & (precise <= high), lax.select(is_high, high, low))
        return lax.convert_element_type(sample, e.dtype)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log P(x): log (e - low)/(high - low) at high, log (high - e)/(high - low) at low.

        -inf (with zero gradient) for all other x, and where the probability is 0; NaN for an e
        that is no expected value.
        """
        e = self.natural_parameter(e)
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        low, high = self._levels_like(e)
        is_low, is_high = x == low, x == high
        e, low, high = self._in_range(wide(e)), wide(low), wide(high)
        weight = jnp.where(is_high, e - low, high - e)
        possible = (is_low | is_high) & ~(weight <= 0)
        value = jnp.log(jnp.where(possible, weight, 1) / (high - low))
        return possible_or_minus_infinity(x, possible, value)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs of X and of e, for an e in [low, high] with this mean and variance.

        X is binary whatever e's distribution, so its variance is (mean - low) (high - mean).
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        return Belief(self._in_range(mean), self._variance(mean)), Belief(mean, variance)

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """-p log p - (1 - p) log(1 - p), p = (e - low)/(high - low)."""
        return probability_entropy(*self._probabilities(wide(self.natural_parameter(e))))

    def has_kl(self, other: Family) -> bool:
        """Whether the other one is given by an expectation, too, and has the same states."""
        return isinstance(other, _ByExpectation) and self._same_states(other)

    def kl(
        self, e: Num[ArrayLike, "*nodes"], other: Family, other_e: Num[ArrayLike, "..."]
    ) -> Float[Array, "*nodes"]:
        """p log(p / q) + (1 - p) log((1 - p) / (1 - q)), p and q as in `entropy`."""
        e, other_e = self._both_parameters(e, other, other_e)
        assert isinstance(other, _ByExpectation)
        low, high = self._levels_like(e)
        change = (other_e - e) / (high - low)
        return probability_kl(*self._probabilities(e), *other._probabilities(other_e), change)

    def _probabilities(
        self, e: Float[Array, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        """Of high and of low."""
        low, high = self._levels_like(e)
        e = self._in_range(e)
        return (e - low) / (high - low), (high - e) / (high - low)

    def _variance(self, e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        low, high = self._levels_like(e)
        e = self._in_range(e)
        return (e - low) * (high - e)


@dataclasses.dataclass(frozen=True, eq=False)
class BernoulliMask(_ByExpectation):
    """A dropout mask: X in {0, 1}, where e is P(X = 1), the probability to keep.

    Collapsed, it is its mean e, the constant scaling of dropout at test time. At e = 1 a sample
    is always 1, at e = 0 always 0.

    Raises:
        ValueError: e lies outside [0, 1], where its value is known when the method is called.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> mask = BernoulliMask()
        >>> print(mask.activation(jnp.full(3, 0.5)))
        [0.5 0.5 0.5]
        >>> print(mask.sample(jax.random.key(0), jnp.array([0.0, 1.0])))
        [0. 1.]

    Source: [A] Eq. 12-13.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"noise"})

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return 0.0, 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class SoftClamp(_ByExpectation):
    """A binary node whose expected value is observed: X in {low, high}, E[X] = e.

    Inputs over a range, such as pixel intensities, are seen as the expected values of binary
    nodes; collapsed, the node is its input.

    Args:
        low, high: the two states, low below high; numbers, or arrays that broadcast against e
            from the right.

    Raises:
        ValueError: low is not below high; or e lies outside [low, high], where its value is known
            when the method is called.

    Example:
        >>> import jax.numpy as jnp
        >>> pixel = SoftClamp(0.0, 255.0)
        >>> print(pixel.activation(jnp.array([51.0])))
        [51.]
        >>> print(pixel.variance(jnp.array([51.0])))
        [10404.]

    Source: [A] section 2.3.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"observe"})

    low: ArrayLike
    high: ArrayLike

    def __post_init__(self) -> None:
        require_parameter(self, "low", np.isfinite, "finite")
        require_parameter(self, "high", np.isfinite, "finite")
        if not isinstance(self.low, Tracer):
            low = np.asarray(self.low)
            require_parameter(self, "high", lambda high: high > low, f"above low = {self.low!r}")

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return self.low, self.high


@dataclasses.dataclass(frozen=True, eq=False)
class GaussianMask(AnyGaussian):
    """A Gaussian dropout mask: X ~ N(1, (1 - e)/e), where e is the probability to keep.

    It has the mean and variance of a Bernoulli mask divided by its keep probability, so nothing
    is rescaled: collapsed, it is 1. At e = 1 a sample is exactly 1. At e = 0 there is no such
    distribution: a known 0 raises, and an e from 0 to 1e-6 at run time is treated as 1e-6.

    Raises:
        ValueError: e lies outside (0, 1], where its value is known when the method is called.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> mask = GaussianMask()
        >>> print(mask.variance(jnp.array([0.5, 1.0])))
        [1. 0.]
        >>> print(mask.sample(jax.random.key(0), jnp.ones(2)))
        [1. 1.]

    Source: [A] section 4.3, "other noise distributions such as Gaussian".
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"noise"})

    def natural_parameter(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """`e` as an array; where its value is known already, it must lie in (0, 1].

        Raises:
            TypeError: e is not real floating point.
            ValueError: e lies outside (0, 1].
        """
        e = super().natural_parameter(e)
        if not isinstance(e, Tracer):
            value = np.asarray(e, np.float64)
            if not np.all((value > 0) & (value <= 1)):
                raise ValueError(
                    "GaussianMask needs a keep probability p above 0 and at most 1 (its variance "
                    f"is (1 - p)/p), got values from {value.min()} to {value.max()}; BernoulliMask "
                    "can also drop everything."
                )
        return e

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """1, shape and dtype of e."""
        return jnp.ones_like(self.natural_parameter(e))

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """1, at least float32."""
        return jnp.ones_like(wide(self.natural_parameter(e)))

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """(1 - e)/e, at least float32."""
        return self._variance(wide(self.natural_parameter(e)))

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """1 + sqrt((1 - e)/e) n, n the word's standard normal number; differentiable."""
        e = self.natural_parameter(e)
        scale = _standard_deviation(self._variance(wide(e)))
        return lax.convert_element_type(1 + scale * standard_normal(words, scale.dtype), e.dtype)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log N(x; 1, (1 - e)/e), with a standard deviation of at least 1e-6."""
        mean, scale = self._mean_and_positive_scale(wide(self.natural_parameter(e)))
        return log_density(lax.convert_element_type(jnp.asarray(x), scale.dtype), mean, scale)

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """1, shape and dtype of e."""
        return self.activation(e)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Mean 1 and the noise's variance at the mean keep probability; the activation is 1.

        (1 - e)/e has no expectation under a Gaussian e, so the variance of e is not used. Keep
        probabilities are settings, of variance 0, and then this is exact.
        """
        mean, _ = self._gaussian_parameter(mean, variance)
        one = jnp.ones_like(mean)
        return Belief(one, self._variance(mean)), Belief(one, jnp.zeros_like(mean))

    def _mean_and_scale(
        self, e: Float[Array, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        scale = _standard_deviation(self._variance(e))
        return jnp.ones_like(scale), scale

    def _variance(self, e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        return (1 - or_nan((e >= 0) & (e <= 1), e)) / jnp.maximum(e, SMALLEST_KEEP)
