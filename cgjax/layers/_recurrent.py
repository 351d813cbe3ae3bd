"""Recurrent layers: chain components that depend on their own last step ([A] section 4.2)."""

import abc
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from cgjax import _static
from cgjax._node import check_name, node
from cgjax._static import Leaf
from cgjax.layers._dropout import Dropout, masked
from cgjax.layers._sizes import check_sizes
from cgjax.layers._steps import checked_inputs, first_states
from cgjax.nodes import Family, Spin

Initializer = Callable[..., Array]


class States(NamedTuple):
    """What the states of a recurrent layer are.

    Attributes:
        family: of the nodes.
        drop_rate: the probability that a state is dropped on its way to the next step, or None.
        shared_noise: whether one draw serves all steps of a sequence.
        time_major: whether the axis of time comes first.
        name: of the nodes.
    """

    family: Family
    drop_rate: Leaf | None
    shared_noise: bool
    time_major: bool
    name: str


class Recurrent(nnx.Module):
    """What the recurrent layers share: the map of the inputs, the axis of time, and dropout."""

    def __init__(
        self,
        in_features: int | None,
        features: int,
        states: States,
        kernel_init: Initializer,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_features=in_features, features=features)
        self.features = features
        family, name = states.family, states.name
        check_name("node", name)
        # A family with arrays is data to Flax, any other is static.
        self.family = nnx.data(family) if _static.split(family)[1] else family
        self.shared_noise = states.shared_noise
        self.time_major = states.time_major
        self.name = name
        self.input = (
            None
            if in_features is None
            else nnx.Linear(in_features, features, kernel_init=kernel_init, rngs=rngs)
        )
        # Checks the rate. The name is that of the noise nodes.
        rate = states.drop_rate
        self.dropout = None if rate is None else Dropout(rate, name=f"{name}_dropout")

    def __call__(
        self,
        inputs: Float[Array, "..."],
        initial: Float[Array, "..."] | None = None,
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
            ValueError: if they have no axis of time, or another number of features.
        """
        features = self.features if self.input is None else self.input.in_features
        x = checked_inputs(inputs, features, self.time_major)
        if self.input is not None:
            x = self.input(x).astype(x.dtype)
        x = x if self.time_major else jnp.moveaxis(x, -2, 0)
        start = first_states(initial, jnp.zeros(x.shape[1:], x.dtype))
        states = self._states(x, start)
        return states if self.time_major else jnp.moveaxis(states, 0, -2)

    @abc.abstractmethod
    def _states(self, x: Array, initial: Array) -> Array:
        """The states at all steps; time comes first."""

    def _noise(self, x: Array) -> Array | None:
        """The factors that drop states, drawn once for all steps; or None."""
        if self.dropout is None or not self.shared_noise:
            return None
        one = x[0] if len(x) else jnp.zeros(x.shape[1:], x.dtype)
        return self.dropout.factor(one)

    @property
    def _fresh_rate(self) -> ArrayLike | None:
        """The rate at which each step drops the states it is handed; or None."""
        return None if self.dropout is None or self.shared_noise else self.dropout.rate


class SimpleRecurrent(Recurrent):
    """The simple recurrent layer: each node sees all states of its layer's last step.

        e_t = W x_t + U h_{t-1} + b,   X_t ~ P(X given e_t),   h_t = T(X_t)

    Stacked, these are the chain components P(X(l, t) given X(l-1, t), X(l, t-1)). Under plain
    evaluation it is the usual recurrent network with the family's activation.

    Args:
        in_features: the number of inputs; None: the inputs are W x_t + b already.
        features: the number of nodes.
        family: of the nodes; `Spin()` gives tanh.
        drop_rate: the probability that a state is dropped on its way to the next step, a number or
            an array; None: the layer has no noise nodes.
        shared_noise: whether one draw serves all steps of a sequence; otherwise each step has its
            own.
        time_major: whether the axis of time comes first; otherwise it comes before the features.
        kernel_init: initialiser of W; b starts at 0.
        recurrent_init: initialiser of U.
        name: of the nodes; noise nodes are called `{name}_dropout`.
        rngs: the source of randomness of the initial weights.

    Raises:
        ValueError: for a drop rate outside [0, 1], or a size below 1.
        TypeError: for a size that is no integer.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> from flax import nnx
        >>> layer = cg.layers.SimpleRecurrent(3, 4, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 5, 3))).shape
        (2, 5, 4)
        >>> states = cg.forward_sample(layer)(jax.random.key(0), jnp.ones((2, 5, 3)))
        >>> sorted(set(states.ravel().tolist()))
        [-1.0, 1.0]

    Source: [A] section 4.2.1.
    """

    def __init__(
        self,
        in_features: int | None,
        features: int,
        *,
        family: Family = Spin(),  # noqa: B008 (immutable)
        drop_rate: Leaf | None = None,
        shared_noise: bool = False,
        time_major: bool = False,
        kernel_init: Initializer = nnx.initializers.lecun_normal(),  # noqa: B008
        recurrent_init: Initializer = nnx.initializers.orthogonal(),  # noqa: B008
        name: str = "state",
        rngs: nnx.Rngs,
    ):
        super().__init__(
            in_features,
            features,
            States(family, drop_rate, shared_noise, time_major, name),
            kernel_init,
            rngs,
        )
        shape = (features, features)
        self.recurrent = nnx.Param(recurrent_init(rngs.params(), shape, jnp.float32))

    def _states(self, x: Array, initial: Array) -> Array:
        weights = self.recurrent[...].astype(x.dtype)
        factor = self._noise(x)

        def step(state: Array, x: Array) -> tuple[Array, Array]:
            if factor is not None:
                state = masked(state, factor)
            elif self.dropout is not None:
                state = self.dropout(state)
            e = x + jnp.matmul(state, weights)
            state = node(self.family, e, name=self.name)
            return state, state

        return lax.scan(step, initial, x)[1]
