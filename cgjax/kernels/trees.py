"""Trees of discrete variables: partition function, marginals, samples and best states.

    b_i(k) = e_i(k) + sum over children c of log sum_j exp(A_c(k, j) + b_c(j))       from the leaves
    P(z_i = j given z_parent = l) = exp(A_i(l, j) + b_i(j)) / sum over j             from the roots

A step of a loop is a level of the tree, or a part of one (`cgjax.kernels._tree_order`).
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt32

from cgjax._static import Tree
from cgjax.kernels import _structures as structures
from cgjax.kernels._structures import Reduce, Scored, log_sum
from cgjax.kernels._tree_lists import best_states
from cgjax.kernels._tree_order import Order, order_of
from cgjax.kernels._tree_order import levels as levels
from cgjax.kernels.random_bits import open_uniform

# log Z (B,), marginals (B, N, K), and pairs (B, N, K, K), or their sums (B, 1, K, K).
Expectations = tuple[Array, Array, Array]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["unary", "transitions"],
    meta_fields=["parents"],
)
@dataclass(frozen=True)
class Trees:
    """Independent forests of one shape, with K states at each of N nodes.

        score(z) = sum_i unary[i, z_i] + sum over i with a parent p of transitions[i, z_p, z_i]

    Time and memory are O(B N K^2) in all methods. Derivatives of the log-partition are
    `expectations`, which may be differentiated again.

    Attributes:
        parents: of each node, -1 for roots; in any order, without cycles.
        unary: (B, N, K), at least float32; -inf forbids a state.
        transitions: (B or 1, N or 1, K, K), from the parent's state (row) to the node's, or one
            matrix for all; -inf forbids a pair. Those of roots are not read.

    Example:
        >>> import jax.numpy as jnp
        >>> trees = Trees((-1, 0, 0), jnp.zeros((1, 3, 2)), jnp.zeros((1, 1, 2, 2)))
        >>> print(jnp.exp(trees.log_partition()).round(3), trees.marginals()[0, 0])
        [8.] [0.5 0.5]

    Source: Pearl, "Probabilistic reasoning in intelligent systems", 1988, chapter 4.
    """

    parents: tuple[int, ...]
    unary: Float[Array, "B N K"]
    transitions: Float[Array, "b E K K"]

    def log_partition(self) -> Float[Array, " B"]:
        """log Z, (B,); -inf where nothing is possible."""
        return _log_partition(self.parents, self.unary, self.transitions)

    def expectations(self) -> Expectations:
        """log Z, marginals (B, N, K), and pairs (B, N, K, K), or their sums (B, 1, K, K)."""
        return _expectations(self.parents, self.unary, self.transitions)

    def marginals(self) -> Float[Array, "B N K"]:
        """P(z_i = k); 0 where nothing is possible."""
        return self.expectations()[1]

    def pairs(self) -> Float[Array, "B N K K"]:
        """P(z_parent = l, z_i = j) of each node i, 0 for roots."""
        n, k = self.unary.shape[1:]
        each = jnp.broadcast_to(self.transitions, (self.transitions.shape[0], n, k, k))
        return _expectations(self.parents, self.unary, each)[2]

    def entropy(self) -> Float[Array, " B"]:
        """-E[log P(z)] in nats, (B,): of each node given its parent, so that nothing cancels."""
        p, pairs = self.marginals(), self.pairs()
        pairs = jnp.where(self._roots()[:, None, None], p[:, :, None] / p.shape[2], pairs)
        return structures.total(structures.entropies(pairs, self._before(p, 1 / p.shape[2])))

    def read(self, x: Float[Array, "B N K"]) -> Float[Array, "B N K"]:
        """What is read of a value: everything."""
        return x

    def score(self, x: Float[Array, "B N K"]) -> Scored:
        """Whether all rows of x are one-hot, and its score: -inf where it takes what is forbidden,
        with a derivative of 0."""
        unknown = jnp.any(jnp.isnan(x), (1, 2))
        one_hot = jnp.all((x == 0) | (x == 1), (1, 2)) & jnp.all(jnp.sum(x == 1, 2) == 1, 1)
        x = structures.ones_of(x)
        taken = self._before(x, 0)[..., None] * x[:, :, None]
        nodes, wrong = structures.summed(self.unary, x)
        pairs, wrong_pairs = structures.summed(
            jnp.broadcast_to(self.transitions, taken.shape), taken
        )
        never = jnp.any(wrong, (1, 2)) | jnp.any(wrong_pairs, (1, 2, 3))
        by_node = jnp.sum(nodes, 2) + jnp.sum(pairs, (2, 3))
        score = jnp.where(never, -jnp.inf, structures.total(by_node))
        return Scored(unknown, one_hot, score)

    def drawn(
        self, words: UInt32[Array, "B N K"]
    ) -> tuple[Float[Array, "B N K"], Bool[Array, " B"]]:
        """One-hot states, from the roots down, and whether any were possible; no derivative.

        It reads the first word of each node.
        """
        return self._states(log_sum, open_uniform(words[..., 0], self.unary.dtype))

    def best(self) -> tuple[Float[Array, "B N K"], Bool[Array, " B"]]:
        """The most probable one-hot states, and whether any are possible; no derivative."""
        return self._states(structures.largest, None)

    def listed(self, k: int) -> tuple[Float[Array, "k B N K"], Bool[Array, "k B"]]:
        """The k most probable one-hot states, best first, and whether there are so many; no
        derivative."""
        potentials = map(lax.stop_gradient, (self.unary, self.transitions))
        states, there = best_states(self.parents, *potentials, k)
        return self._one_hot(states), there

    def neighbour_variance(self, variance: Float[Array, "B N K"]) -> Float[Array, "B N K"]:
        """sum over s, l of Cov(z_i = k, z_s = l)^2 variance[s, l]; s: i, its parent, children.

        That is how uncertain unary potentials move the marginals, to first order.
        """
        p = self.marginals()
        before = self._before(p, 0)
        covariance = self.pairs() - before[..., None] * p[:, :, None]
        squares = jnp.where(self._roots()[:, None, None], 0, covariance**2)
        from_parent = jnp.einsum("bnij,bni->bnj", squares, self._before(variance, 0))
        from_child = jnp.einsum("bnij,bnj->bni", squares, variance)
        found = structures.own_variance(p, variance, (2,)) + from_parent
        above = np.where(np.array(self.parents) < 0, len(self.parents), self.parents)
        return found.at[:, above].add(from_child, mode="drop")

    def _roots(self) -> np.ndarray:
        return np.array(self.parents) < 0

    def _before(self, x: Array, of_roots: float | int) -> Array:
        """The rows of parents; of roots a number."""
        rows = x[:, np.maximum(self.parents, 0)]
        return jnp.where(self._roots()[:, None], of_roots, rows)

    def _states(self, reduce: Reduce, uniform: Array | None) -> tuple[Array, Array]:
        potentials = map(lax.stop_gradient, (self.unary, self.transitions))
        states, possible = _chosen(self.parents, reduce, *potentials, uniform)
        return self._one_hot(states), possible

    def _one_hot(self, states: Int[Array, "*shape"]) -> Float[Array, "*shape K"]:
        return jax.nn.one_hot(states, self.unary.shape[2], dtype=self.unary.dtype)


def _in_steps(order: Order, x: Float[Array, "B N ..."]) -> Float[Array, "S W B ..."]:
    """What nodes have, by the step they are in; 0 where there is none."""
    x = jnp.moveaxis(x, 1, 0)
    return jnp.pad(x, [(0, 1)] + [(0, 0)] * (x.ndim - 1))[order.nodes]


def _by_node(order: Order, x: Array) -> Array:
    """(S, W, B, ...) as (B, N, ...)."""
    steps, width = x.shape[:2]
    return jnp.moveaxis(x.reshape(steps * width, *x.shape[2:])[order.steps], 0, 1)


def _matrices(order: Order, transitions: Array) -> tuple[Array | None, Array | None]:
    """The matrix of all nodes, (1, B or 1, K, K), or those of each step."""
    if transitions.shape[1] == 1:
        return jnp.moveaxis(transitions, 1, 0), None
    return None, _in_steps(order, transitions)


def _of_step(shared: Array | None, each: Array | None) -> Array:
    found = shared if each is None else each
    assert found is not None  # one of both is there
    return found


def _up(
    order: Order, unary: Array, transitions: Array, reduce: Reduce
) -> tuple[Float[Array, " B"], Float[Array, "S W B K"]]:
    """log Z, or the score of the best states, and b of each node, less its maximum."""
    shared, each = _matrices(order, transitions)

    @jax.checkpoint
    def reduced(below: Array, matrices: Array) -> tuple[Array, Array]:
        return reduce(matrices + below[:, :, None], 3), reduce(below, 2)

    def step(sums: Array, inputs: Tree) -> tuple[Array, tuple[Array, Array]]:
        unary, nodes, own, above, each = inputs
        below = unary + sums.at[own].get(mode="fill", fill_value=0)
        largest = structures.most(below, (2,))
        below = below - largest
        messages, alone = reduced(below, _of_step(shared, each))
        sums = sums.at[own].set(0, mode="drop").at[above].add(messages, mode="drop")
        root, there = (above == order.places)[:, None], (nodes < order.steps.size)[:, None]
        constant = largest[:, :, 0] + jnp.where(root, alone, 0)
        return sums, (below, jnp.where(there, constant, 0))

    b, _, k = unary.shape
    start = jnp.zeros((order.places, b, k), unary.dtype)
    inputs = _in_steps(order, unary), order.nodes, order.own, order.above, each
    _, (below, constants) = lax.scan(step, start, inputs)
    value = structures.total(constants.reshape(order.nodes.size, b).T)
    return jnp.where(value == -jnp.inf, -jnp.inf, value), below


# Compiled once for all calls that are not compiled with what is around them; in a program, these
# are the operations they consist of.
@partial(jax.jit, static_argnums=0, inline=True)
def _value(parents: tuple[int, ...], unary: Array, transitions: Array) -> Array:
    return _up(order_of(parents), unary, transitions, log_sum)[0]


@partial(jax.jit, static_argnums=(0, 1), inline=True)
def _chosen(
    parents: tuple[int, ...],
    reduce: Reduce,
    unary: Array,
    transitions: Array,
    uniform: Array | None,
) -> tuple[Array, Array]:
    """The states of each node, (B, N), and whether any are possible."""
    order = order_of(parents)
    value, below = _up(order, unary, transitions, reduce)
    shared, each = _matrices(order, transitions)

    def step(states: Array, inputs: Tree) -> tuple[Array, Array]:
        below, own, above, uniform, each = inputs
        before = states.at[above].get(mode="fill", fill_value=0)
        shape = (*below.shape, below.shape[2])
        matrices = jnp.broadcast_to(_of_step(shared, each), shape)
        root = (above == order.places)[:, None, None]
        logits = jnp.where(root, 0, structures.row_of(matrices, before)) + below
        found = structures.chosen(logits, uniform)
        return states.at[own].set(found, mode="drop"), found

    start = jnp.zeros((order.places, unary.shape[0]), jnp.int32)
    draws = None if uniform is None else _in_steps(order, uniform)
    inputs = below, order.own, order.above, draws, each
    _, states = lax.scan(step, start, inputs, reverse=True)
    return _by_node(order, states), jnp.isfinite(value)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_partition(parents: tuple[int, ...], unary: Array, transitions: Array) -> Array:
    return _value(parents, unary, transitions)


@_log_partition.defjvp
def _log_partition_jvp(
    parents: tuple[int, ...], primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    value, marginals, pairs = _expectations(parents, *primals)
    by_unary = jnp.sum(marginals * tangents[0], (1, 2))
    return value, by_unary + jnp.sum(pairs * tangents[1], (1, 2, 3))


@partial(jax.jit, static_argnums=0, inline=True)
def _expectations(parents: tuple[int, ...], unary: Array, transitions: Array) -> Expectations:
    order = order_of(parents)
    value, below = _up(order, unary, transitions, log_sum)
    shared, each = _matrices(order, transitions)
    b, _, k = unary.shape

    @jax.checkpoint
    def table(below: Array, matrices: Array, root: Array) -> Array:
        return structures.shares(jnp.where(root, 0, matrices) + below[:, :, None], 3)

    def step(carry: tuple[Array, Array | None], inputs: Tree) -> tuple[Tree, Tree]:
        known, sums = carry
        below, own, above, each = inputs
        before = known.at[above].get(mode="fill", fill_value=1 / k)
        root = (above == order.places)[:, None, None, None]
        pairs = before[..., None] * table(below, _of_step(shared, each), root)
        here = structures.normalised(jnp.sum(pairs, 2), (2,))
        known, pairs = known.at[own].set(here, mode="drop"), jnp.where(root, 0, pairs)
        if sums is None:
            return (known, None), (here, pairs)
        return (known, sums + jnp.sum(pairs, 0)), (here, None)

    known = jnp.zeros((order.places, b, k), unary.dtype)
    sums = None if shared is None else jnp.zeros((b, k, k), unary.dtype)
    inputs = below, order.own, order.above, each
    (_, sums), (marginals, pairs) = lax.scan(step, (known, sums), inputs, reverse=True)
    marginals = _by_node(order, marginals)
    found = _by_node(order, pairs) if sums is None else sums[:, None]
    possible = (value != -jnp.inf)[:, None, None]
    return value, jnp.where(possible, marginals, 0), jnp.where(possible[..., None], found, 0)
