"""What every node family is: an immutable record of numeric parameters, with the pure functions
that say how one random variable behaves given its natural parameter ([A] Eq. 7-9).
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, Num, PRNGKeyArray, UInt32

from cgjax._gaussian.belief import Belief
from cgjax._gaussian.numerics import like, wide
from cgjax.kernels.random_bits import random_words
from cgjax.nodes._record import Record
from cgjax.nodes._values import or_nan

# `log_prob` of a continuous family never uses a standard deviation below this. The density of a
# (nearly) deterministic node has no bound; at 1e-6 it, and its gradients, are finite in float32
# for every |x - e| up to 1e8.
SMALLEST_SCALE = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Family(Record, abc.ABC):
    """The distribution of a random variable X given its natural parameter e; T(X) is its statistic.

    Every method works element by element on an array of nodes, except along the class axis of a
    `Categorical`. Shapes: `e` is any array of a floating-point dtype, features last; numeric
    parameters broadcast against `e` from the right and never enlarge it. `activation`, `sample`
    and `from_words` return the shape and dtype of `e`. `mean`, `variance`, `log_prob` and
    `moments` are computed and returned in at least float32.

    A family is a pytree: its numeric parameters are leaves (so they may be traced, mapped and
    differentiated), everything else (axes, functions) is static. Two families are equal if they
    have one class, equal static parts and equal numbers. A new family is a frozen dataclass with
    `eq=False` that derives from this class; a field that holds no number is declared with
    `dataclasses.field(metadata={"static": True})`, and functions are static by themselves.

    Attributes:
        discrete: X takes finitely many values, listed by `states`; no gradient flows through a
            sample.
        reparameterised: a sample is a differentiable function of `e` and the parameters.
        kinds: the marks that an array of such nodes may carry, by the names of their functions:
            "node", "noise" (an auxiliary variable, which training samples) and "observe".
        touching: which elements of one node depend on each other given its parents, in a few words;
            None: they are one variable each, or independent.
        moving: of a family that is not discrete, although a node takes few values given e: these
            values, in words. They move with e, so that they cannot be listed.
        extra_axes: for parameters that do not broadcast against e from the right, how many axes
            more than e (or, negative, fewer) that of a single node has.
    """

    discrete: ClassVar[bool] = False
    reparameterised: ClassVar[bool] = False
    kinds: ClassVar[frozenset[str]] = frozenset({"node", "noise"})
    touching: ClassVar[str | None] = None
    moving: ClassVar[str | None] = None
    extra_axes: ClassVar[Mapping[str, int]] = {}

    @abc.abstractmethod
    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """The value the network uses for E[T(X)] given e, in closed form ([A] Eq. 9)."""

    @abc.abstractmethod
    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[T(X)] given e, exactly."""

    @abc.abstractmethod
    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """Var[T(X)] given e, exactly and never negative."""

    @abc.abstractmethod
    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """A sample of T(X) as a pure function of one uniform 32-bit word per element of e."""

    @abc.abstractmethod
    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "..."]:
        """Log-probability (density) of the statistic x given e, one number per node.

        The result has the shape `mask_shape(e.shape)`. Impossible values of a discrete family
        get -inf, with a gradient of exactly zero.
        """

    def pseudo_log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "..."]:
        """`log_prob`; where its sum is out of reach, the log-pseudo-likelihood (Besag 1975)."""
        return self.log_prob(x, e)

    def conditioned(
        self, e: Num[ArrayLike, "*nodes"], x: Num[Array, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """The natural parameter of a node some elements of which are known: x, elsewhere NaN.

        Raises:
            TypeError: the elements of the family's nodes do not touch.
        """
        raise TypeError(
            f"The elements of {type(self).__name__} nodes do not depend on each other, so that a "
            "part of them tells nothing of the rest: mark these apart, and clamp them."
        )

    @abc.abstractmethod
    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs when e is itself Gaussian, e ~ N(mean, variance), independent per element.

        Args:
            mean: any floating-point array.
            variance: at least 0; shape of the mean, or one number.

        Returns:
            The belief of the statistic T(X) (law of total variance, so with the node's own noise)
            and the belief of the activation (the variance of the activation's value alone).
        """

    def sample(self, key: PRNGKeyArray, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """A sample of T(X) given e.

        Args:
            key: one JAX random key.
            e: natural parameter, any floating-point array.

        Returns:
            `from_words(random_words(key, e.shape)[1], e)`: shape and dtype of e.
        """
        e = self.natural_parameter(e)
        return self.from_words(random_words(key, e.shape)[1], e)

    def from_words_with_log_prob(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "..."]]:
        """`from_words`, and the `log_prob` of what it drew, of shape `mask_shape(e.shape)`."""
        sample = self.from_words(words, e)
        return sample, self.log_prob(sample, e)

    def derivative(
        self, e: Float[Array, "*nodes"], value: Float[Array, "*nodes"]
    ) -> Float[Array, "*nodes"] | None:
        """The derivative by e of a node's value, where it is a function of e and of the value.

        One formula serves a value that is the activation and one that is a sample. It spares
        PCFF the backward pass through its random numbers. None where there is no such formula:
        then PCFF differentiates `activation` and `from_words` themselves.

        Args:
            e: natural parameter.
            value: the activation or a sample at e, of e's shape.
        """
        return None

    def states(self, size: int = 1) -> Float[Array, "..."]:
        """All values of the statistic of one node of a discrete family, one row per state.

        Args:
            size: 1 for an element-wise family, the number of classes for a `Categorical`.

        Returns:
            Shape (number of states, size); where the states differ between elements because a
            parameter is an array, (number of states, *shape of the parameter).

        Raises:
            TypeError: the family is not discrete.
        """
        moving = self.moving and f"values that move with e ({self.moving})"
        why = (
            "has too many states" if self.discrete else f"takes {moving or 'a continuum of values'}"
        )
        raise TypeError(
            f"{type(self).__name__} {why}, so they cannot be listed; those of Binary, Bernoulli, "
            "Spin, Categorical, BernoulliMask and SoftClamp can. Exact inference needs nodes with "
            "few states; use sampling or moments here."
        )

    @classmethod
    def in_words(cls) -> str:
        """The name of a family that is not discrete, with what its values are."""
        if cls.moving is None:
            return f"the continuous family {cls.__name__}"
        return f"the family {cls.__name__}, whose values move with e ({cls.moving}),"

    def num_states(self, shape: tuple[int, ...]) -> int:
        """How many values a node's statistic has, for e of this shape (see `in_states`)."""
        return len(self.states())

    def in_states(self, numbers: Int[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The statistic of nodes in the states of given numbers, of shape `mask_shape(shape)`.

        For families whose nodes have too many states to list: they number them, from 0 to
        `num_states(shape) - 1`, and have these two methods in place of `states`.

        Raises:
            TypeError: the family lists its states.
        """
        raise TypeError(f"{type(self).__name__} does not number its states; `states` lists them.")

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """The most probable value of T(X) given e; of states that are equally probable the first.

        Returns:
            Shape and dtype of e; NaN where no log-probability is a number. No gradient flows
            through that of a discrete family.

        Raises:
            TypeError: the family is continuous and does not say where its density is largest.
        """
        if not self.discrete:
            raise TypeError(
                f"{type(self).__name__} does not say which of its values is the most probable one. "
                "Give the family a method `mode(e)`, or keep the node out: `clamp` it to a value."
            )
        e = lax.stop_gradient(self.natural_parameter(e))
        states = self.states()
        lead = (1,) * (e.ndim + 1 - states.ndim)
        states = states.reshape(-1, *lead, *states.shape[1:]) if e.ndim else states.reshape(-1)
        values = jnp.broadcast_to(states, (len(states), *e.shape)).astype(e.dtype)
        log_probs = jnp.stack([self.log_prob(value, e) for value in values])
        best = jnp.take_along_axis(values, jnp.argmax(log_probs, 0)[None], 0)[0]
        return or_nan(~jnp.any(jnp.isnan(log_probs), 0), lax.stop_gradient(best))

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """-E[log P(X)] given e in nats, one number per node; of a density, the differential one.

        Returns:
            Shape `mask_shape(e.shape)`, at least float32; of a `LinearChain`, (...).

        Raises:
            TypeError: the family has no closed form of it.
        """
        raise TypeError(
            f"{type(self).__name__} has no closed form of its entropy. Estimate it by samples: the "
            "mean of -family.log_prob(x, e) over x = family.sample(key, e)."
        )

    def has_kl(self, other: "Family") -> bool:
        """Whether `kl` has a closed form for nodes of this family and of another."""
        return False

    def kl(
        self, e: Num[ArrayLike, "*nodes"], other: "Family", other_e: Num[ArrayLike, "..."]
    ) -> Float[Array, "..."]:
        """KL(P || Q) = E_P[log P(X) - log Q(X)] in nats, P of this family at e, one per node.

        It is inf, with a gradient of zero, where Q excludes what P allows.

        Args:
            e: natural parameter of P.
            other: the family of Q, of equal values of X.
            other_e: natural parameter of Q, of e's shape.

        Returns:
            Shape `mask_shape(e.shape)`, at least float32.

        Raises:
            TypeError: there is no closed form of it; `has_kl` asks beforehand.
            ValueError: e and other_e differ in shape.
        """
        raise no_closed_kl(self, other)

    def bounds(self) -> tuple[ArrayLike, ArrayLike]:
        """The smallest and the largest value of the statistic, which bound its mean too."""
        return -jnp.inf, jnp.inf

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one decision per node (sample it or collapse it), for e of this shape."""
        return tuple(shape)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise if the family does not fit a natural parameter of this shape.

        Raises:
            ValueError: a parameter does not broadcast against e, or would enlarge it.
        """
        shape = tuple(shape)
        for name, value in self._numeric_parameters():
            got = np.shape(value)
            if len(got) > len(shape) or any(
                size not in (1, along) for size, along in zip(got[::-1], shape[::-1], strict=False)
            ):
                raise ValueError(
                    f"{type(self).__name__}.{name} has shape {got}, which does not broadcast to "
                    f"the shape {shape} of the natural parameter; give one number, or an array "
                    "whose axes match the last axes of the natural parameter (or have size 1)."
                )

    def natural_parameter(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """`e` as an array, after checking its dtype and that the family fits its shape.

        Raises:
            TypeError: e is not real floating point.
            ValueError: as `check`.
        """
        e = jnp.asarray(e)
        if not jnp.issubdtype(e.dtype, jnp.floating):
            raise TypeError(
                f"{type(self).__name__} needs a real floating-point natural parameter, got dtype "
                f"{e.dtype} and shape {e.shape}; convert it, for example e.astype(jnp.float32)."
            )
        self.check(e.shape)
        return e

    def _gaussian_parameter(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        """Mean and variance of a Gaussian e, of one shape and of one dtype of at least float32."""
        mean = self.natural_parameter(mean)
        variance = jnp.asarray(variance)
        if variance.shape not in ((), mean.shape):
            raise ValueError(
                f"{type(self).__name__}.moments got a mean of shape {mean.shape} and a variance of "
                f"shape {variance.shape}; the variance must have the shape of the mean, or be one "
                "number."
            )
        mean = wide(mean)
        return mean, like(variance, mean)

    def _both_parameters(
        self, e: Num[ArrayLike, "*nodes"], other: "Family", other_e: Num[ArrayLike, "..."]
    ) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
        """The natural parameters of P and of Q in `kl`, checked, of one dtype."""
        if not self.has_kl(other):
            raise no_closed_kl(self, other)
        e, other_e = self.natural_parameter(e), other.natural_parameter(other_e)
        if e.shape != other_e.shape:
            raise ValueError(
                f"kl compares nodes of one shape, got natural parameters of shape {e.shape} and "
                f"{other_e.shape}."
            )
        dtype = jnp.promote_types(jnp.promote_types(e.dtype, other_e.dtype), jnp.float32)
        return e.astype(dtype), other_e.astype(dtype)


def no_closed_kl(family: Family, other: Family) -> TypeError:
    """The error for a divergence without a closed form."""
    return TypeError(
        f"There is no closed form of KL({type(family).__name__} || {type(other).__name__}). There "
        "is for two Gaussians (a GaussianMask is one), two Categoricals along one axis, Binary, "
        "Bernoulli and Spin nodes with equal states, and BernoulliMask and SoftClamp nodes with "
        "equal states. Estimate others by samples: the mean of family.log_prob(x, e) - "
        "other.log_prob(x, other_e) over x = family.sample(key, e)."
    )
