"""Rectified nodes close to known activations: ReLU, leaky ReLU, softplus ([A] Eq. 10-11)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num

from cgjax._gaussian.belief import Belief
from cgjax._gaussian.numerics import like
from cgjax._gaussian.quadrature import softplus_moments
from cgjax._gaussian.rectified import rectified_moments_of_belief
from cgjax.nodes._rectified import Rectified, Scale, require_leak

# The standard deviation for which the mean of a rectified Gaussian is uniformly closest to
# softplus ([A] below Eq. 10).
SOFTPLUS_SCALE = 1.776091849725427


@dataclasses.dataclass(frozen=True, eq=False)
class ReLU(Rectified):
    """The ReLU node: X = max(0, Y), Y ~ N(e, tanh(e)^2), with `jax.nn.relu` as activation.

    The activation is not the exact `mean`: they differ by at most 0.037058, at |e| = 0.7475.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> node = ReLU()
        >>> e = jnp.array([-1.0, 0.0, 1.0])
        >>> print(node.activation(e), node.mean(e).round(3))
        [0. 0. 1.] [0.034 0.    1.034]
        >>> bool((node.sample(jax.random.key(0), e) >= 0).all())
        True

    Source: [A] Eq. 11.
    """

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """relu(e), shape and dtype of e."""
        return jax.nn.relu(self.natural_parameter(e))

    def derivative(
        self, e: Float[Array, "*nodes"], value: Float[Array, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """1 + (1 - t^2)(value - e) / t with t = tanh(e) where value > 0, else 0.

        (value - e) / t is the sample's standard normal number, and 0 for the activation.
        """
        scale = jnp.tanh(e)
        number = (value - e) / jnp.where(scale == 0, 1, scale)
        slope = 1 + (1 - scale) * (1 + scale) * number
        return jnp.where(value > 0, slope, jnp.zeros_like(slope))

    def _scale_and_leak(self) -> tuple[Scale, ArrayLike]:
        return jnp.tanh, 0.0

    def _known_belief_of_activation(
        self, mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
    ) -> Belief | None:
        return Belief(*rectified_moments_of_belief(mean, variance, 0.0))


@dataclasses.dataclass(frozen=True, eq=False)
class LeakyReLU(Rectified):
    """The leaky ReLU node: X = max(leak Y, Y), Y ~ N(e, tanh(e)^2), activation `jax.nn.leaky_relu`.

    The activation is not the exact `mean`: they differ by at most (1 - leak) 0.037058.

    Args:
        leak: slope of the negative part, from 0 to 1; a number, or an array that broadcasts
            against e from the right.

    Raises:
        ValueError: leak is not from 0 to 1.

    Example:
        >>> import jax.numpy as jnp
        >>> node = LeakyReLU(leak=0.5)
        >>> print(node.activation(jnp.array([-2.0, 3.0])))
        [-1.  3.]

    Source: [A] Eq. 11 and the sentence after it.
    """

    leak: ArrayLike = 0.01

    def __post_init__(self) -> None:
        require_leak(self)

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """leaky_relu(e, leak), shape and dtype of e."""
        e = self.natural_parameter(e)
        # Python's numbers are passed as they are: exactly the call a user would have written.
        leak = self.leak if isinstance(self.leak, int | float) else like(self.leak, e)
        return jax.nn.leaky_relu(e, leak)

    def _scale_and_leak(self) -> tuple[Scale, ArrayLike]:
        return jnp.tanh, self.leak

    def _known_belief_of_activation(
        self, mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
    ) -> Belief | None:
        return Belief(*rectified_moments_of_belief(mean, variance, like(self.leak, mean)))


@dataclasses.dataclass(frozen=True, eq=False)
class Softplus(Rectified):
    """The softplus node: X = max(0, Y), Y ~ N(e, 1.776091849725427^2), activation softplus.

    The activation is `jax.nn.softplus`, not the exact `mean`: they differ by at most 0.015411,
    at e = 0 and |e| = 2.812, the smallest gap that a constant standard deviation can reach.

    Example:
        >>> import jax.numpy as jnp
        >>> node = Softplus()
        >>> print((node.mean(jnp.array([0.0])) - node.activation(jnp.array([0.0]))).round(4))
        [0.0154]

    Source: [A] Eq. 10 and the sentence after it.
    """

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """softplus(e), shape and dtype of e."""
        return jax.nn.softplus(self.natural_parameter(e))

    def _scale_and_leak(self) -> tuple[Scale, ArrayLike]:
        return SOFTPLUS_SCALE, 0.0

    def _known_belief_of_activation(
        self, mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
    ) -> Belief | None:
        return Belief(*softplus_moments(mean, variance))


@dataclasses.dataclass(frozen=True, eq=False)
class NairHinton(Rectified):
    """Nair and Hinton's noisy rectifier: X = max(0, Y), Y ~ N(e, sigmoid(e)^2).

    Its activation is its exact mean, a curve between relu (at most 0.199471 above it, at e = 0)
    and softplus.

    Example:
        >>> import jax.numpy as jnp
        >>> print(NairHinton().activation(jnp.array([0.0])).round(4))
        [0.1995]

    Source: [A] section 3, on "Rectified linear units improve restricted Boltzmann machines"
    (Nair and Hinton, 2010), with the sigmoid as the standard deviation.
    """

    def _scale_and_leak(self) -> tuple[Scale, ArrayLike]:
        return jax.nn.sigmoid, 0.0
