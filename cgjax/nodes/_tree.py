"""Trees of nodes: a component in which each node touches its parent in the tree ([A] section 3)."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from cgjax.kernels import trees
from cgjax.nodes import _structure_checks as checks
from cgjax.nodes._structured import Structured


@dataclasses.dataclass(frozen=True, eq=False)
class Tree(Structured):
    """N variables with K states each, of which every one touches its parent in a tree.

        P(z) = exp(sum_i e[i, z_i] + sum over i with a parent p of transitions[z_p, z_i]) / Z

    The last two axes of e are the tree's nodes and their states, and the whole tree is one node of
    the network: PCFF samples or collapses it as a whole. Its statistic is the one-hot array
    (..., N, K), its activation the marginals P(z_i = k), exactly: messages pass from the leaves to
    the roots and back. Samples are drawn from the roots down. -inf in e or in the transitions
    forbids a state or a pair.

    Everything is computed on logarithms in at least float32, in time and memory O(N K^2). Nodes of
    one depth are computed together, so that a path of N nodes takes N steps and a star a few
    (`cgjax.kernels.trees`).

    Args:
        parents: of each node the number of its parent, -1 for a root. There may be several roots
            (a forest), in any order. Known when the program is written: N integers, no array that
            JAX traces.
        transitions: `transitions[i, j]` is the potential of state i at the parent and state j at
            the node, of shape (K, K); or (..., N, K, K), one matrix for each node and its parent
            (those of roots are not read), and (..., 1, K, K), one for each tree of a batch.

    Raises:
        ValueError: a parent is no node, or a node is its own ancestor; the shapes do not fit
            together or to e; a potential is NaN or inf; known potentials leave a tree without
            possible states. Where those are traced, its log-partition is -inf, its marginals are
            0, and its samples NaN.
        TypeError: parents are no integers, or traced.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> tree = Tree((-1, 0, 0), 2.0 * jnp.eye(2))  # children tend to be as their parent is
        >>> e = jnp.zeros((3, 2)).at[1, 1].set(3.0)
        >>> print(tree.activation(e).round(2))
        [[0.16 0.84]
         [0.05 0.95]
         [0.24 0.76]]
        >>> print(tree.mode(e)[:, 1], tree.log_partition(e).round(2))
        [1. 1. 1.] 7.3

    Source: [A] section 3, alternative inference in the last component; Pearl, "Probabilistic
    reasoning in intelligent systems", 1988, chapter 4.
    """

    touching: ClassVar[str | None] = "parents and children in a tree"
    axes: ClassVar[tuple[str, ...]] = ("nodes of the tree", "states")
    extra_axes: ClassVar[Mapping[str, int]] = {"transitions": 1}

    parents: Iterable[int] | ArrayLike = dataclasses.field(metadata={"static": True})
    transitions: ArrayLike

    def __post_init__(self) -> None:
        object.__setattr__(self, "parents", _checked(self.parents))
        checks.check_potentials(self, "transitions")
        checks.check_matrices(
            self,
            "transitions",
            "(K, K), (..., N, K, K) or (..., 1, K, K), from the state of the parent (row) to that "
            "of the node (column)",
        )

    def num_nodes(self) -> int:
        """N, the number of nodes of the tree."""
        return len(self._parents())

    def pair_marginals(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """P(z_p = i, z_n = j) of each node n and its parent p, shape (..., N, K, K).

        At least float32; 0 for roots.

        Args:
            e: natural parameter, (..., N, K).

        Example:
            >>> import jax.numpy as jnp
            >>> print(Tree((-1, 0), jnp.zeros((2, 2))).pair_marginals(jnp.zeros((2, 2)))[1])
            [[0.25 0.25]
             [0.25 0.25]]
        """
        pairs = self._potentials(e).pairs()
        return pairs.reshape(*self._batch(e), *pairs.shape[1:])

    def _parents(self) -> tuple[int, ...]:
        assert isinstance(self.parents, tuple)  # since __post_init__
        return self.parents

    def _check_shapes(self, shape: tuple[int, ...]) -> None:
        checks.check_states(self, "transitions", shape, "nodes of the tree and states")
        *batch, n, _ = shape
        if n != self.num_nodes():
            raise ValueError(
                f"Tree has {self.num_nodes()} parents, one for each node, and the natural "
                f"parameter of shape {shape} has {n} nodes along its second last axis"
            )
        got = np.shape(self.transitions)
        if len(got) > 2 and got[-3] not in (1, n):
            raise ValueError(
                f"Tree.transitions has shape {got}, with {got[-3]} matrices for {n} nodes. Give "
                "one for each node and its parent, or (..., 1, K, K) for one matrix a tree"
            )
        checks.check_leading(self, {"transitions": 3}, tuple(batch), shape)

    def _check_possible(self, e: Array) -> None:
        never = checks.forbidden(self, e, ("transitions",))
        if never is None:
            return
        *batch, n, k = e.shape
        allowed = ~never["transitions"]
        allowed = allowed[None] if allowed.ndim == 2 else allowed
        allowed = np.broadcast_to(allowed, (*batch, n, k, k))
        possible, parents = ~never["e"], self._parents()
        for node in (i for level in trees.levels(parents)[:0:-1] for i in level):
            below = (allowed[..., node, :, :] & possible[..., node, None, :]).any(-1)
            possible[..., parents[node], :] &= below
        roots = [i for i, parent in enumerate(parents) if parent < 0]
        possible = possible[..., roots, :].any(-1).all(-1)
        checks.require_possible(self, possible, "`transitions`", ("trees", "state"))

    def _potentials(self, e: Num[ArrayLike, "*nodes"]) -> trees.Trees:
        unary, e = self._wide(e), jnp.asarray(e)
        transitions = jnp.asarray(self.transitions, unary.dtype)
        transitions = transitions[None] if transitions.ndim == 2 else transitions
        return trees.Trees(self._parents(), unary, self._of_batch(transitions, 3, e))


def _checked(parents: object) -> tuple[int, ...]:
    """The parents as integers of Python, if they make a forest."""
    try:
        listed = np.asarray(parents)
    except Exception as error:  # what JAX traces, and what is no list of numbers
        raise TypeError(_NO_INTEGERS.format(parents)) from error
    if listed.ndim != 1 or not listed.size or not np.issubdtype(listed.dtype, np.integer):
        raise TypeError(_NO_INTEGERS.format(parents))
    found = tuple(listed.tolist())
    for node, parent in enumerate(found):
        if not -1 <= parent < len(found):
            raise ValueError(
                f"Tree.parents: the parent of node {node} is {parent}; expected one of the nodes 0 "
                f"to {len(found) - 1}, or -1 if the node is a root"
            )
    reached = {node for level in trees.levels(found) for node in level}
    if len(reached) < len(found):
        node = next(node for node in range(len(found)) if node not in reached)
        path = [node]
        while found[path[-1]] not in path:
            path.append(found[path[-1]])
        path = [*path[path.index(found[path[-1]]) :], found[path[-1]]]
        raise ValueError(
            "Tree.parents has a cycle: the parents of node "
            f"{' -> '.join(map(str, path))} lead back to it. In a tree they lead to a root, whose "
            "parent is -1"
        )
    return found


_NO_INTEGERS = (
    "Tree.parents are the numbers of each node's parent, -1 for a root: at least one integer, "
    "known when the program is written, such as (-1, 0, 0); got {!r}"
)
