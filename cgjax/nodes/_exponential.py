"""Nodes behind exponential linear units: ELU, SELU, CELU."""

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax._gaussian.bends import moments_of_changes
from cgjax._gaussian.numerics import like, nonnegative, wide
from cgjax._gaussian.quadrature import rectified_change, shrinking
from cgjax.kernels.random_bits import open_uniform
from cgjax.nodes._family import Belief, Family
from cgjax.nodes._gates import Nodes, is_value
from cgjax.nodes._values import or_nan, possible_or_minus_infinity, require_parameter

# Of `jax.nn.selu`.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805

# exp(-1e4) is 0 in every precision.
_FAR = 1e4


class Exponential(Family):
    """X = scale e above 0; below, 0 with probability exp(rate e), else -scale alpha.

    The mean below 0 is -scale alpha (1 - exp(rate e)), the variance
    (scale alpha)^2 exp(rate e) (1 - exp(rate e)); above 0 nothing is random.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"node"})
    moving: ClassVar[str | None] = "scale e above 0; 0 and -scale alpha below"

    @abc.abstractmethod
    def _parameters(self) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
        """scale, alpha and rate."""

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[X] given e, the activation; at least float32."""
        return self.activation(wide(self.natural_parameter(e)))

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """(scale alpha)^2 exp(rate e) (1 - exp(rate e)) below 0, else 0; at least float32."""
        e = wide(self.natural_parameter(e))
        scale, alpha, rate = self._parameters_like(e)
        below = jnp.minimum(e, 0) * rate
        return (scale * alpha) ** 2 * jnp.exp(below) * (0 - jnp.expm1(below))

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """scale e above 0; below, 0 where the word's uniform number is below exp(rate e), else
        -scale alpha. The derivative is scale or 0."""
        e = self.natural_parameter(e)
        scale, alpha, rate = self._parameters_like(e)
        probability = lax.stop_gradient(jnp.exp(jnp.minimum(wide(e), 0) * wide(rate)))
        is_zero = open_uniform(words, probability.dtype) < probability
        below = lax.select(is_zero, jnp.zeros_like(e), -scale * alpha)
        return or_nan(e == e, jnp.where(e > 0, scale * e, below))

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """0 for x = scale e above 0; below, rate e for x = 0 and log(1 - exp(rate e)) for
        x = -scale alpha; else -inf. x may differ from these by a ten-thousandth."""
        given = self.natural_parameter(e)
        e = wide(given)
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        scale, alpha, rate = self._parameters_like(e)
        exponent = jnp.where(e < 0, e, -1) * rate
        # log(1 - exp(-t)), from the end that keeps its digits.
        small = exponent > -0.6931
        near = jnp.log(-jnp.expm1(jnp.where(small, exponent, -1)))
        far = jnp.log1p(-jnp.exp(jnp.where(small, -1, exponent)))
        value = jnp.where(x == 0, exponent, jnp.where(small, near, far))
        value = jnp.where(e < 0, value, 0)
        below = (x == 0) | is_value(x, -scale * alpha, given.dtype)
        possible = jnp.where(e < 0, below, is_value(x, scale * e, given.dtype))
        return possible_or_minus_infinity(x, possible & ~(value == -jnp.inf), value)

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """The likeliest value; of equally likely ones 0."""
        e = self.natural_parameter(e)
        scale, alpha, rate = self._parameters_like(e)
        is_zero = jnp.exp(jnp.minimum(wide(e), 0) * wide(rate)) >= 0.5
        return or_nan(e == e, jnp.where(e > 0, scale * e, jnp.where(is_zero, 0, -scale * alpha)))

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs of X and of the activation when e ~ N(mean, variance), by quadrature over e.

        Within 2e-5 standard deviations of e and 5e-5 of `variance`, times the steepest slope and
        its square, apart from rounding.
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        parameters = self._parameters_like(mean)
        (centre, spread), (noise, _) = moments_of_changes(
            _base, _changes, mean, variance, *parameters
        )
        noise = nonnegative(noise)
        return Belief(centre, spread + noise), Belief(centre, spread)

    def bounds(self) -> tuple[ArrayLike, ArrayLike]:
        """-scale alpha, and inf."""
        scale, alpha, _ = self._parameters()
        return -jnp.asarray(scale) * alpha, jnp.inf

    def _parameters_like(self, e: Nodes) -> tuple[Nodes, Nodes, Nodes]:
        scale, alpha, rate = (like(p, e) for p in self._parameters())
        return scale, alpha, rate


