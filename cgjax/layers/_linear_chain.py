"""A linear chain as a module: scores from features, and the potentials of steps and ends."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from cgjax import nodes
from cgjax._node import check_name, node
from cgjax._static import described, is_array, is_traced
from cgjax.layers._recurrent import Initializer


class _Fixed(NamedTuple):
    """Potentials that are not trained, as numbers, so that they are no state of the module."""

    start: tuple[float, ...]
    transitions: tuple[tuple[float, ...], ...]
    end: tuple[float, ...]


class LinearChain(nnx.Module):
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
        ValueError: there is no state, or `forbidden` has other shapes, holds NaN or inf, or leaves
            a chain of two positions no path.
        TypeError: `num_states` is no integer, or `forbidden` no three arrays of known numbers.

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
        if not isinstance(num_states, int) or isinstance(num_states, bool):
            raise TypeError(f"num_states is an integer, got {described(num_states)}.")
        if num_states < 1:
            raise ValueError(f"num_states is at least 1, got {num_states}.")
        check_name("node", name)
        k = num_states
        self.num_states = k
        self.name = name
        self.forbidden = None if forbidden is None else _fixed(forbidden, k)
        self.projection = (
            None
            if in_features is None
            else nnx.Linear(in_features, k, kernel_init=kernel_init, rngs=rngs)
        )
        self.transitions = nnx.Param(transitions_init(rngs.params(), (k, k), jnp.float32))
        self.start = nnx.Param(jnp.zeros(k))
        self.end = nnx.Param(jnp.zeros(k))

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
        x = jnp.asarray(inputs)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"A LinearChain layer takes floating-point inputs, got {x.dtype}.")
        expected = self.num_states if self.projection is None else self.projection.in_features
        if x.ndim < 2 or x.shape[-1] != expected:
            raise ValueError(
                f"The inputs have the shape (*batch, positions, {expected}), got one of {x.shape}."
            )
        e = x if self.projection is None else self.projection(x).astype(x.dtype)
        return node(self.family(lengths=lengths, mask=mask), e, name=self.name)

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
        start, transitions, end = (
            own[...] if fixed is None else own[...] + jnp.asarray(fixed, own[...].dtype)
            for own, fixed in zip(
                (self.start, self.transitions, self.end),
                self.forbidden or (None, None, None),
                strict=True,
            )
        )
        return nodes.LinearChain(transitions, start, end, lengths=lengths, mask=mask)


def _fixed(forbidden: object, k: int) -> _Fixed:
    """`forbidden` as numbers, after checking that it fits k states."""
    if not isinstance(forbidden, tuple) or len(forbidden) != 3:
        raise TypeError(
            "forbidden is a tuple (start, transitions, end), as `cgjax.nodes.bio_transitions` "
            f"returns it, got {described(forbidden)}."
        )
    for name, value, shape in zip(_Fixed._fields, forbidden, ((k,), (k, k), (k,)), strict=True):
        if not is_array(value) or is_traced(value):
            raise TypeError(
                f"forbidden.{name} is an array of known numbers, got {described(value)}."
            )
        if np.shape(value) != shape:
            raise ValueError(
                f"forbidden.{name} has shape {np.shape(value)}; for {k} states it is {shape}."
            )
    start, transitions, end = (np.asarray(value, np.float32) for value in forbidden)
    # Checks the numbers, and that a chain of two positions has a path.
    nodes.LinearChain(transitions, start, end).natural_parameter(jnp.zeros((2, k)))
    return _Fixed(
        tuple(start.tolist()),
        tuple(tuple(row) for row in transitions.tolist()),
        tuple(end.tolist()),
    )
