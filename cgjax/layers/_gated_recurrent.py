"""The gated recurrent layer as a chain graph: binary switches between copying and writing."""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from cgjax._node import check_name, node
from cgjax.layers._recurrent import Initializer
from cgjax.layers._sizes import check_sizes
from cgjax.layers._steps import checked_inputs, first_states
from cgjax.nodes import Bernoulli, Spin


class GatedRecurrent(nnx.Module):
    """The gated recurrent layer (GRU): each unit keeps its state, or writes a new one.

        r_t ~ Bernoulli(W_r x_t + b_r + U_r h_{t-1})            reset
        z_t ~ Bernoulli(W_z x_t + b_z + U_z h_{t-1})            update
        n_t ~ Spin(W_n x_t + b_n + r_t (U_n h_{t-1}))           candidate
        h_t = (1 - z_t) n_t + z_t h_{t-1}

    Sampled, gates are switches: a state is the last one or a new one of -1 or 1, and the law of a
    path is a mixture over when each unit wrote. Collapsed, nodes are their means, and this is the
    usual layer, `flax.nnx.GRUCell` in `flax.nnx.RNN`, to the last bit. States are functions of
    nodes, and no nodes.

    W and b are those of `input`, U of `recurrent`; both have the parts r, z, n behind each other,
    as `dense_i` and `dense_h` of Flax's cell, so that trained weights fit:
    `nnx.update(layer.input, nnx.state(cell.dense_i))`.

    Args:
        in_features: the number of inputs; None: the inputs are W x_t + b already, 3 features, such
            as one product for all steps.
        features: the number of units.
        time_major: whether the axis of time comes first; otherwise it comes before the features.
        kernel_init: initialiser of W; b starts at 0.
        recurrent_init: initialiser of U.
        name: nodes are called `{name}_reset`, `{name}_update` and `{name}_candidate`.
        rngs: the source of randomness of the initial weights.

    Raises:
        ValueError: a size is below 1.
        TypeError: a size is no integer, or the name no string.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> from flax import nnx
        >>> layer = cg.layers.GatedRecurrent(3, 4, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 5, 3))).shape
        (2, 5, 4)
        >>> states = cg.forward_sample(layer)(jax.random.key(0), jnp.ones((2, 5, 3)))
        >>> sorted(set(states.ravel().tolist()))
        [-1.0, 0.0, 1.0]

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014 (arXiv
    1406.1078); gates as decisions: Garner and Tong, "A Bayesian approach to recurrence in neural
    networks", 2020 (arXiv 1910.11247); as a chain graph: [A] sections 3 and 4.2.
    """

    def __init__(
        self,
        in_features: int | None,
        features: int,
        *,
        time_major: bool = False,
        kernel_init: Initializer = nnx.initializers.lecun_normal(),  # noqa: B008 (immutable)
        recurrent_init: Initializer = nnx.initializers.orthogonal(),  # noqa: B008
        name: str = "state",
        rngs: nnx.Rngs,
    ):
        check_sizes(in_features=in_features, features=features)
        check_name("node", name)
        self.features = features
        self.time_major = time_major
        self.name = name
        wide = 3 * features
        self.input = (
            None
            if in_features is None
            else nnx.Linear(in_features, wide, kernel_init=kernel_init, rngs=rngs)
        )
        self.recurrent = nnx.Linear(
            features, wide, use_bias=False, kernel_init=recurrent_init, rngs=rngs
        )

    def __call__(
        self, inputs: Float[Array, "..."], initial: Float[Array, "..."] | None = None
    ) -> Float[Array, "..."]:
        """The states at all steps.

        Args:
            inputs: (*batch, time, in_features), or (time, *batch, in_features) if `time_major`.
            initial: (*batch, features), the states before the first step, or one number; by
                default 0.

        Returns:
            (*batch, time, features), or (time, *batch, features); dtype of the inputs.

        Raises:
            TypeError: if the inputs are not floating point.
            ValueError: if they have no axis of time, or another number of features; if the initial
                states have another shape.
        """
        wide = 3 * self.features if self.input is None else self.input.in_features
        x = checked_inputs(inputs, wide, self.time_major)
        x = x if self.time_major else jnp.moveaxis(x, -2, 0)
        weights = self.recurrent.kernel[...]
        like = jnp.zeros((*x.shape[1:-1], self.features), jnp.result_type(x, weights))

        def step(state: Array, x: Array) -> tuple[Array, Array]:
            own = x if self.input is None else self.input(x)
            own, past = (jnp.split(v, 3, -1) for v in (own, self.recurrent(state)))
            reset = node(Bernoulli(), own[0] + past[0], name=f"{self.name}_reset")
            update = node(Bernoulli(), own[1] + past[1], name=f"{self.name}_update")
            candidate = node(Spin(), own[2] + reset * past[2], name=f"{self.name}_candidate")
            state = (1.0 - update) * candidate + update * state
            return state, state

        states = lax.scan(step, first_states(initial, like), x)[1].astype(x.dtype)
        return states if self.time_major else jnp.moveaxis(states, 0, -2)
