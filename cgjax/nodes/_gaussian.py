"""Gaussian nodes: the identity activation ([A] section 3)."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax._gaussian.numerics import like, wide
from cgjax._gaussian.tails import log_density
from cgjax.kernels.random_bits import standard_normal
from cgjax.nodes._family import SMALLEST_SCALE, Belief, Family
from cgjax.nodes._values import require_parameter


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussian(Family):
    """A linear Gaussian node: X ~ N(e, scale^2), with the identity as activation.

    `log_prob` treats a scale below `SMALLEST_SCALE` (1e-6) as that scale.

    Args:
        scale: standard deviation, at least 0; a number, or an array that broadcasts against e
            from the right.

    Raises:
        ValueError: scale is negative or not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> node = Gaussian(2.0)
        >>> print(node.activation(jnp.array([1.5])), node.variance(jnp.array([1.5])))
        [1.5] [4.]
        >>> statistic, activation = node.moments(jnp.array([1.5]), jnp.array([0.5]))
        >>> print(statistic.variance, activation.variance)
        [4.5] [0.5]

    Source: [A] section 3, "Activation function".
    """

    reparameterised: ClassVar[bool] = True

    scale: ArrayLike

    def __post_init__(self) -> None:
        require_parameter(
            self, "scale", lambda scale: (scale >= 0) & (scale < math.inf), "at least 0 and finite"
        )

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e itself."""
        return self.natural_parameter(e)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e, at least float32."""
        return wide(self.natural_parameter(e))

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """scale^2, at least float32, shape of e."""
        return like(self.scale, wide(self.natural_parameter(e))) ** 2

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """e + scale n, with n the word's standard normal number; differentiable."""
        e = self.natural_parameter(e)
        precise = wide(e)
        sample = precise + like(self.scale, precise) * standard_normal(words, precise.dtype)
        return lax.convert_element_type(sample, e.dtype)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log N(x; e, max(scale, 1e-6)^2)."""
        e = wide(self.natural_parameter(e))
        scale = jnp.maximum(like(self.scale, e), SMALLEST_SCALE)
        return log_density(lax.convert_element_type(jnp.asarray(x), e.dtype), e, scale)

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e itself."""
        return self.natural_parameter(e)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """N(mean, variance + scale^2) and N(mean, variance), exactly."""
        mean, variance = self._gaussian_parameter(mean, variance)
        noisy = variance + like(self.scale, mean) ** 2
        return Belief(mean, noisy), Belief(mean, variance)
