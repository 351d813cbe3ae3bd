"""The k best states of trees: Viterbi's algorithm for lists, from the leaves to the roots.

What is kept of a node is not the best score of what lies below it, given its state, but the k best
ones, and how each is made. They are merged child by child:

    message_c(l) = the k best of A_c(l, j) + b_c(j, r)               over states j and ranks r
    b_p(l)       = the k best of b_p(l, r) + message_c(l, s)         over ranks r and s
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cgjax._static import Tree
from cgjax.kernels import _structures as structures
from cgjax.kernels._tree_order import levels


@partial(jax.jit, static_argnums=(0, 3), inline=True)
def best_states(
    parents: tuple[int, ...],
    unary: Float[Array, "B N K"],
    transitions: Float[Array, "b E K K"],
    k: int,
) -> tuple[Int[Array, "k B N"], Bool[Array, "k B"]]:
    """The k best states, best first, and whether there are so many.

    Nodes take one step each, of O(B (K^2 k + K k^2)).

    Args:
        parents: of each node, -1 for roots.
        unary: potentials of states.
        transitions: from the parent's state (row) to the node's, those of each node or of all.
        k: how many, at least 1.

    Example:
        >>> unary = jnp.array([[[0.0, 0.0], [0.0, 3.0], [0.0, 1.0]]])
        >>> together = jnp.array([[[[0.0, -jnp.inf], [-jnp.inf, 0.0]]]])
        >>> states, there = best_states((-1, 0, 0), unary, together, 3)
        >>> print(states[:, 0], there[:, 0])
        [[1 1 1]
         [0 0 0]
         [0 0 0]] [ True  True False]

    Source: Seshadri and Sundberg, "List Viterbi decoding algorithms", 1994.
    """
    b, n, states = unary.shape
    nodes = np.concatenate(levels(parents)[::-1])
    # The roots are children of a node behind the last one, whose state says nothing.
    above = np.where(np.array(parents) < 0, n, np.array(parents))[nodes]
    root = above == n
    each = None
    if transitions.shape[1] > 1:
        each = jnp.moveaxis(transitions, 1, 0)[nodes]

    def up(lists: Array, inputs: Tree) -> tuple[Array, tuple[Array, Array]]:
        unary, node, parent, root, matrices = inputs
        own = unary[:, :, None] + lists[node]
        own = own - structures.most(own, (1, 2))
        matrices = jnp.where(root, 0, transitions[:, 0] if matrices is None else matrices)
        ways = matrices[..., None] + own[:, None]
        message, child = structures.first_ones(ways.reshape(b, states, states * k), k)
        sums = lists[parent][..., None] + message[:, :, None]
        merged, pair = structures.first_ones(sums.reshape(b, states, k * k), k)
        made = pair // k, jnp.take_along_axis(child, pair % k, 2)
        return lists.at[parent].set(merged), made

    # One way to have nothing below.
    nothing = jnp.full((n + 1, b, states, k), -jnp.inf, unary.dtype).at[..., 0].set(0)
    inputs = jnp.moveaxis(unary, 1, 0)[nodes], nodes, above, root, each
    lists, made = lax.scan(up, nothing, inputs)

    def down(known: tuple[Array, Array], inputs: Tree) -> tuple[Tree, Array]:
        state, rank = known
        (earlier, child), node, parent = inputs
        at = state[parent] * k + rank[parent]
        found = jnp.take_along_axis(child.reshape(b, states * k), at, 1)
        rank = rank.at[parent].set(jnp.take_along_axis(earlier.reshape(b, states * k), at, 1))
        return (state.at[node].set(found // k), rank.at[node].set(found % k)), found // k

    ranks = jnp.zeros((n + 1, b, k), jnp.int32).at[n].set(jnp.arange(k, dtype=jnp.int32))
    start = jnp.zeros_like(ranks), ranks
    _, found = lax.scan(down, start, (made, nodes, above), reverse=True)
    there = lists[n, :, 0] != -jnp.inf
    return jnp.transpose(found[np.argsort(nodes)], (2, 1, 0)), there.T
