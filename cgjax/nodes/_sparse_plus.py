"""The sparse plus: a rectified uniform variable."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax._gaussian.curve import curve_moments
from cgjax._gaussian.numerics import nonnegative, wide
from cgjax.kernels.random_bits import open_uniform
from cgjax.nodes._family import Belief, Family
from cgjax.nodes._values import or_nan, possible_or_minus_infinity


def _bump(e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """E[X] - max(e, 0), which is (1 - |e|)^2 / 4 near 0."""
    return (1 - jnp.minimum(jnp.abs(e), 1)) ** 2 / 4


def _noise(e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """Var[X], t^3 (8 - 3 t) / 48 with t = e + 1 from 0 to 2."""
    t = jnp.clip(e + 1, 0, 2)
    return t**3 * (8 - 3 * t) / 48


@dataclasses.dataclass(frozen=True, eq=False)
class SparsePlus(Family):
    """The sparse plus node: X = max(0, Y), Y uniform between e - 1 and e + 1.

    Its mean is `jax.nn.sparse_plus`, (e + 1)^2 / 4 between -1 and 1.

    Example:
        >>> import jax.numpy as jnp
        >>> node, e = SparsePlus(), jnp.array([-2.0, 0.0, 2.0])
        >>> print(node.activation(e), node.variance(e).round(3))
        [0.   0.25 2.  ] [0.    0.104 0.333]

    Source: [A] section 3, with a uniform variable behind the rectifier in place of a Gaussian one.
    """

    reparameterised: ClassVar[bool] = True
    kinds: ClassVar[frozenset[str]] = frozenset({"node"})

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """sparse_plus(e), shape and dtype of e."""
        return jax.nn.sparse_plus(self.natural_parameter(e))

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """max(e, 0) + (1 - |e|)^2 / 4 near 0, at least float32."""
        e = wide(self.natural_parameter(e))
        return jnp.maximum(e, 0) + _bump(e)

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """t^3 (8 - 3 t) / 48 with t = e + 1 from 0 to 2, at least float32."""
        return _noise(wide(self.natural_parameter(e)))

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """max(0, e + 2 u - 1), u the word's uniform number; differentiable."""
        e = self.natural_parameter(e)
        precise = wide(e)
        y = precise + (2 * open_uniform(words, precise.dtype) - 1)
        sample = lax.select(y <= 0, jnp.zeros_like(y), y)
        return lax.convert_element_type(or_nan(precise == precise, sample), e.dtype)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """log((1 - e) / 2), from 0 to 1, for x = 0; log(1/2) for x > 0 within 1 of e; else -inf.

        With respect to Lebesgue measure plus a point mass at 0.
        """
        e = wide(self.natural_parameter(e))
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        below = (1 - jnp.clip(e, -1, 1)) / 2
        atom = jnp.log(jnp.where(below == 0, 1, below))
        # A sample that was rounded to a narrower dtype, or computed again, may lie beyond the ends.
        slack = 1e-4 * jnp.maximum(jnp.abs(e), 1)
        inside = (x > 0) & (jnp.abs(x - e) <= 1 + slack)
        possible = jnp.where(x == 0, below > 0, inside)
        return possible_or_minus_infinity(x, possible, jnp.where(x == 0, atom, jnp.log(0.5)))

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """max(e, 0), the value of X at the middle of Y's range."""
        return jnp.maximum(self.natural_parameter(e), 0)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs of X and of the activation when e ~ N(mean, variance), by quadrature over e.

        Within 5e-5 of the deviation and of the variance of e, apart from rounding.
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        kinks = tuple(jnp.full_like(mean, at) for at in (-1.0, 1.0))
        curve = lambda e: jnp.maximum(e, 0) + _bump(e)  # noqa: E731
        centre, spread = curve_moments(curve, mean, variance, kinks)
        noise, _ = curve_moments(_noise, mean, variance, kinks)
        return Belief(centre, spread + nonnegative(noise)), Belief(centre, spread)

    def bounds(self) -> tuple[ArrayLike, ArrayLike]:
        """0 and inf."""
        return 0.0, jnp.inf
