"""What families share whose elements touch in such a way that inference is exact."""

import abc
import dataclasses
import math
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Num, UInt32

from cgjax._gaussian.belief import Belief
from cgjax._gaussian.numerics import wide
from cgjax._gaussian.softmax import complement_of
from cgjax._static import described
from cgjax.nodes._one_hot import OneHotPositions, digits, value_of
from cgjax.nodes._values import or_nan


@runtime_checkable
class Potentials(Protocol):
    """What a node's recursions offer: the potentials of B nodes, with one axis for all of them.

    A value is an array of the shape of `unary`, and so are marginals.
    """

    @property
    def unary(self) -> Float[Array, "B ..."]:
        """The natural parameter, at least float32."""
        ...

    def log_partition(self) -> Float[Array, " B"]:
        """log Z."""
        ...

    def marginals(self) -> Float[Array, "B ..."]:
        """The expected statistic."""
        ...

    def entropy(self) -> Float[Array, " B"]:
        """In nats."""
        ...

    def read(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        """A value, 0 where nothing takes part."""
        ...

    def score(
        self, x: Float[Array, "B ..."]
    ) -> tuple[Bool[Array, " B"], Bool[Array, " B"], Float[Array, " B"]]:
        """Whether what is read holds a NaN, whether it is a value at all, and its score, -inf for
        what is forbidden: with the derivative by x of a sum of products of its entries."""
        ...

    def drawn(
        self, words: UInt32[Array, "B ..."]
    ) -> tuple[Float[Array, "B ..."], Bool[Array, " B"]]:
        """A sample, and whether anything is possible."""
        ...

    def best(self) -> tuple[Float[Array, "B ..."], Bool[Array, " B"]]:
        """The most probable value, and whether anything is possible."""
        ...

    def listed(self, k: int) -> tuple[Float[Array, "k B ..."], Bool[Array, "k B"]]:
        """The k most probable values, best first, and whether there are so many."""
        ...

    def neighbour_variance(self, variance: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        """What the variances of the potentials nearby, to first order, add to each marginal."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Structured(OneHotPositions):
    """A component of positions that touch, as one node, of which everything is known exactly.

    A family says what its potentials are and whether they fit; all methods follow from these.

    Attributes:
        axes: those of one node, the last ones of e, by what they count.
    """

    axes: ClassVar[tuple[str, ...]] = ("positions", "states")

    @abc.abstractmethod
    def _potentials(self, e: Num[ArrayLike, "*nodes"]) -> Potentials:
        """The recursions' potentials; e is checked as `natural_parameter` does."""

    @abc.abstractmethod
    def _check_shapes(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if a parameter does not fit a natural parameter of this shape."""

    @abc.abstractmethod
    def _check_possible(self, e: Array) -> None:
        """Raise ValueError if all is known and nothing is possible."""

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if a parameter does not fit a natural parameter of this shape."""
        self.mask_shape(shape)
        self._check_shapes(tuple(shape))

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`shape` with size 1 for the axes of a node: the whole component is one."""
        count = len(self.axes)
        if len(shape) < count or not shape[-1]:
            raise ValueError(
                f"{type(self).__name__} needs a natural parameter of shape (..., "
                f"{', '.join(self.axes)}), with at least one state, got shape {tuple(shape)}"
            )
        return (*shape[:-count], *(1,) * count)

    def natural_parameter(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """`e` as an array; where all potentials are known, something must be possible.

        Raises:
            TypeError: e is not real floating point.
            ValueError: as `check`; or nothing is possible.
        """
        e = super().natural_parameter(e)
        self._check_possible(e)
        return e

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """The marginals, shape and dtype of e."""
        return lax.convert_element_type(self.mean(e), jnp.asarray(e).dtype)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """The marginals, at least float32."""
        return self._potentials(e).marginals().reshape(jnp.shape(e))

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """p (1 - p) of each marginal p: the variance of an indicator, at least float32."""
        return self._variance(self.mean(e))

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """A sample of the whole component, exactly; no gradient.

        It reads the first word of each position. NaN where e is, and where nothing is possible.
        """
        e = jnp.asarray(e)
        potentials = self._potentials(e)
        return _known(*potentials.drawn(words.reshape(potentials.unary.shape)), e)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "..."]:
        """The score of x less log Z; -inf if x is no value of the statistic, or forbidden.

        The derivative by x is that of the score, in the entries of which it is linear.

        Args:
            x: of the shape of e; leading axes may be missing, or of size 1.
            e: natural parameter.

        Returns:
            One number per component: shape `mask_shape(e.shape)`.

        Raises:
            ValueError: x has another shape.
        """
        potentials = self._potentials(e)
        shape = potentials.unary.shape
        x = value_of(self, x, jnp.shape(e), len(self.axes))
        x = lax.convert_element_type(x, potentials.unary.dtype)
        unknown, whole, score = potentials.score(potentials.read(x.reshape(shape)))
        value = score - potentials.log_partition()
        possible = whole & ~(score == -jnp.inf)
        found = or_nan(~unknown, jnp.where(possible, value, -jnp.inf))
        return found.reshape(self.mask_shape(jnp.shape(e)))

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs of the statistic and of the marginals when e ~ N(mean, variance), to first order.

        Both have the marginals at the mean. The variance of the statistic is that of an indicator,
        p (1 - p). That of a marginal is its first-order propagation, of which the parts that come
        from the e nearby are counted:

            Var[p_i] = sum_s Cov(z_i, z_s)^2 variance_s

        where s is i itself and what touches it, and in a `SemiMarkov` the segments with the same
        start.
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        potentials = self._potentials(mean)
        marginals = potentials.marginals().reshape(mean.shape)
        v = jnp.broadcast_to(variance, mean.shape).reshape(potentials.unary.shape)
        wobble = potentials.neighbour_variance(v).reshape(mean.shape)
        return Belief(marginals, self._variance(marginals)), Belief(marginals, wobble)

    def log_partition(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """log Z of each component, (...,); its gradient by e is `mean`.

        Args:
            e: natural parameter.

        Example:
            >>> import jax.numpy as jnp
            >>> from cgjax.nodes import LinearChain
            >>> chain = LinearChain(jnp.zeros((3, 3)))
            >>> print(jnp.exp(chain.log_partition(jnp.zeros((4, 3)))).round(2))
            81.0
        """
        return self._potentials(e).log_partition().reshape(self._batch(e))

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """-E[log P] of each component in nats, (...,), without differences of large numbers.

        Args:
            e: natural parameter.

        Example:
            >>> import jax.numpy as jnp
            >>> from cgjax.nodes import LinearChain
            >>> print(LinearChain(jnp.zeros((2, 2))).entropy(jnp.zeros((3, 2))).round(4))  # 3 log 2
            2.0794

        Source: Hernando, Crespi and Cybenko, "Efficient computation of the hidden Markov model
        entropy for a given observation sequence", 2005.
        """
        return self._potentials(e).entropy().reshape(self._batch(e))

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """The most probable value, shape and dtype of e (Viterbi's algorithm); no gradient.

        NaN where e is, and where nothing is possible.
        """
        e = jnp.asarray(e)
        return _known(*self._potentials(e).best(), e)

    def top(
        self, e: Num[ArrayLike, "*nodes"], k: int
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """The k most probable values and their log-probabilities, the most probable first.

        Of equally probable ones the order is the same in each call; the first is `mode`.

        Args:
            e: natural parameter.
            k: how many, from 1 to the number of values.

        Returns:
            The values, k times the shape of e, in e's dtype and without gradient, and their
            log-probabilities (k, ...), at least float32, with the gradient of `log_prob`. Where
            fewer are possible, the others have -inf, and 0 in place of a value. NaN where e is, and
            where nothing is possible.

        Raises:
            TypeError: k is no integer.
            ValueError: k is below 1, or above the number of values.

        Example:
            >>> import jax.numpy as jnp
            >>> from cgjax.nodes import LinearChain
            >>> chain, e = LinearChain(jnp.zeros((2, 2))), jnp.array([[0.0, 1.0], [0.0, 3.0]])
            >>> paths, log_probs = chain.top(e, 2)
            >>> print(paths.argmax(-1), jnp.exp(log_probs))
            [[1 1]
             [0 1]] [0.696... 0.256...]

        Source: Seshadri and Sundberg, "List Viterbi decoding algorithms", 1994.
        """
        e = self.natural_parameter(e)
        self._check_count(k, e.shape)
        potentials = self._potentials(e)
        values, there = potentials.listed(k)
        log_z = potentials.log_partition()[None]
        known = jnp.isfinite(log_z)
        # Through the scores of the values, whose derivatives are the potentials that they take.
        scores = jax.vmap(lambda x: potentials.score(x)[2])(values)
        log_probs = jnp.where(there, scores - jnp.where(known, log_z, 0), -jnp.inf)
        # The recursions round in another order than the sums do.
        order = jnp.argsort(-log_probs, 0, stable=True)
        log_probs = or_nan(known, jnp.take_along_axis(log_probs, order, 0))
        values = jnp.where(_of_values(there, values), values, 0)
        values = jnp.take_along_axis(values, _of_values(order, values), 0)
        values = or_nan(_of_values(known, values), values).astype(e.dtype)
        return values.reshape(k, *e.shape), log_probs.reshape(k, *self._batch(e))

    def _check_count(self, k: int, shape: tuple[int, ...]) -> None:
        """Raise unless k can be a number of values."""
        name = type(self).__name__
        if not isinstance(k, int) or isinstance(k, bool):
            raise TypeError(f"{name}.top takes a number of values, got {described(k)}")
        if k < 1:
            raise ValueError(f"{name}.top takes a number of values, at least 1, got {k}")
        # With k positions there are k values already, unless there is one however many there are.
        first = len(shape) - len(self.axes)
        fewer = (*shape[:first], min(shape[first], k), *shape[first + 1 :])
        count = self.num_states(fewer)
        if k > count:
            raise ValueError(
                f"{name}.top takes 1 to {count} values, as many as a natural parameter of shape "
                f"{shape} has, got {k}"
            )

    def num_states(self, shape: tuple[int, ...]) -> int:
        """K^N, the number of ways to give N positions one of K states."""
        return shape[-1] ** shape[-2]

    def in_states(self, numbers: Int[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The one-hot states of these numbers, read as numbers of N digits in base K."""
        count, k = shape[-2:]
        return jax.nn.one_hot(digits(numbers[..., 0, 0], count, k), k, dtype=float)

    def _log_partition(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        return self.log_partition(e)

    def _variance(self, marginals: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        return marginals * complement_of(marginals, -1)

    def _batch(self, e: Num[ArrayLike, "*nodes"]) -> tuple[int, ...]:
        return np.shape(e)[: -len(self.axes)]

    def _wide(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "B ..."]:
        """e, checked, at least float32, with one axis for the batch."""
        e = wide(self.natural_parameter(e))
        batch = self._batch(e)
        return e.reshape(math.prod(batch), *e.shape[len(batch) :])

    def _of_batch(self, parameter: ArrayLike, own: int, e: Array) -> Array:
        """A parameter with `own` axes for each node, as (B or 1, ...), in e's dtype if real."""
        array = jnp.asarray(parameter)
        batch, axes = self._batch(e), array.ndim - own
        lead, shape = array.shape[: max(axes, 0)], array.shape[max(axes, 0) :]
        if all(n == 1 for n in lead):
            return array.reshape(1, *shape)
        return jnp.broadcast_to(array, (*batch, *shape)).reshape(math.prod(batch), *shape)


def _of_values(rows: Array, values: Array) -> Array:
    """What is known of each row, with as many axes as the values."""
    return rows.reshape(*rows.shape, *(1,) * (values.ndim - rows.ndim))


def _known(values: Array, possible: Array, e: Array) -> Array:
    """Values in the shape and dtype of e, NaN where none is possible."""
    known = possible.reshape(-1, *(1,) * (values.ndim - 1))
    return or_nan(known, values).astype(e.dtype).reshape(e.shape)