def _exponent(e: Nodes, rate: Nodes) -> Nodes:
    return jnp.maximum(jnp.minimum(e, 0) * rate, -_FAR)


def _base(mean: Nodes, scale: Nodes, alpha: Nodes, rate: Nodes) -> list[Nodes]:
    """E[X given e] and Var[X given e]."""
    exponent = _exponent(mean, rate)
    share = -jnp.expm1(exponent)
    noise = (scale * alpha) ** 2 * jnp.exp(exponent) * share
    return [scale * (jnp.maximum(mean, 0) - alpha * share), noise]


def _changes(mean: Nodes, by: Nodes, scale: Nodes, alpha: Nodes, rate: Nodes) -> list[Nodes]:
    exponent, there = _exponent(mean, rate), _exponent(mean + by, rate)
    # exp(there) - exp(here), and the same of p (1 - p), without a difference of both.
    here, higher = jnp.exp(exponent), jnp.exp(jnp.maximum(exponent, there))
    _, lost = shrinking(jnp.abs(there - exponent))
    step = jnp.where(there > exponent, lost, -lost) * higher
    of_mean = scale * (rectified_change(mean, by) + alpha * step)
    return [of_mean, (scale * alpha) ** 2 * step * (-jnp.expm1(exponent) - here - step)]


@dataclasses.dataclass(frozen=True, eq=False)
class _WithAlpha(Exponential):
    alpha: ArrayLike = 1.0

    def __post_init__(self) -> None:
        require_parameter(
            self, "alpha", lambda alpha: (alpha > 0) & (alpha < math.inf), "above 0 and finite"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ELU(_WithAlpha):
    """The ELU node: X = e above 0; below, 0 with probability exp(e), else -alpha.

    Its mean is `jax.nn.elu`.

    Args:
        alpha: a number above 0, or an array that broadcasts against e from the right.

    Raises:
        ValueError: alpha is not positive and finite.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> node, e = ELU(), jnp.array([-1.0, 2.0])
        >>> print(np.round([node.activation(e), node.variance(e)], 3))
        [[-0.632  2.   ]
         [ 0.233  0.   ]]

    Source: Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by
    exponential linear units", 2016, for the activation; [A] section 3.
    """

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """elu(e, alpha), shape and dtype of e."""
        e = self.natural_parameter(e)
        return jax.nn.elu(e, _as_written(self.alpha, e))

    def _parameters(self) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
        return 1.0, self.alpha, 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class SELU(Exponential):
    """The SELU node: 1.0507 times that of `ELU(1.6733)`; its mean is `jax.nn.selu`.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> print(np.asarray(SELU().activation(jnp.array([-1.0, 2.0]))).round(3))
        [-1.111  2.101]

    Source: Klambauer et al., "Self-normalizing neural networks", 2017, for the activation; [A]
    section 3.
    """

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """selu(e), shape and dtype of e."""
        return jax.nn.selu(self.natural_parameter(e))

    def _parameters(self) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
        return _SELU_SCALE, _SELU_ALPHA, 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class CELU(_WithAlpha):
    """The CELU node: X = e above 0; below, 0 with probability exp(e / alpha), else -alpha.

    Its mean is `jax.nn.celu`.

    Args:
        alpha: a number above 0, or an array that broadcasts against e from the right.

    Raises:
        ValueError: alpha is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> print(CELU(0.5).activation(jnp.array([-1.0, 2.0])).round(3))
        [-0.432  2.   ]

    Source: Barron, "Continuously differentiable exponential linear units", 2017, for the
    activation; [A] section 3.
    """

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """celu(e, alpha), shape and dtype of e."""
        e = self.natural_parameter(e)
        return jax.nn.celu(e, _as_written(self.alpha, e))

    def _parameters(self) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
        return 1.0, self.alpha, 1 / jnp.asarray(self.alpha)


def _as_written(parameter: ArrayLike, e: Nodes) -> ArrayLike:
    """Python's numbers as they are, as in the call that a user would have written."""
    return parameter if isinstance(parameter, int | float) else like(parameter, e)
