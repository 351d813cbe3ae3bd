"""Binary nodes: two states, sigmoidal activations ([A] Eq. 2-6)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax.kernels.random_bits import uniform
from cgjax.nodes._family import (
    Belief,
    Family,
    like,
    possible_or_minus_infinity,
    require_parameter,
    wide,
)
from cgjax.nodes._quadrature import logistic_moments


class _TwoStates(Family):
    """X in {low, high} with log-odds (high - low) e: what Binary, Bernoulli and Spin share."""

    discrete: ClassVar[bool] = True
    low: ArrayLike
    high: ArrayLike

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[T(X)] given e, [A] Eq. 6. Shape and dtype of e."""
        e = self.natural_parameter(e)
        return lax.convert_element_type(self.mean(e), e.dtype)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[T(X)] given e, [A] Eq. 6; at least float32."""
        e = wide(self.natural_parameter(e))
        log_odds = self._log_odds(e)
        return self._between(jax.nn.sigmoid(-log_odds), jax.nn.sigmoid(log_odds))

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """Var[T(X)] given e: (high - low)^2 sigmoid(k) sigmoid(-k), k = (high - low) e."""
        e = wide(self.natural_parameter(e))
        log_odds = self._log_odds(e)
        return self._spread(e) ** 2 * jax.nn.sigmoid(log_odds) * jax.nn.sigmoid(-log_odds)

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """high where the word's uniform number is below P(high), else low; no gradient."""
        e = lax.stop_gradient(self.natural_parameter(e))
        precise = wide(e)
        is_high = uniform(words, precise.dtype) < jax.nn.sigmoid(self._log_odds(precise))
        low, high = lax.stop_gradient((like(self.low, e), like(self.high, e)))
        return lax.select(is_high, high, low)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log sigmoid((2x - (low + high)) e) for x in {low, high}, [A] Eq. 3; else -inf."""
        e = self.natural_parameter(e)
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        is_low, is_high = x == like(self.low, e), x == like(self.high, e)
        log_odds = self._log_odds(wide(e))
        value = -jax.nn.softplus(jnp.where(is_high, -log_odds, log_odds))
        return possible_or_minus_infinity(is_low | is_high, value)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "*nodes"]
    ) -> tuple[Belief, Belief]:
        """Beliefs of T(X) and of the activation when e ~ N(mean, variance).

        The mean of sigmoid under a Gaussian by quadrature (see `logistic_moments` for its error).
        Given P = E[P(high)], T(X) is again binary, so its variance is (high - low)^2 P (1 - P).
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        spread = self._spread(mean)
        probability, complement, activation_variance = logistic_moments(
            spread * mean, spread**2 * variance
        )
        expectation = self._between(complement, probability)
        statistic = Belief(expectation, spread**2 * probability * complement)
        return statistic, Belief(expectation, spread**2 * activation_variance)

    def states(self, size: int = 1) -> Float[Array, "2 *size"]:
        """[low, high]: shape (2, 1), or (2, *parameter shape) where the parameters are arrays."""
        if size != 1:
            raise ValueError(
                f"{type(self).__name__} is element-wise: one node has size 1, got size {size}"
            )
        low, high = jnp.asarray(self.low, float), jnp.asarray(self.high, float)
        shape = np.broadcast_shapes((1,), low.shape, high.shape)
        return jnp.stack([jnp.broadcast_to(low, shape), jnp.broadcast_to(high, shape)])

    def _spread(self, e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        return like(self.high, e) - like(self.low, e)

    def _log_odds(self, e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        """log P(high) - log P(low)."""
        return self._spread(e) * e

    def _between(
        self, complement: Float[Array, "*nodes"], probability: Float[Array, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """low P(low) + high P(high): no cancellation when low and high have one sign."""
        return like(self.low, probability) * complement + like(self.high, probability) * probability


@dataclasses.dataclass(frozen=True, eq=False)
class Binary(_TwoStates):
    """A node with the two states {low, high}: P(X = x) = sigmoid((2x - (low + high)) e).

    Its activation is [A] Eq. 6, the logistic curve from low to high,

        (high - low)/2 tanh((high - low)/2 e) + (low + high)/2,

    computed as low sigmoid(-k) + high sigmoid(k) with k = (high - low) e when low and high have
    one sign (accurate to rounding even where it is close to 0), and as written otherwise.
    `Bernoulli()` is Binary(0, 1) and `Spin()` is Binary(-1, 1). The roles of the two states are
    interchangeable.

    Args:
        low, high: the two states; numbers, or arrays that broadcast against e from the right.

    Raises:
        ValueError: low and high are equal somewhere, or not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> node = Binary(-1.0, 3.0)
        >>> node.activation(jnp.array([-50.0, 0.0, 50.0])).tolist()
        [-1.0, 1.0, 3.0]

    Source: [A] Eq. 2-6.
    """

    low: ArrayLike
    high: ArrayLike

    def __post_init__(self) -> None:
        require_parameter(self, "low", np.isfinite, "finite")
        require_parameter(self, "high", np.isfinite, "finite")
        if not isinstance(self.low, jax.core.Tracer):
            require_parameter(
                self, "high", lambda high: high != np.asarray(self.low), f"unlike low = {self.low!r}"
            )

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[T(X)] given e, [A] Eq. 6; at least float32."""
        e = wide(self.natural_parameter(e))
        low, high = like(self.low, e), like(self.high, e)
        half = (high - low) / 2
        opposite_signs = (low + high) / 2 + half * jnp.tanh(half * e)
        return jnp.where(low * high < 0, opposite_signs, super().mean(e))


@dataclasses.dataclass(frozen=True, eq=False)
class Bernoulli(_TwoStates):
    """A node with the states {0, 1}: P(X = 1) = sigmoid(e), activation `jax.nn.sigmoid`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> node = Bernoulli()
        >>> node.activation(jnp.array([0.0])).tolist(), node.variance(jnp.array([0.0])).tolist()
        ([0.5], [0.25])
        >>> node.log_prob(jnp.array([1.0, 0.5]), jnp.array([0.0, 0.0])).round(4).tolist()
        [-0.6931, -inf]

    Source: [A] Eq. 3, 6 with states {0, 1}.
    """

    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """sigmoid(e), shape and dtype of e."""
        return jax.nn.sigmoid(self.natural_parameter(e))

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """sigmoid(e), at least float32."""
        return jax.nn.sigmoid(wide(self.natural_parameter(e)))

    def _log_odds(self, e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        return e


@dataclasses.dataclass(frozen=True, eq=False)
class Spin(_TwoStates):
    """A node with the states {-1, 1}: P(X = 1) = sigmoid(2 e), activation `jax.numpy.tanh`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> node = Spin()
        >>> node.activation(jnp.array([0.0, 20.0])).tolist()
        [0.0, 1.0]
        >>> sorted(set(node.sample(jax.random.key(0), jnp.zeros(100)).tolist()))
        [-1.0, 1.0]

    Source: [A] Eq. 3, 6 with states {-1, 1}.
    """

    low: ClassVar[float] = -1.0
    high: ClassVar[float] = 1.0

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """tanh(e), shape and dtype of e."""
        return jnp.tanh(self.natural_parameter(e))

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """tanh(e), at least float32."""
        return jnp.tanh(wide(self.natural_parameter(e)))

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """1 where 2u - 1 < tanh(e) for the word's uniform number u, else -1; no gradient.

        Since P(1) = (1 + tanh(e)) / 2, the tanh of the activation serves the sample too.
        """
        e = lax.stop_gradient(self.natural_parameter(e))
        precise = wide(e)
        is_high = 2 * uniform(words, precise.dtype) - 1 < jnp.tanh(precise)
        return lax.select(is_high, jnp.ones_like(e), -jnp.ones_like(e))
