"""Segments as a module: scores from features, and the potentials of durations, steps and ends."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from cgjax import nodes
from cgjax._node import node
from cgjax.layers._recurrent import Initializer
from cgjax.layers._sizes import check_sizes
from cgjax.layers._structured import Sequence


class SemiMarkov(Sequence):
    """A semi-Markov CRF on top of features: a sequence cut into labelled segments.

        s_t = W x_t + b,
        e[t, d - 1, k] = s_t[k] + ... + s_{t+d-1}[k] + durations[d - 1, k],
        P = exp(sum over segments of e[t, d - 1, k] + sum over neighbours of transitions[j, k]
                + start[first label] + end[last label]) / Z

    W, b, `durations`, `transitions`, `start` and `end` are parameters. The whole sequence is one
    node of the family `cgjax.nodes.SemiMarkov`: under plain evaluation its value is the probability
    of each segment, of which `family().labels` makes those of labels at positions.

    Args:
        in_features: the number of features of a position; None: the inputs are the scores s of
            labels at positions.
        num_states: K, the number of labels.
        max_duration: D, how many positions a segment has at most.
        forbidden: potentials `(start, transitions, end)` that are added to the parameters and stay
            as they are, of shapes (K,), (K, K) and (K,): -inf for what is impossible and 0
            elsewhere. By default all is possible.
        kernel_init: initialiser of W; b, `durations`, `start` and `end` start at 0.
        transitions_init: initialiser of `transitions`.
        name: of the node.
        rngs: the source of randomness of the initial weights.

    Raises:
        ValueError: a size is below 1, or `forbidden` has other shapes, holds NaN or inf, or leaves
            a sequence of two positions no segmentation.
        TypeError: a size is no integer, or `forbidden` no three arrays of known numbers.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> from flax import nnx
        >>> layer = cg.layers.SemiMarkov(4, 2, max_duration=3, rngs=nnx.Rngs(0))
        >>> features = jnp.ones((2, 5, 4))
        >>> segments = layer(features, lengths=jnp.array([5, 2]))
        >>> segments.shape, layer.family().labels(segments).shape
        ((2, 5, 3, 2), (2, 5, 2))

    Source: [A] section 3, alternative inference in the last component; Sarawagi and Cohen,
    "Semi-Markov conditional random fields for information extraction", 2004.
    """

    def __init__(
        self,
        in_features: int | None,
        num_states: int,
        max_duration: int,
        *,
        forbidden: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
        kernel_init: Initializer = nnx.initializers.lecun_normal(),  # noqa: B008 (immutable)
        transitions_init: Initializer = nnx.initializers.zeros,
        name: str = "segments",
        rngs: nnx.Rngs,
    ):
        check_sizes(max_duration=max_duration)
        initializers = kernel_init, transitions_init
        super().__init__(in_features, num_states, forbidden, initializers, name, rngs)
        self.max_duration = int(max_duration)
        self.durations = nnx.Param(jnp.zeros((max_duration, num_states)))
        if self.forbidden is not None:
            # Checks the numbers, and that two positions have a segmentation.
            start, transitions, end = map(np.array, self.forbidden)
            family = nodes.SemiMarkov(transitions, self.max_duration, start, end)
            family.natural_parameter(jnp.zeros((2, max_duration, num_states)))

    def __call__(
        self, inputs: Float[Array, "..."], *, lengths: ArrayLike | None = None
    ) -> Float[Array, "..."]:
        """The probabilities of all segments, or what a procedure puts in their place.

        Args:
            inputs: (*batch, positions, in_features), at least one position.
            lengths: how many of the first positions take part, integers (*batch,); default all.

        Returns:
            (*batch, positions, max_duration, num_states), dtype of the inputs: of the segment that
            starts at a position and has a duration and a label.

        Raises:
            TypeError: the inputs are not floating point, or lengths no integers.
            ValueError: the inputs have no axis of positions, or another number of features; the
                lengths do not fit.
        """
        return node(self.family(lengths=lengths), self.scores(inputs), name=self.name)

    def scores(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The natural parameter e, (*batch, positions, max_duration, num_states).

        Args:
            inputs: as in a call.
        """
        positions = self._projected(inputs, "positions")
        # Half precision is for what is added up, not for the sums.
        e = self.family().scores(positions.astype(jnp.promote_types(positions.dtype, jnp.float32)))
        durations = self.durations[...].reshape(*(1,) * (e.ndim - 2), *self.durations.shape)
        return (e + durations.astype(e.dtype)).astype(positions.dtype)

    def family(self, *, lengths: ArrayLike | None = None) -> nodes.SemiMarkov:
        """The node family with the layer's potentials: for `labels`, `top`, `entropy`.

        Args:
            lengths: as in a call.

        Example:
            >>> import jax.numpy as jnp, cgjax as cg
            >>> from flax import nnx
            >>> layer = cg.layers.SemiMarkov(None, 1, max_duration=2, rngs=nnx.Rngs(0))
            >>> scores = layer.scores(jnp.zeros((3, 1)))
            >>> print(layer.family().entropy(scores).round(4))  # log 3: 1+1+1, 1+2, 2+1
            1.0986
        """
        start, transitions, end = self._potentials()
        return nodes.SemiMarkov(transitions, self.max_duration, start, end, lengths)
