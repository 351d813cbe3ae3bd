"""Linear chains: a component whose nodes touch each other ([A] section 3)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, Num, UInt32

from cgjax._gaussian.numerics import wide
from cgjax._gaussian.softmax import complement_of
from cgjax.kernels import chains
from cgjax.kernels.chains import Chain
from cgjax.nodes import _chain_checks as checks
from cgjax.nodes._family import Belief
from cgjax.nodes._one_hot import digits
from cgjax.nodes._values import or_nan, possible_or_minus_infinity


@dataclasses.dataclass(frozen=True, eq=False)
class LinearChain(checks.ChainParameters):
    """A chain of T variables with K states each, whose neighbours touch: a linear-chain CRF.

        P(z) = exp(sum_t e[t, z_t] + sum_t transitions[z_t, z_{t+1}] + start[z_1] + end[z_T]) / Z

    The last two axes of e are positions and states, and the whole chain is one node: PCFF samples
        or
    collapses it as a whole. Its statistic is the one-hot array (..., T, K) of its path, its
    activation the marginals P(z_t = k), exactly. -inf in e or in a parameter forbids a state or a
    step.

    A masked position is skipped, and its neighbours become adjacent, whatever the mask looks like:
    the step between them is the one that leads to the later one. There the statistic, marginals,
    samples and gradients are 0, and `log_prob` does not read it. A chain without positions has the
    log-partition 0.

    Everything is computed in at least float32, in time and memory O(T) by recursions on
    probabilities, or on logarithms where those would underflow (`cgjax.kernels.chains`).

    Args:
        transitions: `transitions[i, j]` is the potential of the step from state i to state j, of
            shape (K, K); or (..., T - 1, K, K), one matrix for each step, and (..., 1, K, K), one
            for each chain of a batch.
        start: potentials of the first state, (..., K); by default 0.
        end: potentials of the last state, (..., K); by default 0.
        lengths: how many of the first positions take part, integers (...); by default all.
        mask: which positions take part, booleans (..., T), in place of `lengths`.

    Raises:
        ValueError: the shapes do not fit together or to e; a length is below 0 or above T; a
            potential is NaN or inf; both lengths and mask are given; known potentials leave a chain
            without a possible path. Where those are traced, its log-partition is -inf, its
            marginals are 0, and its samples NaN.
        TypeError: lengths are no integers, or the mask no booleans.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> chain = LinearChain(jnp.array([[0.0, -jnp.inf], [0.0, 0.0]]))
        >>> e = jnp.zeros((3, 2))
        >>> print(chain.activation(e))
        [[0.25 0.75]
         [0.5  0.5 ]
         [0.75 0.25]]
        >>> print(chain.log_partition(e).round(4), chain.mode(e)[0])
        1.3863 [1. 0.]

    Source: [A] section 3, "non-bipartite CRF"; Lafferty, McCallum and Pereira, "Conditional random
    fields", 2001.
    """

    touching: ClassVar[str | None] = "neighbours in a chain"
    extra_axes: ClassVar[Mapping[str, int]] = {
        "transitions": 1,
        "start": -1,
        "end": -1,
        "lengths": -2,
        "mask": -1,
    }

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if a parameter does not fit a natural parameter of this shape."""
        self.mask_shape(shape)
        checks.check_shapes(self, tuple(shape))

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`shape` with size 1 for positions and for states: a chain is one node."""
        if len(shape) < 2 or not shape[-1]:
            raise ValueError(
                "LinearChain needs a natural parameter of shape (..., positions, states), with at "
                f"least one state, got shape {tuple(shape)}"
            )
        return (*shape[:-2], 1, 1)

    def natural_parameter(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """`e` as an array; where all potentials are known, each chain must have a possible path.

        Raises:
            TypeError: e is not real floating point.
            ValueError: as `check`; or nothing is possible.
        """
        e = super().natural_parameter(e)
        checks.check_possible(self, e)
        return e

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """The marginals P(z_t = k), shape and dtype of e."""
        return lax.convert_element_type(self.mean(e), jnp.asarray(e).dtype)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """The marginals, at least float32."""
        chain = self._chain(e)
        return chains.expectations(chain)[1].reshape(jnp.shape(e))

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """p (1 - p) of each marginal p: the variance of an indicator, at least float32."""
        marginals = self.mean(e)
        return marginals * complement_of(marginals, -1)

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """The one-hot path that forward filtering, backward sampling draws; no gradient.

        It reads the first word of each position. NaN where e is, and where no path is possible.
        """
        e = self.natural_parameter(e)
        chain = self._chain(e)
        drawn = chains.sample(words[..., 0].reshape(chain.unary.shape[:2]), chain)
        return self._one_hot(drawn.paths, drawn.possible, e)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "..."]:
        """The score of a one-hot path less log Z; -inf if a position of x is not one-hot.

        Returns:
            One number per chain: shape `mask_shape(e.shape)`.
        """
        chain = self._chain(e)
        x = lax.convert_element_type(jnp.asarray(x), chain.unary.dtype)
        x = x.reshape(chain.unary.shape)
        if chain.mask is not None:
            x = jnp.where(chain.mask[:, :, None], x, 0)
        chosen = x == 1
        one_hot = jnp.all(chosen | (x == 0), 2) & (jnp.sum(chosen, 2) == 1)
        if chain.mask is not None:
            one_hot |= ~chain.mask
        score = chains.score(chain, chosen.astype(x.dtype))
        value = score - chains.log_partition(chain)
        possible = jnp.all(one_hot, 1) & ~(score == -jnp.inf)
        found = possible_or_minus_infinity(jnp.sum(x, (1, 2)), possible, value)
        return found.reshape(self.mask_shape(jnp.shape(e)))

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs of the path and of the marginals when e ~ N(mean, variance), to first order.

        Both have the marginals at the mean. The variance of the statistic is that of an indicator,
        p (1 - p). That of a marginal is its first-order propagation, of which the parts that come
        from the e of the same position and of its neighbours are counted:

            Var[p_t] = sum_s Cov(z_t, z_s)^2 variance_s,   s = t - 1, t, t + 1
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        marginals = self.mean(mean)
        statistic = Belief(marginals, marginals * complement_of(marginals, -1))
        chain = self._chain(mean)
        shape = chain.unary.shape
        v = jnp.broadcast_to(variance, mean.shape).reshape(shape)
        wobble = chains.neighbour_variance(chain, v).reshape(mean.shape)
        return statistic, Belief(marginals, wobble)

    def num_states(self, shape: tuple[int, ...]) -> int:
        """K^T, the number of paths. Those that differ at masked positions only are equal."""
        return shape[-1] ** shape[-2]

    def in_states(self, numbers: Int[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The one-hot paths of these numbers, read as numbers of T digits in base K."""
        length, k = shape[-2:]
        one_hot = jax.nn.one_hot(digits(numbers[..., 0, 0], length, k), k, dtype=float)
        mask = self._mask(shape)
        return one_hot if mask is None else jnp.where(mask[..., None], one_hot, 0)

    def log_partition(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """log Z of each chain, (...,); its gradients are `mean` and, summed, `pair_marginals`.

        Args:
            e: natural parameter, (..., T, K).

        Example:
            >>> import jax.numpy as jnp
            >>> chain = LinearChain(jnp.zeros((3, 3)))
            >>> print(jnp.exp(chain.log_partition(jnp.zeros((4, 3)))).round(2))
            81.0
        """
        return chains.log_partition(self._chain(e)).reshape(jnp.shape(e)[:-2])

    def pair_marginals(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """P(z_t = i, z_{t+1} = j), shape (..., T - 1, K, K), at least float32.

        Entry t belongs to the step into position t + 1, from the last position before it that takes
        part; it is 0 where there is no such step.

        Args:
            e: natural parameter, (..., T, K).

        Example:
            >>> import jax.numpy as jnp
            >>> print(LinearChain(jnp.zeros((2, 2))).pair_marginals(jnp.zeros((2, 2))))
            [[[0.25 0.25]
              [0.25 0.25]]]
        """
        chain = self._chain(e)
        *batch, length, k = jnp.shape(e)
        steps = max(length - 1, 0)
        b = chain.transitions.shape[0]
        each = jnp.broadcast_to(chain.transitions, (b, steps, k, k)) if steps else None
        if each is None:
            return jnp.zeros((*batch, 0, k, k), chain.unary.dtype)
        pairs = chains.expectations(chain._replace(transitions=each))[2]
        return pairs.reshape(*batch, steps, k, k)

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """-E[log P(path)] of each chain in nats, (...,), without differences of large numbers.

        Args:
            e: natural parameter, (..., T, K).

        Example:
            >>> import jax.numpy as jnp
            >>> print(LinearChain(jnp.zeros((2, 2))).entropy(jnp.zeros((3, 2))).round(4))  # 3 log 2
            2.0794

        Source: Hernando, Crespi and Cybenko, "Efficient computation of the hidden Markov model
            entropy
        for a given observation sequence", 2005.
        """
        return chains.entropy(self._chain(e)).reshape(jnp.shape(e)[:-2])

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """The most probable path, one-hot, shape and dtype of e (Viterbi); no gradient.

        NaN where e is, and where no path is possible.
        """
        e = self.natural_parameter(e)
        found = chains.best(jax.tree.map(lax.stop_gradient, self._chain(e)))
        return self._one_hot(found.paths[0], jnp.isfinite(found.scores[0]), e)

    def top(
        self, e: Num[ArrayLike, "*nodes"], k: int
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """The k most probable paths and their log-probabilities, the most probable first.

        Args:
            e: natural parameter, (..., T, K).
            k: how many paths, from 1 to K^T.

        Returns:
            The one-hot paths (k, ..., T, K), in e's dtype and without gradient, and their
            log-probabilities (k, ...). Where a chain has fewer possible paths, the others have
            -inf, and 0 in place of a path. NaN where e is, and for a chain without a possible path.

        Raises:
            ValueError: k is below 1, or above the number of paths.

        Example:
            >>> import jax.numpy as jnp
            >>> chain, e = LinearChain(jnp.zeros((2, 2))), jnp.array([[0.0, 1.0], [0.0, 3.0]])
            >>> paths, log_probs = chain.top(e, 2)
            >>> print(paths.argmax(-1), jnp.exp(log_probs))
            [[1 1]
             [0 1]] [0.696... 0.256...]
        """
        e = self.natural_parameter(e)
        checks.check_count(k, e.shape)
        chain = self._chain(e)
        found = chains.best(jax.tree.map(lax.stop_gradient, chain), k)
        log_z = chains.log_partition(chain)[None]
        known = jnp.isfinite(log_z)
        # Through the score of the path, whose derivatives are the potentials that it takes.
        one_hot = jax.nn.one_hot(found.paths, e.shape[-1], dtype=chain.unary.dtype)
        scores = jax.vmap(chains.score, (None, 0))(chain, one_hot)
        possible = found.scores != -jnp.inf
        log_probs = jnp.where(possible, scores - jnp.where(known, log_z, 0), -jnp.inf)
        log_probs = or_nan(known, log_probs)
        one_hot = jnp.where(possible[:, :, None, None], one_hot, 0)
        paths = or_nan(known[:, :, None, None], one_hot).astype(e.dtype)
        return paths.reshape(k, *e.shape), log_probs.reshape(k, *e.shape[:-2])

    def _one_hot(self, paths: Array, possible: Array, e: Array) -> Array:
        one_hot = jax.nn.one_hot(paths, e.shape[-1], dtype=e.dtype)
        return or_nan(possible[:, None, None], one_hot).reshape(e.shape)

    def _mask(self, shape: tuple[int, ...]) -> Array | None:
        """Which positions take part, of the batch and positions of e's shape."""
        if self.mask is not None:
            mask = jnp.asarray(self.mask)
        elif self.lengths is not None:
            lengths = jnp.asarray(self.lengths)[..., None]
            mask = jnp.arange(shape[-2]).reshape((1,) * (lengths.ndim - 1) + (-1,)) < lengths
        else:
            return None
        return jnp.broadcast_to(mask, shape[:-1])

    def _chain(self, e: Num[ArrayLike, "*nodes"]) -> Chain:
        """The potentials as the recursions take them, with one axis for all chains."""
        e = wide(self.natural_parameter(e))
        *batch, length, k = e.shape
        size = math.prod(batch)

        def flat(parameter: ArrayLike, own: int) -> Array:
            array = jnp.asarray(parameter, e.dtype)
            lead, shape = array.shape[: array.ndim - own], array.shape[array.ndim - own :]
            if all(n == 1 for n in lead):
                return array.reshape(1, *shape)
            return jnp.broadcast_to(array, (*batch, *shape)).reshape(size, *shape)

        unary, mask = e.reshape(size, length, k), self._mask(e.shape)
        if mask is not None:
            mask = mask.reshape(size, length)
            unary = jnp.where(mask[:, :, None], unary, 0)
        transitions = jnp.asarray(self.transitions)
        transitions = flat(transitions[None] if transitions.ndim == 2 else transitions, 3)
        ends = (None if x is None else flat(x, 1) for x in (self.start, self.end))
        return chains.with_ends(Chain(unary, transitions, mask), *ends)
