"""A linear chain as a module: scores from features, and the potentials of steps and ends."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from cgjax import nodes
from cgjax._node import node
from cgjax.layers._recurrent import Initializer
from cgjax.layers._structured import Sequence


class LinearChain(Sequence):
    """A linear-chain CRF on top of features: one state for each position of a sequence.

        e_t = W x_t + b,
        P(z) = exp(sum_t e[t, z_t] + sum_t transitions[z_t, z_{t+1}] + start[z_1] + end[z_T]) / Z

    W, b, `transitions`, `start` and `end` are parameters. The whole chain is one node of the family
    `cgjax.nodes.LinearChain`: under plain evaluation it has the marginals as its value.

    Args:
        in_features: the number of features of a position; None: the inputs are the scores e.
        num_states: K, the number of states of a position.
        forbidden: potentials `(start, transitions, end)` that are added to the parameters and stay
            as they are, of shapes (K,), (K, K) and (K,): -inf for what is impossible and 0
            elsewhere, as `cgjax.nodes.bio_transitions` gives them. By default all is possible.
        kernel_init: initialiser of W; b, `start` and `end` start at 0.
        transitions_init: initialiser of `transitions`.
        name: of the node.
        rngs: the source of randomness of the initial weights.

    Raises:
        ValueError: a size is below 1, or `forbidden` has other shapes, holds NaN or inf, or leaves
            a chain of two positions no path.
        TypeError: a size is no integer, or `forbidden` no three arrays of known numbers.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> from flax import nnx
        >>> allowed = cg.nodes.bio_transitions(["O", "B", "I"])
        >>> layer = cg.layers.LinearChain(4, 3, forbidden=allowed, rngs=nnx.Rngs(0))
        >>> features = jnp.ones((2, 5, 4))
        >>> layer(features, lengths=jnp.array([5, 2])).shape
        (2, 5, 3)
        >>> paths = cg.forward_sample(layer)(jax.random.key(0), features).argmax(-1)
        >>> bool((paths[:, 0] == 2).any())  # no segment begins inside
        False

    Source: [A] section 3; Lafferty, McCallum and Pereira, "Conditional random fields", 2001.
    """

    def __init__(
        self,
        in_features: int | None,
        num_states: int,
        *,
        forbidden: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
        kernel_init: Initializer = nnx.initializers.lecun_normal(),  # noqa: B008 (immutable)
        transitions_init: Initializer = nnx.initializers.zeros,
        name: str = "chain",
        rngs: nnx.Rngs,
    ):
        initializers = kernel_init, transitions_init
        super().__init__(in_features, num_states, forbidden, initializers, name, rngs)
        if self.forbidden is not None:
            # Checks the numbers, and that a chain of two positions has a path.
            start, transitions, end = map(np.array, self.forbidden)
            family = nodes.LinearChain(transitions, start, end)
            family.natural_parameter(jnp.zeros((2, num_states)))

    def __call__(
        self,
        inputs: Float[Array, "..."],
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Float[Array, "..."]:
        """The marginals of all positions, or what a procedure puts in their place.

        Args:
            inputs: (*batch, positions, in_features).
            lengths: how many of the first positions take part, integers (*batch,); default all.
            mask: which positions take part, booleans (*batch, positions), in place of `lengths`.

        Returns:
            (*batch, positions, num_states), dtype of the inputs; 0 at positions that take no part.

        Raises:
            TypeError: the inputs are not floating point, lengths no integers, the mask no booleans.
            ValueError: the inputs have no axis of positions, or another number of features; both
                lengths and mask are given, or do not fit.
        """
        family = self.family(lengths=lengths, mask=mask)
        return node(family, self.scores(inputs), name=self.name)

    def scores(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The natural parameter e, (*batch, positions, num_states): for `top` and its like.

        Args:
            inputs: as in a call.
        """
        return self._projected(inputs, "positions")

    def family(
        self, *, lengths: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> nodes.LinearChain:
        """The node family with the layer's potentials: for `top`, `entropy`, `pair_marginals`.

        Args:
            lengths: as in a call.
            mask: as in a call.

        Example:
            >>> import jax.numpy as jnp, cgjax as cg
            >>> from flax import nnx
            >>> layer = cg.layers.LinearChain(None, 2, rngs=nnx.Rngs(0))
            >>> print(layer.family().entropy(jnp.zeros((3, 2))).round(4))  # 3 log 2
            2.0794
        """
        start, transitions, end = self._potentials()
        return nodes.LinearChain(transitions, start, end, lengths=lengths, mask=mask)
