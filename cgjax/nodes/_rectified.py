"""Rectified Gaussian nodes: ReLU, leaky ReLU, softplus and their relatives ([A] Eq. 10-11)."""

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
from cgjax._gaussian.quadrature import (
    differentiated_forward,
    moments_of_changes,
    softplus_moments,
)
from cgjax._gaussian.rectified import rectified_moments, rectified_moments_of_belief
from cgjax.kernels.random_bits import standard_normal
from cgjax.nodes._family import (
    SMALLEST_SCALE,
    Belief,
    Family,
    possible_or_minus_infinity,
    require_parameter,
)
from cgjax.nodes._gaussian import log_normal_distribution, normal_log_density

# The standard deviation for which the mean of a rectified Gaussian is uniformly closest to
# softplus ([A] below Eq. 10).
SOFTPLUS_SCALE = 1.776091849725427

# Where a kink at 0 is closer than this, it is treated as this far away.
_SMALLEST_BEND = 1e-4

# A standard deviation: one number, one per feature, or a function of the natural parameter.
Scale = ArrayLike | Callable[[Float[Array, "..."]], Float[Array, "..."]]


class _Rectified(Family):
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
        density = normal_log_density(x / slope, e, scale) - jnp.log(slope)
        atom = log_normal_distribution(-e / scale)
        value = jnp.where(~leaks & (x == 0), atom, density)
        return possible_or_minus_infinity(leaks | ~(x < 0), value)

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

        def integrate(mean, variance, *parameters):
            return jax.tree.unflatten(structure, parameters)._integrate(mean, variance)

        parameters = [like(parameter, mean) for parameter in parameters]
        return differentiated_forward(integrate, mean, variance, *parameters)

    def _integrate(
        self, mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
    ) -> tuple[Belief, Float[Array, "*nodes"]]:
        leak = like(self._scale_and_leak()[1], mean)
        here, noise_here = self._moments_given(mean)
        bump_here = self._bump(mean)

        def changes(displacement: Float[Array, "*nodes"]) -> list[Float[Array, "*nodes"]]:
            # E[X given e] is the leaky relu of e, whose change is known without rounding, plus
            # (1 - leak) times a small bump.
            there = mean + displacement
            up = jnp.where(mean > 0, jnp.maximum(displacement, -mean), jnp.maximum(there, 0))
            linear = up + leak * (displacement - up)
            bump = self._bump(there) - bump_here
            return [linear + (1 - leak) * bump, self._moments_given(there)[1] - noise_here]

        # A kink at 0 is rounded by the scale there; elsewhere it is |mean| away.
        bend = jnp.clip(jnp.abs(mean) + jnp.abs(self._scale(mean)), _SMALLEST_BEND, 1.0)
        bend = lax.stop_gradient(bend)
        (shift, spread), (noise, _) = moments_of_changes(changes, mean, variance, bend)
        return Belief(here + shift, spread), noise_here + noise

    def _bump(self, e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[max(Y, 0)] - max(e, 0), which is E[max(Y, 0)] at -|e|."""
        scale = jnp.abs(self._scale(e))
        return rectified_moments(-jnp.abs(e), scale, jnp.zeros((), e.dtype))[0]

    def _moments_given(
        self, e: Float[Array, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        leak = like(self._scale_and_leak()[1], e)
        return rectified_moments(e, jnp.abs(self._scale(e)), leak)

    def _scale(self, e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        scale, _ = self._scale_and_leak()
        return like(scale(e) if callable(scale) else scale, e)


def _require_leak(family: Family) -> None:
    require_parameter(
        family,
        "leak",
        lambda leak: (leak >= 0) & (leak <= 1),
        "from 0 to 1 (max(leak Y, Y) is a leaky rectifier only for such slopes)",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class RectifiedGaussian(_Rectified):
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
        _require_leak(self)

    def _scale_and_leak(self) -> tuple[Scale, ArrayLike]:
        return self.scale, self.leak


@dataclasses.dataclass(frozen=True, eq=False)
class ReLU(_Rectified):
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
class LeakyReLU(_Rectified):
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
        _require_leak(self)

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
class Softplus(_Rectified):
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
class NairHinton(_Rectified):
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
