"""Gaussian nodes: the identity activation ([A] section 3)."""

import abc
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
from cgjax.nodes._information import gaussian_entropy, gaussian_kl
from cgjax.nodes._values import require_parameter


class AnyGaussian(Family):
    """X ~ N(mean, scale^2), whichever way e determines the two."""

    reparameterised: ClassVar[bool] = True

    @abc.abstractmethod
    def _mean_and_scale(
        self, e: Float[Array, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        """The mean, and the standard deviation."""

    def _mean_and_positive_scale(
        self, e: Float[Array, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        """The mean, and the standard deviation that densities have, at least 1e-6."""
        mean, scale = self._mean_and_scale(e)
        return mean, jnp.maximum(scale, SMALLEST_SCALE)

    def from_words_with_log_prob(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        """The sample, and its log-density by the standard normal number that it is made of.

        (x - mean) / scale loses the digits that the mean has before the point; this does not.
        """
        e = self.natural_parameter(e)
        _, scale = self._mean_and_scale(wide(e))
        positive = jnp.maximum(scale, SMALLEST_SCALE)
        number = standard_normal(words, scale.dtype) * (scale / positive)
        density = log_density(number, jnp.zeros_like(number), jnp.ones_like(number))
        return self.from_words(words, e), density - jnp.log(positive)

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """log(scale) + log(2 pi e) / 2, with a scale of at least 1e-6, as in `log_prob`."""
        return gaussian_entropy(self._mean_and_positive_scale(wide(self.natural_parameter(e)))[1])

    def has_kl(self, other: Family) -> bool:
        """Whether the other one is a Gaussian, too."""
        return isinstance(other, AnyGaussian)

    def kl(
        self, e: Num[ArrayLike, "*nodes"], other: Family, other_e: Num[ArrayLike, "..."]
    ) -> Float[Array, "*nodes"]:
        """KL(P || Q) of two Gaussians, with scales of at least 1e-6, as in `log_prob`:

        log(s_Q / s_P) + (s_P^2 + (m_P - m_Q)^2) / (2 s_Q^2) - 1/2.

        Example:
            >>> import jax.numpy as jnp
            >>> print(Gaussian(1.0).kl(jnp.array(0.0), Gaussian(1.3), jnp.array(1.0)).round(4))
            0.3541
        """
        e, other_e = self._both_parameters(e, other, other_e)
        assert isinstance(other, AnyGaussian)
        mean, scale = self._mean_and_positive_scale(e)
        return gaussian_kl(mean, scale, *other._mean_and_positive_scale(other_e))


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussian(AnyGaussian):
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
        mean, scale = self._mean_and_positive_scale(wide(self.natural_parameter(e)))
        return log_density(lax.convert_element_type(jnp.asarray(x), mean.dtype), mean, scale)

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

    def _mean_and_scale(
        self, e: Float[Array, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        return e, like(self.scale, e)
