"""Rectified Gaussian nodes: what they share, and the general one ([A] Eq. 10-11)."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax._gaussian.numerics import like, wide
from cgjax._gaussian.rectified import rectified_moments, rectified_moments_of_belief
from cgjax._gaussian.rectified_given import rectified_moments_given
from cgjax._gaussian.tails import log_density, log_distribution
from cgjax.kernels.random_bits import standard_normal
from cgjax.nodes._family import SMALLEST_SCALE, Belief, Family
from cgjax.nodes._values import possible_or_minus_infinity, require_parameter

# A standard deviation: one number, one per feature, or a function of the natural parameter.
Scale = ArrayLike | Callable[[Float[Array, "..."]], Float[Array, "..."]]


class Rectified(Family):
    """X = max(leak Y, Y), Y ~ N(e, scale^2): what all rectified families share.

    The activation is the exact mean unless a family overrides it.
    """

    reparameterised: ClassVar[bool] = True
    kinds: ClassVar[frozenset[str]] = frozenset({"node"})

    @abc.abstractmethod
    def _scale_and_leak(self) -> tuple[Scale, ArrayLike]:
        """The standard deviation of Y (of either sign: only its square matters), and the leak."""

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[X] given e, shape and dtype of e."""
        e = self.natural_parameter(e)
        return lax.convert_element_type(self.mean(e), e.dtype)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[X] given e, at least float32: M+ - leak M-, with z = e / scale and

        M+ = e Phi(z) + scale phi(z), M- = scale phi(z) - e Phi(-z).
        """
        return self._moments_given(wide(self.natural_parameter(e)))[0]

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """Var[X] given e, at least float32:

        scale^2 (Phi(z) + leak^2 Phi(-z)) - (1 - leak)^2 M+ M-, with the names of `mean`.
        """
        return self._moments_given(wide(self.natural_parameter(e)))[1]

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """max(leak y, y), y = e + scale n, n the word's standard normal number; differentiable."""
        e = self.natural_parameter(e)
        precise = wide(e)
        y = precise + self._scale(precise) * standard_normal(words, precise.dtype)
        _, leak = self._scale_and_leak()
        # Comparisons that send a NaN to `y`, and derivatives at 0 as those of jax.nn's functions.
        if isinstance(leak, int | float) and leak == 0:
            sample = lax.select(y <= 0, jnp.zeros_like(y), y)
        else:
            leak = like(leak, y)
            # A leak that only turns out to be 0 at run time gives 0, not -0.
            sample = lax.select(y < 0, lax.select(leak > 0, leak * y, jnp.zeros_like(y)), y)
        return lax.convert_element_type(sample, e.dtype)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """Log-density of x given e, with a standard deviation of at least 1e-6.

        Without leak the density is with respect to Lebesgue measure plus a point mass at 0:
        log N(x; e, scale^2) for x > 0, log P(X = 0) = log Phi(-e / scale) at x = 0 and -inf
        below. With a leak there is no atom: for x < 0 it is log N(x / leak; e, scale^2) - log leak.
        """
        e = wide(self.natural_parameter(e))
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        scale = jnp.maximum(jnp.abs(self._scale(e)), SMALLEST_SCALE)
        leak = like(self._scale_and_leak()[1], e)
        leaks = leak > 0
        slope = jnp.where(leaks & (x < 0), leak, 1)
        density = log_density(x / slope, e, scale) - jnp.log(slope)
        atom = log_distribution(-e / scale)
        value = jnp.where(~leaks & (x == 0), atom, density)
        return possible_or_minus_infinity(x, leaks | ~(x < 0), value)

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """max(leak e, e), the value of X at the mode e of Y.

        X itself has a probability at 0 and a density elsewhere, which cannot be compared, so that
        most probable means: of the Gaussian behind the rectifier.
        """
        e = self.natural_parameter(e)
        leak = like(self._scale_and_leak()[1], e)
        return jnp.where(e > 0, e, leak * e)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs of X and of the activation when e ~ N(mean, variance).

        With a scale that does not depend on e, Y is again Gaussian and the belief of X is exact;
        otherwise it is a quadrature over e, as is the belief of an activation other than relu
        and leaky relu (exact). The quadrature's means are within 2e-5 standard deviations of e
        and its variances within 5e-5 of `variance`, apart from rounding.
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        scale, leak = self._scale_and_leak()
        activation = self._known_belief_of_activation(mean, variance)
        if not callable(scale):
            total = variance + like(scale, mean) ** 2
            statistic = Belief(*rectified_moments_of_belief(mean, total, like(leak, mean)))
            if activation is None:
                activation, _ = self._integrated(mean, variance)
            return statistic, activation
        given_mean, noise = self._integrated(mean, variance)
        statistic = Belief(given_mean.mean, given_mean.variance + noise)
        return statistic, given_mean if activation is None else activation

    def bounds(self) -> tuple[ArrayLike, ArrayLike]:
        """0 without leak, else -inf; and inf."""
        _, leak = self._scale_and_leak()
        return jnp.where(jnp.asarray(leak) == 0, 0.0, -jnp.inf), jnp.inf

    def _known_belief_of_activation(
        self, mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
    ) -> Belief | None:
        """For an activation that is not the exact mean."""
        return None

    def _integrated(
        self, mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
    ) -> tuple[Belief, Float[Array, "*nodes"]]:
        """The belief of E[X given e], and the expectation of Var[X given e], by quadrature."""
        parameters, structure = jax.tree.flatten(self)

        def scale(e: Float[Array, "*nodes"], *parameters: Float[Array, "*nodes"]) -> Array:
            return jnp.abs(jax.tree.unflatten(structure, parameters)._scale(e))

        leak = like(self._scale_and_leak()[1], mean)
        parameters = [like(parameter, mean) for parameter in parameters]
        belief, noise = rectified_moments_given(mean, variance, scale, leak, *parameters)
        return Belief(*belief), noise

    def _moments_given(
        self, e: Float[Array, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        leak = like(self._scale_and_leak()[1], e)
        return rectified_moments(e, jnp.abs(self._scale(e)), leak)

    def _scale(self, e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        scale, _ = self._scale_and_leak()
        return like(scale(e) if callable(scale) else scale, e)


def require_leak(family: Family) -> None:
    require_parameter(
        family,
        "leak",
        lambda leak: (leak >= 0) & (leak <= 1),
        "from 0 to 1 (max(leak Y, Y) is a leaky rectifier only for such slopes)",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class RectifiedGaussian(Rectified):
    """A Gaussian node behind a (leaky) rectifier: X = max(leak Y, Y), Y ~ N(e, scale^2).

    The activation is the exact mean, e Phi(e / scale) + scale phi(e / scale) without leak.
    `ReLU`, `LeakyReLU`, `Softplus` and `NairHinton` are such nodes with a scale that makes the
    mean close to a known activation.

    Args:
        scale: standard deviation of Y: a number, at least 0; an array that broadcasts against e
            from the right; or an element-wise function of e (its sign does not matter). A
            function is a static part of the family.
        leak: slope of the negative part, from 0 to 1; a number or an array as above.

    Raises:
        ValueError: scale is negative or not finite, or leak is not from 0 to 1.

    Example:
        >>> import jax.numpy as jnp
        >>> node = RectifiedGaussian(scale=1.0)
        >>> print(node.activation(jnp.array([0.0])).round(4))
        [0.3989]
        >>> print(node.log_prob(jnp.array([0.0, -1.0]), jnp.array([0.0, 0.0])).round(4))
        [-0.6931    -inf]
        >>> print(RectifiedGaussian(scale=jnp.exp, leak=0.5).mean(jnp.array([-99.0])))
        [-49.5]

    Source: [A] Eq. 10-11.
    """

    scale: Scale
    leak: ArrayLike = 0.0

    def __post_init__(self) -> None:
        if not callable(self.scale):
            require_parameter(
                self,
                "scale",
                lambda scale: (scale >= 0) & (scale < math.inf),
                "at least 0 and finite",
            )
        require_leak(self)

    def _scale_and_leak(self) -> tuple[Scale, ArrayLike]:
        return self.scale, self.leak
