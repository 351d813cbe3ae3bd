"""Families of noise nodes: dropout masks ([A] section 4.3), and soft clamping ([A] 2.3).

Their natural parameter is a probability or an expected value, so that they are exact at both ends.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax.kernels.random_bits import standard_normal, uniform
from cgjax.nodes._family import (
    SMALLEST_SCALE,
    Belief,
    Family,
    like,
    possible_or_minus_infinity,
    require_parameter,
    wide,
)
from cgjax.nodes._gaussian import normal_log_density
from cgjax.nodes._quadrature import standard_deviation

# A Gaussian mask has no finite variance at keep probability 0; below this one, it is computed
# with this one.
SMALLEST_KEEP = 1e-6


class _ByExpectation(Family):
    """X in {low, high} with E[X] = e: what BernoulliMask and SoftClamp share."""

    discrete: ClassVar[bool] = True
    low: ArrayLike
    high: ArrayLike

    def natural_parameter(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """`e` after checks; where its value is known, it must lie in [low, high]."""
        e = super().natural_parameter(e)
        known = not any(isinstance(v, jax.core.Tracer) for v in (e, self.low, self.high))
        if known:
            value, low, high = (np.asarray(v, np.float64) for v in (e, self.low, self.high))
            if not np.all((value >= low) & (value <= high)):
                raise ValueError(
                    f"{type(self).__name__} needs a natural parameter in [{self.low}, {self.high}], "
                    f"got values from {value.min()} to {value.max()}"
                )
        return e

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e itself."""
        return self.natural_parameter(e)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e, at least float32."""
        return wide(self.natural_parameter(e))

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """(e - low) (high - e), at least float32."""
        e = wide(self.natural_parameter(e))
        return (e - like(self.low, e)) * (like(self.high, e) - e)

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """high where the word's uniform number is below P(high), else low; no gradient."""
        e = lax.stop_gradient(self.natural_parameter(e))
        precise = wide(e)
        low, high = lax.stop_gradient((like(self.low, precise), like(self.high, precise)))
        is_high = uniform(words, precise.dtype) * (high - low) < precise - low
        return lax.convert_element_type(lax.select(is_high, high, low), e.dtype)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log P(x) for x in {low, high}; -inf (zero gradient) for impossible values."""
        e = self.natural_parameter(e)
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        is_low, is_high = x == like(self.low, e), x == like(self.high, e)
        precise = wide(e)
        low, high = like(self.low, precise), like(self.high, precise)
        weight = jnp.where(is_high, precise - low, high - precise)
        possible = (is_low | is_high) & (weight > 0)
        value = jnp.log(jnp.where(possible, weight, 1) / (high - low))
        return possible_or_minus_infinity(possible, value)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "*nodes"]
    ) -> tuple[Belief, Belief]:
        """Beliefs of X and of e, where e has this mean and variance (and lies in [low, high]).

        X is again binary, so its variance is (mean - low) (high - mean) whatever that of e.
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        return Belief(mean, self.variance(mean)), Belief(mean, variance)

    def states(self, size: int = 1) -> Float[Array, "2 *size"]:
        """[low, high]: shape (2, 1), or (2, *parameter shape) where the parameters are arrays."""
        if size != 1:
            raise ValueError(
                f"{type(self).__name__} is element-wise: one node has size 1, got size {size}"
            )
        low, high = jnp.asarray(self.low, float), jnp.asarray(self.high, float)
        shape = np.broadcast_shapes((1,), low.shape, high.shape)
        return jnp.stack([jnp.broadcast_to(low, shape), jnp.broadcast_to(high, shape)])


@dataclasses.dataclass(frozen=True, eq=False)
class BernoulliMask(_ByExpectation):
    """A dropout mask: X in {0, 1}, P(X = 1) = e, the probability to keep."""

    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class SoftClamp(_ByExpectation):
    """A binary node of which the expected value is observed: X in {low, high}, E[X] = e."""

    low: ArrayLike
    high: ArrayLike

    def __post_init__(self) -> None:
        require_parameter(self, "low", np.isfinite, "finite")
        require_parameter(self, "high", np.isfinite, "finite")
        if not isinstance(self.low, jax.core.Tracer):
            require_parameter(
                self, "high", lambda high: high > np.asarray(self.low), f"above low = {self.low!r}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class GaussianMask(Family):
    """A Gaussian dropout mask: X ~ N(1, (1 - e)/e), e the probability to keep."""

    reparameterised: ClassVar[bool] = True

    def natural_parameter(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """`e` after checks; where its value is known, it must lie in (0, 1]."""
        e = super().natural_parameter(e)
        if not isinstance(e, jax.core.Tracer):
            value = np.asarray(e, np.float64)
            if not np.all((value > 0) & (value <= 1)):
                raise ValueError(
                    "GaussianMask needs a keep probability above 0 and at most 1 (its variance is "
                    f"(1 - p)/p), got values from {value.min()} to {value.max()}"
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
        e = wide(self.natural_parameter(e))
        return (1 - e) / jnp.maximum(e, SMALLEST_KEEP)

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """1 + sqrt((1 - e)/e) n, n the word's standard normal number; differentiable."""
        e = self.natural_parameter(e)
        scale = standard_deviation(self.variance(e))
        return lax.convert_element_type(1 + scale * standard_normal(words, scale.dtype), e.dtype)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log N(x; 1, (1 - e)/e), with a standard deviation of at least 1e-6."""
        scale = jnp.maximum(standard_deviation(self.variance(e)), SMALLEST_SCALE)
        x = lax.convert_element_type(jnp.asarray(x), scale.dtype)
        return normal_log_density(x, jnp.ones_like(scale), scale)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "*nodes"]
    ) -> tuple[Belief, Belief]:
        """Mean 1 and the noise variance at the mean keep probability; the activation is 1."""
        mean, variance = self._gaussian_parameter(mean, variance)
        one = jnp.ones_like(mean)
        return Belief(one, self.variance(mean)), Belief(one, jnp.zeros_like(mean))
