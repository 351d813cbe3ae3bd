"""A tree as a module: scores from features, and the potentials of parents and children."""

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from cgjax import nodes
from cgjax._node import node
from cgjax.layers._recurrent import Initializer
from cgjax.layers._structured import Structured, as_numbers, with_fixed


class Tree(Structured):
    """A tree-structured CRF on top of features: one state for each node of a tree.

        e_i = W x_i + b,
        P(z) = exp(sum_i e[i, z_i] + sum over i with a parent p of transitions[z_p, z_i]) / Z

    W, b and `transitions` are parameters. The whole tree is one node of the family
    `cgjax.nodes.Tree`: under plain evaluation it has the marginals as its value.

    Args:
        in_features: the number of features of a node of the tree; None: the inputs are the scores
            e.
        parents: of each node of the tree the number of its parent, -1 for a root: N integers, known
            when the program is written.
        num_states: K, the number of states of a node.
        shared_transitions: whether one matrix serves all nodes and their parents; otherwise each
            node has its own, (N, K, K), of which those of roots count for nothing.
        forbidden: potentials (K, K) that are added to the transitions and stay as they are: -inf
            for what is impossible and 0 elsewhere. By default all is possible.
        kernel_init: initialiser of W; b starts at 0.
        transitions_init: initialiser of `transitions`.
        name: of the node.
        rngs: the source of randomness of the initial weights.

    Raises:
        ValueError: a size is below 1; the parents make no tree; `forbidden` has another shape,
            holds NaN or inf, or leaves the tree no possible states.
        TypeError: a size or a parent is no integer, or `forbidden` no array of known numbers.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> from flax import nnx
        >>> layer = cg.layers.Tree(4, (-1, 0, 0), 2, rngs=nnx.Rngs(0))
        >>> features = jnp.ones((5, 3, 4))
        >>> layer(features).shape
        (5, 3, 2)
        >>> cg.mode(layer)(features).shape
        (5, 3, 2)

    Source: [A] section 3, alternative inference in the last component; Pearl, "Probabilistic
    reasoning in intelligent systems", 1988, chapter 4.
    """

    def __init__(
        self,
        in_features: int | None,
        parents: Iterable[int],
        num_states: int,
        *,
        shared_transitions: bool = True,
        forbidden: ArrayLike | None = None,
        kernel_init: Initializer = nnx.initializers.lecun_normal(),  # noqa: B008 (immutable)
        transitions_init: Initializer = nnx.initializers.zeros,
        name: str = "tree",
        rngs: nnx.Rngs,
    ):
        super().__init__(in_features, num_states, kernel_init, name, rngs)
        k = num_states
        fixed = None if forbidden is None else as_numbers("forbidden", forbidden, (k, k))
        # Checks the parents and the numbers, and that something is possible.
        family = nodes.Tree(parents, np.zeros((k, k)) if fixed is None else np.array(fixed))
        n = family.num_nodes()
        family.natural_parameter(jnp.zeros((n, k)))
        self.parents = family.parents
        self.forbidden = fixed
        shape = (k, k) if shared_transitions else (n, k, k)
        self.transitions = nnx.Param(transitions_init(rngs.params(), shape, jnp.float32))

    def __call__(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The marginals of all nodes of the tree, or what a procedure puts in their place.

        Args:
            inputs: (*batch, nodes of the tree, in_features).

        Returns:
            (*batch, nodes of the tree, num_states), dtype of the inputs.

        Raises:
            TypeError: the inputs are not floating point.
            ValueError: the inputs have another number of nodes or of features.
        """
        return node(self.family(), self.scores(inputs), name=self.name)

    def scores(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The natural parameter e, (*batch, nodes of the tree, num_states).

        Args:
            inputs: as in a call.
        """
        return self._projected(inputs, "nodes of the tree")

    def family(self) -> nodes.Tree:
        """The node family with the layer's potentials: for `top`, `entropy`, `pair_marginals`.

        Example:
            >>> import jax.numpy as jnp, cgjax as cg
            >>> from flax import nnx
            >>> layer = cg.layers.Tree(None, (-1, 0, 0), 2, rngs=nnx.Rngs(0))
            >>> print(layer.family().entropy(jnp.zeros((3, 2))).round(4))  # 3 log 2
            2.0794
        """
        return nodes.Tree(self.parents, with_fixed(self.transitions, self.forbidden))
