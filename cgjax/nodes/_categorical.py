"""Categorical nodes: one class out of several, softmax activation ([A] section 3)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax._gaussian.numerics import wide
from cgjax._gaussian.softmax import complement_of, one_hot_argmax, softmax_moments
from cgjax.kernels.random_bits import open_uniform
from cgjax.nodes._family import Belief, Family
from cgjax.nodes._information import logits_entropy, logits_kl
from cgjax.nodes._values import or_nan, possible_or_minus_infinity, with_slope

# In `moments` a lower logit, such as the -inf of a class that is masked out, counts as this one.
_LOWEST_LOGIT = -1e9


@dataclasses.dataclass(frozen=True, eq=False)
class Categorical(Family):
    """One node per slice of e along `axis`; its statistic is the one-hot vector of its class.

    P(class k) = softmax(e)_k, and the activation is `jax.nn.softmax(e, axis)`.

    Args:
        axis: the class axis, counted from the end: a negative integer (batch axes may be added
            in front of e).

    Raises:
        ValueError: axis is not negative, or e has no such axis or an empty one.
        TypeError: axis is not an integer.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> node = Categorical()
        >>> print(node.activation(jnp.zeros((2, 4))))
        [[0.25 0.25 0.25 0.25]
         [0.25 0.25 0.25 0.25]]
        >>> print(node.sample(jax.random.key(0), jnp.array([0.0, 99.0, 0.0])))
        [0. 1. 0.]
        >>> print(node.log_prob(jnp.array([0.0, 1.0]), jnp.array([0.0, 0.0])).round(4))
        [-0.6931]

    Source: [A] section 3, "multi-labeled nodes ... with label indicators as features".
    """

    discrete: ClassVar[bool] = True
    kinds: ClassVar[frozenset[str]] = frozenset({"node"})

    axis: int = dataclasses.field(default=-1, metadata={"static": True})

    def __post_init__(self) -> None:
        if not isinstance(self.axis, int) or isinstance(self.axis, bool):
            raise TypeError(f"Categorical.axis must be a negative integer, got {self.axis!r}")
        if self.axis >= 0:
            raise ValueError(
                f"Categorical.axis must be negative (counted from the end), got {self.axis}: batch "
                "axes may be added in front, so for an array with n axes write axis - n"
            )

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if an array of this shape has no class axis, or an empty one."""
        if len(shape) < -self.axis or shape[self.axis] == 0:
            raise ValueError(
                f"Categorical(axis={self.axis}) needs a natural parameter with at least "
                f"{-self.axis} axes and at least one class along that axis, got shape "
                f"{tuple(shape)}"
            )

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`shape` with size 1 along the class axis: a slice is one node."""
        self.check(shape)
        kept = list(shape)
        kept[self.axis] = 1
        return tuple(kept)

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """softmax(e) along the class axis, shape and dtype of e."""
        return jax.nn.softmax(self.natural_parameter(e), axis=self.axis)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """softmax(e), at least float32."""
        return jax.nn.softmax(wide(self.natural_parameter(e)), axis=self.axis)

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """p (1 - p) of each class, p = softmax(e)."""
        probability = self.mean(e)
        return probability * complement_of(probability, self.axis)

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """The one-hot argmax of e + g, g standard Gumbel numbers; no gradient.

        NaN for all classes where softmax(e) is NaN.
        """
        e = lax.stop_gradient(self.natural_parameter(e))
        precise = wide(e)
        gumbel = -jnp.log(-jnp.log(open_uniform(words, precise.dtype)))
        winner = jnp.argmax(precise + gumbel, axis=self.axis)
        one_hot = jax.nn.one_hot(winner, e.shape[self.axis], dtype=e.dtype, axis=self.axis)
        return or_nan(jnp.isfinite(jnp.max(e, axis=self.axis, keepdims=True)), one_hot)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "..."]:
        """log softmax(e) at the class of a one-hot x; -inf if a slice of x is not one-hot.

        A class whose logit is -inf is impossible, too: it gets -inf, with a gradient of zero. The
        derivative by x is log softmax(e), in which the value is linear.

        Returns:
            One number per node: shape `mask_shape(e.shape)`.
        """
        e = wide(self.natural_parameter(e))
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        chosen = x == 1
        one_hot = jnp.all(chosen | (x == 0), axis=self.axis, keepdims=True)
        one_hot &= jnp.sum(chosen, axis=self.axis, keepdims=True) == 1
        log_probability = jax.nn.log_softmax(e, axis=self.axis)
        value = with_slope(jnp.where(chosen, log_probability, 0), x, log_probability)
        value = jnp.sum(value, axis=self.axis, keepdims=True)
        any_nan = jnp.sum(x, axis=self.axis, keepdims=True)
        return possible_or_minus_infinity(any_nan, one_hot & (value != -jnp.inf), value)

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """-sum_k p_k log p_k, p = softmax(e); shape `mask_shape(e.shape)`."""
        return logits_entropy(wide(self.natural_parameter(e)), self.axis)

    def has_kl(self, other: Family) -> bool:
        """Whether the other one is a Categorical along the same axis."""
        return isinstance(other, Categorical) and self.axis == other.axis

    def kl(
        self, e: Num[ArrayLike, "*nodes"], other: Family, other_e: Num[ArrayLike, "..."]
    ) -> Float[Array, "..."]:
        """sum_k p_k log(p_k / q_k), p = softmax(e), q = softmax(other_e), one number per node.

        Example:
            >>> import jax.numpy as jnp
            >>> fair, loaded = jnp.zeros(6), jnp.zeros(6).at[5].set(1.0)
            >>> print(Categorical().kl(fair, Categorical(), loaded).round(4))
            [0.0852]
        """
        e, other_e = self._both_parameters(e, other, other_e)
        return logits_kl(e, other_e, self.axis)

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """The one-hot vector of the class with the largest logit, the first of equal ones."""
        e = lax.stop_gradient(self.natural_parameter(e))
        one_hot = one_hot_argmax(e, self.axis).astype(e.dtype)
        return or_nan(jnp.isfinite(jnp.max(e, axis=self.axis, keepdims=True)), one_hot)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs of the one-hot statistic and of softmax(e) when e ~ N(mean, variance).

        Given P = E[softmax(e)], an indicator is Bernoulli(P): its variance is P (1 - P).
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        mean = jnp.maximum(mean, _LOWEST_LOGIT)
        expectation, complement, wobble = softmax_moments(mean, variance, self.axis)
        return Belief(expectation, expectation * complement), Belief(expectation, wobble)

    def bounds(self) -> tuple[ArrayLike, ArrayLike]:
        """0 and 1, of each indicator."""
        return 0.0, 1.0

    def states(self, size: int = 1) -> Float[Array, "size size"]:
        """The one-hot rows: the identity matrix of `size` classes."""
        return jnp.eye(size, dtype=float)
