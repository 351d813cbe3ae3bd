"""Linear chains: a component whose nodes touch each other ([A] section 3)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Num, UInt32

from cgjax.kernels import chains
from cgjax.kernels.chains import Chain
from cgjax.nodes import _chain_checks as checks


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

    def _check_shapes(self, shape: tuple[int, ...]) -> None:
        checks.check_shapes(self, shape)

    def _check_possible(self, e: Array) -> None:
        checks.check_possible(self, e)

    def _potentials(self, e: Num[ArrayLike, "*nodes"]) -> "_Paths":
        return _Paths(self._chain(e))

    def in_states(self, numbers: Int[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The one-hot paths of these numbers, read as numbers of T digits in base K.

        Those that differ at masked positions only are equal.
        """
        one_hot, mask = super().in_states(numbers, shape), self._mask(shape)
        return one_hot if mask is None else jnp.where(mask[..., None], one_hot, 0)

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
        unary, e = self._wide(e), jnp.asarray(e)
        mask = self._mask(e.shape)
        if mask is not None:
            mask = mask.reshape(unary.shape[:2])
            unary = jnp.where(mask[:, :, None], unary, 0)

        def flat(parameter: ArrayLike, own: int) -> Array:
            return self._of_batch(jnp.asarray(parameter, unary.dtype), own, e)

        transitions = jnp.asarray(self.transitions)
        transitions = flat(transitions[None] if transitions.ndim == 2 else transitions, 3)
        ends = (None if x is None else flat(x, 1) for x in (self.start, self.end))
        return chains.with_ends(Chain(unary, transitions, mask), *ends)


class _Paths(NamedTuple):
    """The recursions of `cgjax.kernels.chains`, as `Structured` asks for them."""

    chain: Chain

    @property
    def unary(self) -> Float[Array, "B T K"]:
        return self.chain.unary

    def log_partition(self) -> Float[Array, " B"]:
        return chains.log_partition(self.chain)

    def marginals(self) -> Float[Array, "B T K"]:
        return chains.expectations(self.chain)[1]

    def entropy(self) -> Float[Array, " B"]:
        return chains.entropy(self.chain)

    def read(self, x: Float[Array, "B T K"]) -> Float[Array, "B T K"]:
        return x if self.chain.mask is None else jnp.where(self.chain.mask[:, :, None], x, 0)

    def score(
        self, x: Float[Array, "B T K"]
    ) -> tuple[Bool[Array, " B"], Bool[Array, " B"], Float[Array, " B"]]:
        found = chains.labels(x)
        one_hot = found.one_hot
        if self.chain.mask is not None:
            one_hot |= ~self.chain.mask
        scores = chains.score(self.chain, x, found.states)
        return jnp.any(found.unknown, 1), jnp.all(one_hot, 1), scores

    def drawn(
        self, words: UInt32[Array, "B T K"]
    ) -> tuple[Float[Array, "B T K"], Bool[Array, " B"]]:
        found = chains.sample(words[..., 0], self.chain)
        return self._one_hot(found.paths), found.possible

    def best(self) -> tuple[Float[Array, "B T K"], Bool[Array, " B"]]:
        paths, scores = chains.best(jax.tree.map(lax.stop_gradient, self.chain))
        return self._one_hot(paths[0]), jnp.isfinite(scores[0])

    def listed(self, k: int) -> tuple[Float[Array, "k B T K"], Bool[Array, "k B"]]:
        found = chains.best(jax.tree.map(lax.stop_gradient, self.chain), k)
        return self._one_hot(found.paths), found.scores != -jnp.inf

    def neighbour_variance(self, variance: Float[Array, "B T K"]) -> Float[Array, "B T K"]:
        return chains.neighbour_variance(self.chain, variance)

    def _one_hot(self, paths: Int[Array, "*k B T"]) -> Float[Array, "*k B T K"]:
        return jax.nn.one_hot(paths, self.unary.shape[2], dtype=self.unary.dtype)
