"""Binary nodes: two states and a sigmoidal activation ([A] Eq. 2-6)."""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax._gaussian.numerics import like, wide
from cgjax._gaussian.quadrature import logistic_moments
from cgjax.kernels.random_bits import open_uniform
from cgjax.nodes._family import Belief, Family
from cgjax.nodes._information import odds_entropy, odds_kl
from cgjax.nodes._record import same
from cgjax.nodes._values import or_nan, possible_or_minus_infinity, require_parameter, with_slope


class TwoStates(Family):
    """An element-wise family with X in {low, high}, whichever way e determines P(high)."""

    discrete: ClassVar[bool] = True

    @abc.abstractmethod
    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        """low and high."""

    def states(self, size: int = 1) -> Float[Array, "..."]:
        """[low, high]: shape (2, 1), or (2, *parameter shape) where the parameters are arrays."""
        if size != 1:
            raise ValueError(
                f"{type(self).__name__} is element-wise: one node has size 1, got size {size}"
            )
        low, high = (jnp.asarray(level, float) for level in self._levels())
        shape = np.broadcast_shapes((1,), low.shape, high.shape)
        return jnp.stack([jnp.broadcast_to(low, shape), jnp.broadcast_to(high, shape)])

    def bounds(self) -> tuple[ArrayLike, ArrayLike]:
        """The lower and the higher state."""
        low, high = self._levels()
        return jnp.minimum(low, high), jnp.maximum(low, high)

    def _same_states(self, other: "TwoStates") -> bool:
        """Whether both are known to have the same two states, in the same order."""
        return all(map(same, self._levels(), other._levels()))

    def _levels_like(
        self, e: Float[Array, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        low, high = self._levels()
        return like(low, e), like(high, e)


class _Logistic(TwoStates):
    """X in {low, high} with log-odds (high - low) e: what Binary, Bernoulli and Spin share."""

    kinds: ClassVar[frozenset[str]] = frozenset({"node"})

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """(high - low)^2 sigmoid(k) sigmoid(-k), k = (high - low) e; at least float32."""
        log_odds, spread = self._log_odds(wide(self.natural_parameter(e)))
        return spread**2 * jax.nn.sigmoid(log_odds) * jax.nn.sigmoid(-log_odds)

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """high where the word's uniform number is below P(high), else low; no gradient."""
        e = lax.stop_gradient(self.natural_parameter(e))
        low, high = lax.stop_gradient(self._levels_like(e))
        log_odds, _ = self._log_odds(wide(e))
        log_odds = lax.stop_gradient(log_odds)
        is_high = open_uniform(words, log_odds.dtype) < jax.nn.sigmoid(log_odds)
        return or_nan(log_odds == log_odds, lax.select(is_high, high, low))

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log sigmoid((2x - (low + high)) e) for x in {low, high}, [A] Eq. 3; else -inf.

        Its derivative by x is that of the straight line through both, log-odds over high - low.
        """
        e = self.natural_parameter(e)
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        low, high = self._levels_like(e)
        log_odds, spread = self._log_odds(wide(e))
        value = -jax.nn.softplus(jnp.where(x == high, -log_odds, log_odds))
        value = with_slope(value, x, log_odds / spread)
        possible = ((x == low) | (x == high)) & ~(value == -jnp.inf)
        return possible_or_minus_infinity(x, possible, value)

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """-sum over both states of P log P, of log-odds (high - low) e."""
        return odds_entropy(self._log_odds(wide(self.natural_parameter(e)))[0])

    def has_kl(self, other: Family) -> bool:
        """Whether the other one is given by log-odds, too, and has the same states."""
        return isinstance(other, _Logistic) and self._same_states(other)

    def kl(
        self, e: Num[ArrayLike, "*nodes"], other: Family, other_e: Num[ArrayLike, "..."]
    ) -> Float[Array, "*nodes"]:
        """sum over both states of P log(P / Q).

        Example:
            >>> import jax.numpy as jnp
            >>> close = Bernoulli().kl(jnp.array(0.0), Bernoulli(), jnp.array(1e-4))
            >>> print(f"{close:.4g}")  # d^2 / 8 to all digits
            1.25e-09
        """
        e, other_e = self._both_parameters(e, other, other_e)
        assert isinstance(other, _Logistic)
        return odds_kl(self._log_odds(e)[0], other._log_odds(other_e)[0])

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs of T(X) and of the activation when e ~ N(mean, variance).

        P = E[P(high)] and the variance of P(high) are computed by quadrature, within 1e-4 while
        the standard deviation of e is below 10 / (high - low), within 1e-3 beyond. Given P, T(X)
        is again binary, so its variance is (high - low)^2 P (1 - P).
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        low, high = self._levels_like(mean)
        log_odds, spread = self._log_odds(mean)
        likely, unlikely, wobble = logistic_moments(log_odds, spread**2 * variance)
        expectation = low * unlikely + high * likely
        statistic = Belief(expectation, spread**2 * likely * unlikely)
        return statistic, Belief(expectation, spread**2 * wobble)

    def _log_odds(
        self, e: Float[Array, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        """log P(high) - log P(low), and its slope high - low."""
        low, high = self._levels_like(e)
        return (high - low) * e, high - low


@dataclasses.dataclass(frozen=True, eq=False)
class Binary(_Logistic):
    """A node with the two states {low, high}: P(X = x) = sigmoid((2x - (low + high)) e).

    Its activation, and mean, is [A] Eq. 6, the logistic curve from low to high,

        (high - low)/2 tanh((high - low)/2 e) + (low + high)/2,

    computed so where the states have opposite signs, and as low P(low) + high P(high) where
    they do not, which is accurate also where the curve comes close to 0. `Bernoulli()` is
    Binary(0, 1) and `Spin()` is Binary(-1, 1). The roles of the two states are interchangeable.

    Args:
        low, high: the two states; numbers, or arrays that broadcast against e from the right.

    Raises:
        ValueError: low and high are equal somewhere, or not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> node = Binary(-1.0, 3.0)
        >>> print(node.activation(jnp.array([-50.0, 0.0, 50.0])))
        [-1.  1.  3.]
        >>> print(node.log_prob(jnp.array([3.0, 2.0]), jnp.array([0.0, 0.0])).round(4))
        [-0.6931    -inf]

    Source: [A] Eq. 2-6.
    """

    low: ArrayLike
    high: ArrayLike

    def __post_init__(self) -> None:
        require_parameter(self, "low", np.isfinite, "finite")
        require_parameter(self, "high", np.isfinite, "finite")
        if not isinstance(self.low, Tracer):
            low = np.asarray(self.low)
            require_parameter(self, "high", lambda high: high != low, f"unlike low = {self.low!r}")

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[X] given e, [A] Eq. 6; shape and dtype of e."""
        e = self.natural_parameter(e)
        return lax.convert_element_type(self.mean(e), e.dtype)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[X] given e, [A] Eq. 6; at least float32."""
        e = wide(self.natural_parameter(e))
        low, high = self._levels_like(e)
        log_odds, spread = self._log_odds(e)
        one_sign = low * jax.nn.sigmoid(-log_odds) + high * jax.nn.sigmoid(log_odds)
        opposite_signs = (low + high) / 2 + spread / 2 * jnp.tanh(log_odds / 2)
        return jnp.where(low * high < 0, opposite_signs, one_sign)

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return self.low, self.high


@dataclasses.dataclass(frozen=True, eq=False)
class Bernoulli(_Logistic):
    """A node with the states {0, 1}: P(X = 1) = sigmoid(e), activation `jax.nn.sigmoid`.

    Example:
        >>> import jax.numpy as jnp
        >>> node = Bernoulli()
        >>> print(node.activation(jnp.array([0.0])), node.variance(jnp.array([0.0])))
        [0.5] [0.25]
        >>> print(node.states())
        [[0.]
         [1.]]

    Source: [A] Eq. 3 and 6 with states {0, 1}.
    """

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """sigmoid(e), shape and dtype of e."""
        return jax.nn.sigmoid(self.natural_parameter(e))

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """sigmoid(e), at least float32."""
        return jax.nn.sigmoid(wide(self.natural_parameter(e)))

    def derivative(
        self, e: Float[Array, "*nodes"], value: Float[Array, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """value (1 - value): sigmoid's derivative at an activation, exactly 0 at a sample."""
        return value * (1 - value)

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return 0.0, 1.0

    def _log_odds(
        self, e: Float[Array, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        return e, jnp.ones_like(e)


@dataclasses.dataclass(frozen=True, eq=False)
class Spin(_Logistic):
    """A node with the states {-1, 1}: P(X = 1) = sigmoid(2 e), activation `jax.numpy.tanh`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> node = Spin()
        >>> print(node.activation(jnp.array([0.0, 20.0])))
        [0. 1.]
        >>> sorted(set(node.sample(jax.random.key(0), jnp.zeros(100)).tolist()))
        [-1.0, 1.0]

    Source: [A] Eq. 3 and 6 with states {-1, 1}.
    """

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

        P(1) = (1 + tanh(e)) / 2, so the tanh that the activation needs serves the sample too.
        """
        e = lax.stop_gradient(self.natural_parameter(e))
        precise = wide(e)
        is_high = 2 * open_uniform(words, precise.dtype) - 1 < jnp.tanh(precise)
        return or_nan(e == e, lax.select(is_high, jnp.ones_like(e), -jnp.ones_like(e)))

    def derivative(
        self, e: Float[Array, "*nodes"], value: Float[Array, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """(1 - value)(1 + value): tanh's derivative at an activation, exactly 0 at a sample."""
        return (1 - value) * (1 + value)

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return -1.0, 1.0
