"""Nodes with two states behind the other bounded activations: clipped, soft sign, arctan, sine."""

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax._gaussian.bends import moments_of_changes
from cgjax._gaussian.closed import clipped, sine
from cgjax._gaussian.numerics import MeanAndVariance, nonnegative, wide
from cgjax.kernels.random_bits import open_uniform
from cgjax.nodes._binary import TwoStates
from cgjax.nodes._family import Belief
from cgjax.nodes._gates import Gate, Nodes, ramp
from cgjax.nodes._values import or_nan, possible_or_minus_infinity, with_slope

# Beyond this a curve is as far as it gets.
_FAR = 1e15


def _near(e: Nodes) -> Nodes:
    return jnp.clip(e, -_FAR, _FAR)


class Bounded(TwoStates):
    """X in {low, high} with P(high) = (f(e) - low) / (high - low): the mean is any f between them.

    Of all variables between low and high with this mean it is the one of the largest variance,
    (f(e) - low) (high - f(e)).
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"node"})

    @abc.abstractmethod
    def _gate(self, e: Nodes) -> Gate:
        """P(X = high) at e of at least float32."""

    @abc.abstractmethod
    def _moments(self, mean: Nodes, variance: Nodes) -> MeanAndVariance:
        """The mean and the variance of f(e) for e ~ N(mean, variance)."""

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[X] given e, the activation and its limits; at least float32."""
        return self.activation(_near(wide(self.natural_parameter(e))))

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """(high - low)^2 P(high) P(low), at least float32."""
        gate = self._gate(wide(self.natural_parameter(e)))
        return self._range() ** 2 * gate.open * gate.closed

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """high where the word's uniform number is below P(high), else low; no gradient."""
        e = lax.stop_gradient(self.natural_parameter(e))
        probability = self._gate(wide(e)).open
        low, high = self._levels_like(e)
        is_high = open_uniform(words, probability.dtype) < probability
        return or_nan(probability == probability, lax.select(is_high, high, low))

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log P(x) for x in {low, high}; else -inf."""
        e = self.natural_parameter(e)
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        low, high = self._levels_like(e)
        gate = self._gate(wide(e))
        value = jnp.where(x == high, gate.log_open, gate.log_closed)
        log_odds = jnp.where(gate.open * gate.closed > 0, gate.log_open - gate.log_closed, 0)
        value = with_slope(value, x, log_odds / self._range())
        possible = ((x == low) | (x == high)) & ~(value == -jnp.inf)
        return possible_or_minus_infinity(x, possible, value)

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """-sum over both states of P log P."""
        return self._gate(wide(self.natural_parameter(e))).entropy()

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs of X and of the activation when e ~ N(mean, variance).

        Exact for clipped activations and the sine, by quadrature for the others: within 1e-4 of
        the range while the deviation of e is below 10, within 1e-3 beyond.
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        low, high = self._levels_like(mean)
        centre, spread = self._moments(_near(mean), variance)
        noise = nonnegative(centre - low) * nonnegative(high - centre)
        return Belief(centre, noise), Belief(centre, spread)

    def _range(self) -> float:
        low, high = self._levels()
        assert isinstance(low, float) and isinstance(high, float)  # no parameters
        return high - low


class _Clipped(Bounded):
    """f(e) = scale clip(e, from, to) + shift: P(high) rises evenly from one to the other."""

    ends: ClassVar[tuple[float, float]]

    def _gate(self, e: Nodes) -> Gate:
        return ramp(e, *self.ends)

    def _moments(self, mean: Nodes, variance: Nodes) -> MeanAndVariance:
        start, end = self.ends
        low, _ = self._levels_like(mean)
        slope = self._range() / (end - start)
        centre, spread = clipped(mean, variance, start, end)
        return low + slope * (centre - start), slope**2 * spread


@dataclasses.dataclass(frozen=True, eq=False)
class HardTanh(_Clipped):
    """A node with the states {-1, 1} whose mean is `jax.nn.hard_tanh`, e clipped to [-1, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> node, e = HardTanh(), jnp.array([-2.0, 0.5])
        >>> print(node.activation(e), node.variance(e))
        [-1.   0.5] [0.   0.75]

    Source: [A] Eq. 6 with another curve.
    """

    ends = (-1.0, 1.0)

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """hard_tanh(e), shape and dtype of e."""
        return jax.nn.hard_tanh(self.natural_parameter(e))

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return -1.0, 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class HardSigmoid(_Clipped):
    """A node with the states {0, 1} whose mean is `jax.nn.hard_sigmoid`, (e + 3) / 6 in [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> print(HardSigmoid().activation(jnp.array([-4.0, 0.0, 1.5])))
        [0.   0.5  0.75]

    Source: [A] Eq. 6 with another curve.
    """

    ends = (-3.0, 3.0)

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """hard_sigmoid(e), shape and dtype of e."""
        return jax.nn.hard_sigmoid(self.natural_parameter(e))

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return 0.0, 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class SparseSigmoid(_Clipped):
    """A node with the states {0, 1} whose mean is `jax.nn.sparse_sigmoid`, (e + 1) / 2 in [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> print(SparseSigmoid().activation(jnp.array([-2.0, 0.0, 0.5])))
        [0.   0.5  0.75]

    Source: [A] Eq. 6 with another curve.
    """

    ends = (-1.0, 1.0)

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """sparse_sigmoid(e), shape and dtype of e."""
        return jax.nn.sparse_sigmoid(self.natural_parameter(e))

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return 0.0, 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class ReLU6(_Clipped):
    """A node with the states {0, 6} whose mean is `jax.nn.relu6`, e clipped to [0, 6].

    Example:
        >>> import jax.numpy as jnp
        >>> node, e = ReLU6(), jnp.array([-1.0, 3.0, 7.0])
        >>> print(node.activation(e), node.variance(e))
        [0. 3. 6.] [0. 9. 0.]

    Source: [A] Eq. 6 with another curve.
    """

    ends = (0.0, 6.0)

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """relu6(e), shape and dtype of e."""
        return jax.nn.relu6(self.natural_parameter(e))

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return 0.0, 6.0


@dataclasses.dataclass(frozen=True, eq=False)
class SoftSign(Bounded):
    """A node with the states {-1, 1} whose mean is `jax.nn.soft_sign`, e / (1 + |e|).

    Example:
        >>> import jax.numpy as jnp
        >>> node, e = SoftSign(), jnp.array([-1.0, 0.0, 3.0])
        >>> print(node.activation(e), node.variance(e))
        [-0.5   0.    0.75] [0.75   1.     0.4375]

    Source: [A] Eq. 6 with another curve.
    """

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """soft_sign(e), shape and dtype of e."""
        return jax.nn.soft_sign(self.natural_parameter(e))

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return -1.0, 1.0

    def _gate(self, e: Nodes) -> Gate:
        size = jnp.abs(_near(e))
        rarer = 0.5 / (1 + size)
        return Gate.of_rarer(rarer, -math.log(2.0) - jnp.log1p(size), e < 0)

    def _moments(self, mean: Nodes, variance: Nodes) -> MeanAndVariance:
        return moments_of_changes(_soft_sign, _soft_sign_changes, mean, variance)[0]


def _soft_sign(mean: Nodes) -> list[Nodes]:
    return [jax.nn.soft_sign(mean)]


def _soft_sign_changes(mean: Nodes, by: Nodes) -> list[Nodes]:
    there, size = mean + by, 1 + jnp.abs(mean)
    # The difference of two fractions: on one side of 0 the products of both cancel.
    across = jnp.where((mean < 0) == (there < 0), 0, 2 * mean * (there / (1 + jnp.abs(there))))
    return [by / size / (1 + jnp.abs(there)) + jnp.sign(by) * jnp.abs(across) / size]


@dataclasses.dataclass(frozen=True, eq=False)
class Arctan(Bounded):
    """A node with the states {-pi/2, pi/2} whose mean is `jnp.arctan`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(Arctan().activation(jnp.array([-1.0, 0.0])).round(3))
        [-0.785  0.   ]

    Source: [A] Eq. 6 with another curve.
    """

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """arctan(e), shape and dtype of e."""
        return jnp.arctan(self.natural_parameter(e))

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return -math.pi / 2, math.pi / 2

    def _gate(self, e: Nodes) -> Gate:
        rarer = jnp.arctan2(jnp.ones_like(e), jnp.abs(_near(e))) / math.pi
        return Gate.of_rarer(rarer, jnp.log(rarer), e < 0)

    def _moments(self, mean: Nodes, variance: Nodes) -> MeanAndVariance:
        return moments_of_changes(_arctan, _arctan_changes, mean, variance, narrow=0.8)[0]


def _arctan(mean: Nodes) -> list[Nodes]:
    return [jnp.arctan(mean)]


def _arctan_changes(mean: Nodes, by: Nodes) -> list[Nodes]:
    return [jnp.arctan2(by, 1 + mean * (mean + by))]


@dataclasses.dataclass(frozen=True, eq=False)
class Sine(Bounded):
    """A node with the states {-1, 1} whose mean is `jnp.sin`: P(1) = sin(e/2 + pi/4)^2.

    Example:
        >>> import jax.numpy as jnp
        >>> node, e = Sine(), jnp.array([0.0, jnp.pi / 2])
        >>> print(node.activation(e), node.variance(e).round(3))
        [0. 1.] [1. 0.]

    Source: [A] Eq. 6 with another curve.
    """

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """sin(e), shape and dtype of e."""
        return jnp.sin(self.natural_parameter(e))

    def _levels(self) -> tuple[ArrayLike, ArrayLike]:
        return -1.0, 1.0

    def _gate(self, e: Nodes) -> Gate:
        angle = e / 2 + math.pi / 4
        roots = jnp.sin(angle), jnp.cos(angle)
        logs = (2 * jnp.log(jnp.where(r == 0, 1, jnp.abs(r))) for r in roots)
        logs = (jnp.where(r == 0, -jnp.inf, log) for r, log in zip(roots, logs, strict=True))
        return Gate(roots[0] ** 2, roots[1] ** 2, *logs)

    def _moments(self, mean: Nodes, variance: Nodes) -> MeanAndVariance:
        return sine(mean, variance)
