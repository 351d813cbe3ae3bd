"""Self-gated nodes: e with a probability that grows with e, else 0. GELU, SiLU, mish."""

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import log_ndtr, ndtr
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax._gaussian.bends import moments_of_changes
from cgjax._gaussian.curve import curve_moments
from cgjax._gaussian.numerics import like, nonnegative, wide
from cgjax._gaussian.quadrature import rectified_change
from cgjax.kernels.random_bits import open_uniform
from cgjax.nodes._family import Belief, Family
from cgjax.nodes._gates import Gate, is_value, ramp
from cgjax.nodes._values import or_nan, possible_or_minus_infinity, require_parameter

Nodes = Float[Array, "*nodes"]

# The gate of the approximate GELU is sigmoid(a e + b e^3).
_LINEAR, _CUBIC = 2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715
# Beyond this the gates of GELU and mish are open or closed to the last digit, and a cube would
# overflow.
_OPEN = 1e4
_FURTHEST = 1e30


class SelfGated(Family):
    """X = e with probability g(e), else 0: activation and mean e g(e), variance e^2 g (1 - g).

    The sign of an input, or its size, decides whether it passes: a soft decision of a rectifier,
    which keeps the number itself. Given the decision, the derivative of a sample is 1 or 0. It is
    not that of the mean alone: what e does to the decision has none.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"node"})
    moving: ClassVar[str | None] = "e and 0"
    # Up to which deviation of e its curves are smooth enough for few points.
    narrow: ClassVar[float] = 2.0

    @abc.abstractmethod
    def _gate(self, e: Nodes) -> Gate:
        """P(X = e) at e of at least float32."""

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e g(e), at least float32; its limit at -inf is 0."""
        e = wide(self.natural_parameter(e))
        return jnp.maximum(e, 0) + self._bump(e)

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e^2 g(e) (1 - g(e)), at least float32."""
        return self._noise(wide(self.natural_parameter(e)))

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """e where the word's uniform number is below g(e), else 0; the derivative is 1 or 0."""
        e = self.natural_parameter(e)
        probability = lax.stop_gradient(self._gate(wide(e)).open)
        is_open = open_uniform(words, probability.dtype) < probability
        return or_nan(e == e, lax.select(is_open, e, jnp.zeros_like(e)))

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log g(e) for x = e, log(1 - g(e)) for x = 0, 0 if both are 0; else -inf.

        x is e if it differs from it by no more than computing e in another program may: a
        ten-thousandth of it, or what a narrow dtype needs.
        """
        given = self.natural_parameter(e)
        e = wide(given)
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        gate = self._gate(e)
        passes = is_value(x, e, given.dtype)
        value = jnp.where(x == 0, gate.log_closed, gate.log_open)
        value = jnp.where((x == 0) & (e == 0), 0, value)
        possible = ((x == 0) | passes) & ~(value == -jnp.inf)
        return possible_or_minus_infinity(x, possible, value)

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """e where it is likelier than 0, else 0."""
        e = self.natural_parameter(e)
        gate = self._gate(wide(e))
        return or_nan(e == e, jnp.where(gate.log_open > gate.log_closed, e, 0))

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """-g log g - (1 - g) log(1 - g), that of the decision."""
        return self._gate(wide(self.natural_parameter(e))).entropy()

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs of X and of the activation when e ~ N(mean, variance), by quadrature over e.

        Means are within 2e-5 standard deviations of e, variances within 1e-4 of `variance`, apart
        from rounding.
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        centre, spread, noise = self._integrated(mean, variance)
        return Belief(centre, spread + noise), Belief(centre, spread)

    def _integrated(self, mean: Nodes, variance: Nodes) -> tuple[Nodes, Nodes, Nodes]:
        """The mean and the variance of E[X given e], and the mean of Var[X given e]."""
        parameters, structure = jax.tree.flatten(self)

        def base(mean: Nodes, *parameters: Nodes) -> list[Nodes]:
            family = jax.tree.unflatten(structure, parameters)
            return [jnp.maximum(mean, 0) + family._bump(mean), family._noise(mean)]

        def changes(mean: Nodes, by: Nodes, *parameters: Nodes) -> list[Nodes]:
            # What the mean is more than max(e, 0) is small, and so are its changes: none is
            # rounded.
            family, there = jax.tree.unflatten(structure, parameters), mean + by
            of_mean = rectified_change(mean, by) + (family._bump(there) - family._bump(mean))
            return [of_mean, family._noise(there) - family._noise(mean)]

        parameters = [like(parameter, mean) for parameter in parameters]
        (centre, spread), (noise, _) = moments_of_changes(
            base, changes, mean, variance, *parameters, narrow=self.narrow
        )
        return centre, spread, nonnegative(noise)

    def _bump(self, e: Nodes) -> Nodes:
        """E[X] - max(e, 0), which is -e (1 - g) above 0 and e g below."""
        gate = self._gate(e)
        return -_times(jnp.abs(e), jnp.where(e > 0, gate.closed, gate.open))

    def _noise(self, e: Nodes) -> Nodes:
        gate = self._gate(e)
        rarer = jnp.minimum(gate.open, gate.closed)
        near = jnp.where(rarer == 0, 0, e)
        return (near * gate.open) * (near * gate.closed)


def _times(e: Nodes, probability: Nodes) -> Nodes:
    """e times a probability, where that of 0 counts more than any e."""
    return jnp.where(probability == 0, 0, e) * probability


@dataclasses.dataclass(frozen=True, eq=False)
class GELU(SelfGated):
    """The GELU node: X = e with probability Phi(e), else 0; its mean is `jax.nn.gelu`.

    A number passes if it is larger than another one, drawn from N(0, 1).

    Args:
        approximate: the form with tanh, as `jax.nn.gelu` has it: P(X = e) is then
            (1 + tanh(sqrt(2/pi) (e + 0.044715 e^3))) / 2.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np
        >>> node, e = GELU(approximate=False), jnp.array([-1.0, 0.0, 2.0])
        >>> print(np.round([node.activation(e), node.variance(e)], 3))
        [[-0.159  0.     1.954]
         [ 0.133  0.     0.089]]
        >>> draws = node.sample(jax.random.key(0), jnp.full(1000, 2.0))
        >>> sorted(set(draws.tolist()))
        [0.0, 2.0]

    Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016, which begins with this
    decision; [A] section 3.
    """

    approximate: bool = dataclasses.field(default=True, metadata={"static": True})

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """gelu(e, approximate), shape and dtype of e."""
        return jax.nn.gelu(self.natural_parameter(e), approximate=self.approximate)

    def _gate(self, e: Nodes) -> Gate:
        e = jnp.clip(e, -_OPEN, _OPEN)
        if self.approximate:
            return Gate.of_log_odds(_LINEAR * e + _CUBIC * e**3)
        below = jnp.where(e > 0, -e, e)
        return Gate.of_rarer(ndtr(below), log_ndtr(below), ~(e > 0))


@dataclasses.dataclass(frozen=True, eq=False)
class SiLU(SelfGated):
    """The SiLU (swish) node: X = e with probability sigmoid(beta e), else 0; mean `jax.nn.silu`.

    Args:
        beta: how sharp the decision is; a number, or an array that broadcasts against e from the
            right. At 1.702 the mean is the approximation of the GELU by a sigmoid.

    Raises:
        ValueError: beta is not positive and finite.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> print(np.asarray(SiLU().activation(jnp.array([-1.0, 0.0, 2.0]))).round(3))
        [-0.269  0.     1.762]

    Source: Hendrycks and Gimpel 2016, section 4; Ramachandran, Zoph and Le, "Searching for
    activation functions", 2017 (with beta); [A] section 3.
    """

    beta: ArrayLike = 1.0

    def __post_init__(self) -> None:
        require_parameter(
            self, "beta", lambda beta: (beta > 0) & (beta < math.inf), "above 0 and finite"
        )

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """silu(e), or e sigmoid(beta e); shape and dtype of e."""
        e = self.natural_parameter(e)
        if isinstance(self.beta, int | float) and self.beta == 1:
            return jax.nn.silu(e)
        return e * jax.nn.sigmoid(like(self.beta, e) * e)

    def _gate(self, e: Nodes) -> Gate:
        return Gate.of_log_odds(like(self.beta, e) * jnp.clip(e, -_FURTHEST, _FURTHEST))


@dataclasses.dataclass(frozen=True, eq=False)
class Mish(SelfGated):
    """The mish node: X = e with probability tanh(softplus(e)), else 0; its mean is `jax.nn.mish`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(Mish().activation(jnp.array([-1.0, 0.0, 2.0])).round(3))
        [-0.303  0.     1.944]

    Source: Misra, "Mish: a self regularized non-monotonic activation function", 2019, for the
    activation; [A] section 3.
    """

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """mish(e), shape and dtype of e."""
        return jax.nn.mish(self.natural_parameter(e))

    def _gate(self, e: Nodes) -> Gate:
        # tanh(log(1 + n)) = m / (m + 2) with n = exp(e) and m = n (n + 2): the odds are m / 2.
        e = jnp.clip(e, -_OPEN, _OPEN)
        return Gate.of_log_odds(e + jnp.logaddexp(e, math.log(2.0)) - math.log(2.0))


@dataclasses.dataclass(frozen=True, eq=False)
class HardSiLU(SelfGated):
    """The hard swish node: X = e with probability hard_sigmoid(e), else 0; mean `jax.nn.hard_silu`.

    The gate is open from 3, closed below -3, and (e + 3) / 6 between.

    Example:
        >>> import jax.numpy as jnp
        >>> print(HardSiLU().activation(jnp.array([-4.0, 0.0, 1.5, 4.0])).round(3))
        [-0.     0.     1.125  4.   ]

    Source: Howard et al., "Searching for MobileNetV3", 2019, for the activation; [A] section 3.
    """

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """hard_silu(e), shape and dtype of e."""
        return jax.nn.hard_silu(self.natural_parameter(e))

    def _gate(self, e: Nodes) -> Gate:
        return ramp(e, -3.0, 3.0)

    def _integrated(self, mean: Nodes, variance: Nodes) -> tuple[Nodes, Nodes, Nodes]:
        kinks = tuple(jnp.full_like(mean, at) for at in (-3.0, 3.0))
        curve = lambda e: jnp.maximum(e, 0) + self._bump(e)  # noqa: E731
        centre, spread = curve_moments(curve, mean, variance, kinks)
        return centre, spread, nonnegative(curve_moments(self._noise, mean, variance, kinks)[0])
