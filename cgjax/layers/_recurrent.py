"""Recurrent layers: chain components that depend on their own last step ([A] section 4.2)."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from cgjax import _static
from cgjax._cache import recent
from cgjax._component import component
from cgjax._node import node
from cgjax.kernels._recurrence import (
    Implementation,
    independent_recurrence,
    sampled_independent_recurrence,
)
from cgjax.layers._dropout import Dropout
from cgjax.nodes import Bernoulli, Family, LeakyReLU, ReLU, Softplus, Spin

Initializer = Callable[..., Any]


def recurrent_weight_bound(steps: int, growth: float = 5.0) -> float:
    """The largest recurrent weight with which a state grows by at most a factor over a sequence.

        bound^steps = growth

    Args:
        steps: the length of the sequences.
        growth: the factor, for a state that is copied through all steps.

    Returns:
        `growth ** (1 / steps)`.

    Raises:
        ValueError: unless both are positive.

    Example:
        >>> round(recurrent_weight_bound(784), 6)
        1.002055

    Source: Li et al., "Independently recurrent neural network", CVPR 2018, section 4.
    """
    if steps < 1 or growth <= 0:
        raise ValueError(f"steps and growth are positive, got {steps!r} and {growth!r}.")
    return growth ** (1 / steps)


def clip_recurrent_weights(params: Any) -> Any:
    """Projects every bounded recurrent weight of a parameter tree onto [-bound, bound].

    To be applied after each update of an optimiser:
    `params = clip_recurrent_weights(optax.apply_updates(params, updates))`.

    Args:
        params: the parameters of a network, as `cgjax.functional` returns them.

    Returns:
        The same tree with the recurrent weights of each `IndependentRecurrent` clipped, and all
        else unchanged. (Any `nnx.Param` with metadata `recurrent_bound` is clipped to it.)

    Raises:
        ValueError: if no parameter has a bound, as in a tree of plain arrays, which lost theirs.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> from flax import nnx
        >>> layer = cg.layers.IndependentRecurrent(
        ...     1, 2, max_recurrent_weight=0.5, rngs=nnx.Rngs(0))
        >>> layer.recurrent[...] = jnp.array([3.0, -0.25])
        >>> f, params, state = cg.functional(layer)
        >>> clip_recurrent_weights(params)["recurrent"][...]
        Array([ 0.5 , -0.25], dtype=float32)
    """

    def clipped(leaf: Any) -> Any:
        bound = _bound(leaf)
        return leaf if bound is None else leaf.replace(jnp.clip(leaf[...], -bound, bound))

    def is_leaf(leaf: Any) -> bool:
        return isinstance(leaf, nnx.Variable)

    if all(_bound(leaf) is None for leaf in jax.tree.leaves(params, is_leaf=is_leaf)):
        raise ValueError(
            "No parameter has a bound. Either the network has no IndependentRecurrent layer, or "
            "the tree holds plain arrays; the bound is metadata of the `nnx.Param`s that "
            "`cgjax.functional` returns."
        )
    return jax.tree.map(clipped, params, is_leaf=is_leaf)


def _bound(leaf: Any) -> float | None:
    return leaf.get_metadata().get("recurrent_bound") if isinstance(leaf, nnx.Variable) else None


class _Recurrent(nnx.Module):
    """What the recurrent layers share: the map of the inputs, the axis of time, and dropout."""

    def __init__(
        self,
        in_features: int | None,
        features: int,
        family: Family,
        drop_rate: Any,
        shared_noise: bool,
        time_major: bool,
        kernel_init: Initializer,
        name: str,
        rngs: nnx.Rngs,
    ):
        self.features = features
        # A family with arrays is data to Flax, any other is static.
        self.family = nnx.data(family) if _static.split(family)[1] else family
        self.shared_noise = shared_noise
        self.time_major = time_major
        self.name = name
        self.input = (
            None
            if in_features is None
            else nnx.Linear(in_features, features, kernel_init=kernel_init, rngs=rngs)
        )
        # Checks the rate. The name is that of the noise nodes.
        self.dropout = None if drop_rate is None else Dropout(drop_rate, name=f"{name}_dropout")

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
        x = jnp.asarray(inputs)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"A recurrent layer takes floating-point inputs, got {x.dtype}.")
        expected = self.features if self.input is None else self.input.in_features
        if x.ndim < 2 or x.shape[-1] != expected:
            axes = "(time, *batch" if self.time_major else "(*batch, time"
            raise ValueError(
                f"The inputs have the shape {axes}, {expected}), got one of {x.shape}."
            )
        if self.input is not None:
            x = self.input(x).astype(x.dtype)
        x = x if self.time_major else jnp.moveaxis(x, -2, 0)
        start = jnp.zeros((), x.dtype) if initial is None else jnp.asarray(initial, x.dtype)
        if start.ndim and start.shape != x.shape[1:]:
            raise ValueError(
                f"The initial states have the shape (*batch, features), here {x.shape[1:]}, got "
                f"{start.shape}."
            )
        states = self._states(x, jnp.broadcast_to(start, x.shape[1:]))
        return states if self.time_major else jnp.moveaxis(states, 0, -2)

    @abc.abstractmethod
    def _states(self, x: Any, initial: Any) -> Any:
        """The states at all steps; time comes first."""

    def _noise(self, x: Any) -> Any:
        """The factors that drop states, drawn once for all steps; or None."""
        if self.dropout is None or not self.shared_noise:
            return None
        one = x[0] if len(x) else jnp.zeros(x.shape[1:], x.dtype)
        return self.dropout.factor(one)

    @property
    def _fresh_rate(self) -> Any:
        """The rate at which each step drops the states it is handed; or None."""
        return None if self.dropout is None or self.shared_noise else self.dropout.rate


class SimpleRecurrent(_Recurrent):
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
        ValueError: for a drop rate outside [0, 1].

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
        drop_rate: Any = None,
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
            family,
            drop_rate,
            shared_noise,
            time_major,
            kernel_init,
            name,
            rngs,
        )
        shape = (features, features)
        self.recurrent = nnx.Param(recurrent_init(rngs.params(), shape, jnp.float32))

    def _states(self, x: Any, initial: Any) -> Any:
        weights = self.recurrent[...].astype(x.dtype)
        factor = self._noise(x)

        def step(state: Any, x: Any) -> Any:
            if factor is not None:
                state = state * factor
            elif self.dropout is not None:
                state = self.dropout(state)
            e = x + jnp.matmul(state, weights)
            state = node(self.family, e, name=self.name)
            return state, state

        return lax.scan(step, initial, x)[1]


class IndependentRecurrent(_Recurrent):
    """The independently recurrent layer: each node sees its own state of the last step only.

        e_t = W x_t + b + u h_{t-1},   X_t ~ P(X given e_t),   h_t = T(X_t)

    with one recurrent weight u a node: given the layer below, nodes are independent through time as
    they are within a step. The affine map of all steps is one matrix product, and what is left is
    element-wise; for the families ReLU, LeakyReLU, Spin, Bernoulli and Softplus it is a kernel
    under plain evaluation and `feed_forward`, for ReLU, Spin and Bernoulli also under
    `forward_sample` and `pcff` (but with noise of its own at each step). Every other procedure
    walks the nodes.

    Args:
        in_features: the number of inputs; None: the inputs are W x_t + b already.
        features: the number of nodes.
        family: of the nodes; `ReLU()` is the usual choice.
        max_recurrent_weight: the bound of |u|, for `clip_recurrent_weights`; u starts as
            U(0, bound). For a network on long sequences: `recurrent_weight_bound(steps)`.
        drop_rate: the probability that a state is dropped on its way to the next step, a number or
            an array; None: the layer has no noise nodes.
        shared_noise: whether one draw serves all steps of a sequence; otherwise each step has its
            own.
        time_major: whether the axis of time comes first, which saves two transpositions; otherwise
            it comes before the features.
        kernel_init: initialiser of W; b starts at 0.
        recurrent_init: initialiser of u in place of the uniform one; what it gives is clipped to
            the bound.
        implementation: of the kernel, as in `cgjax.kernels.independent_recurrence`. What is named
            is used by plain evaluation and `feed_forward`, and by `forward_sample` and `pcff`,
            which raise if it has no sampled form. Procedures that look at single nodes (`clamp`,
            `with_nodes`, moments, straight-through, ...) walk them in any case.
        name: of the nodes; noise nodes are called `{name}_dropout`.
        rngs: the source of randomness of the initial weights.

    Raises:
        ValueError: for a drop rate outside [0, 1], or a bound that is not positive; when called,
            if the implementation does not have the family, or not its samples.
        TypeError: for a drop rate that is no floating-point number.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> from flax import nnx
        >>> layer = cg.layers.IndependentRecurrent(3, 4, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 5, 3))).shape
        (2, 5, 4)
        >>> print(cg.chain_graph(layer)(jnp.ones((2, 5, 3)))["state"].parents)
        (Parent(name='inputs', through_time=False), Parent(name='state', through_time=True))

    Source: [A] section 4.2.2; Li et al., "Independently recurrent neural network", CVPR 2018.
    """

    def __init__(
        self,
        in_features: int | None,
        features: int,
        *,
        family: Family = ReLU(),  # noqa: B008 (immutable)
        max_recurrent_weight: float = 1.0,
        drop_rate: Any = None,
        shared_noise: bool = False,
        time_major: bool = False,
        kernel_init: Initializer = nnx.initializers.lecun_normal(),  # noqa: B008
        recurrent_init: Initializer | None = None,
        implementation: Implementation | None = None,
        name: str = "state",
        rngs: nnx.Rngs,
    ):
        if not max_recurrent_weight > 0:
            raise ValueError(f"max_recurrent_weight is positive, got {max_recurrent_weight!r}.")
        super().__init__(
            in_features,
            features,
            family,
            drop_rate,
            shared_noise,
            time_major,
            kernel_init,
            name,
            rngs,
        )
        initial = recurrent_init or nnx.initializers.uniform(max_recurrent_weight)
        weights = initial(rngs.params(), (features,), jnp.float32)
        weights = jnp.clip(weights, -max_recurrent_weight, max_recurrent_weight)
        self.recurrent = nnx.Param(weights, recurrent_bound=max_recurrent_weight)
        self.implementation = implementation

    def _states(self, x: Any, initial: Any) -> Any:
        weights = self.recurrent[...].reshape((1,) * (x.ndim - 2) + (-1,))
        factor = self._noise(x)
        if factor is not None:
            # A factor for each state at all steps is one for the weight that the state meets.
            weights = weights * factor.astype(weights.dtype)
        structure, arrays = _static.split((self.family, self._fresh_rate))
        run = _independent(_Node(structure, self.name), self.implementation)
        return run(x, weights, initial, *arrays)


class _Node(NamedTuple):
    """The nodes of a layer, without arrays: hashable.

    Attributes:
        structure: the family and the drop rate of each step.
        name: of the nodes.
    """

    structure: _static.Structure
    name: str


@recent(256)
def _independent(nodes: _Node, implementation: Implementation | None) -> Callable[..., Any]:
    """The recurrence as a fused component, `run(x, weights, initial, *arrays)`, time first."""

    def reference(x: Any, weights: Any, initial: Any, *arrays: Any) -> Any:
        family, rate = _static.join(nodes.structure, arrays)
        dropout = None if rate is None else Dropout(rate, name=f"{nodes.name}_dropout")
        wide = jnp.promote_types(x.dtype, jnp.float32)

        def step(state: Any, x: Any) -> Any:
            handed = state if dropout is None else dropout(state)
            e = x.astype(wide) + weights.astype(wide) * handed.astype(wide)
            state = node(family, e.astype(x.dtype), name=nodes.name)
            return state, state

        return lax.scan(step, initial, x)[1]

    if nodes.structure.num_arrays:
        family, rate = None, None
    else:
        family, rate = _static.join(nodes.structure, [])
    known = _KERNELS.get(type(family))
    leak: Any = family.leak if isinstance(family, LeakyReLU) else 0.01
    if known is None or not leak > 0:
        _require_no(implementation, nodes)
        return component(reference)
    activation, has_samples = known

    # Noise at each step has mean 1, so that it changes nothing here.
    def feed_forward(x: Any, weights: Any, initial: Any) -> Any:
        return independent_recurrence(
            x, weights, initial, activation=activation, leak=leak, implementation=implementation
        )

    def pcff(key: Any, rates: Any, x: Any, weights: Any, initial: Any) -> Any:
        return sampled_independent_recurrence(
            key,
            x,
            weights,
            initial,
            rate=rates[0],
            activation=activation,
            implementation=implementation,
        )

    def forward_sample(key: Any, *args: Any) -> Any:
        return pcff(key, (1.0,), *args)

    def no_samples(*args: Any) -> Any:
        raise ValueError(
            f"implementation={implementation!r} has no form in which these nodes are sampled "
            f"({nodes.structure.treedef}): there is none of 'parallel', of noise that each step "
            "draws anew (drop_rate without shared_noise), and of the families LeakyReLU and "
            "Softplus. With implementation=None each procedure takes the form that it has."
        )

    if has_samples and rate is None and implementation != "parallel":
        sampled: dict[str, Any] = {"forward_sample": forward_sample, "pcff": pcff}
    elif implementation in (None, "scan"):
        sampled = {}  # the nodes are walked, in a loop
    else:
        sampled = {"forward_sample": no_samples, "pcff": no_samples}
    return component(reference, feed_forward=feed_forward, **sampled)


# The activation's name in the kernels, and whether they sample such nodes.
_KERNELS: dict[Any, tuple[Any, bool]] = {
    ReLU: ("relu", True),
    Spin: ("tanh", True),
    Bernoulli: ("logistic", True),
    LeakyReLU: ("leaky_relu", False),
    Softplus: ("softplus", False),
}


def _require_no(implementation: Implementation | None, nodes: _Node) -> None:
    if implementation not in (None, "scan"):
        raise ValueError(
            f"implementation={implementation!r} has no kernel for nodes {nodes.structure.treedef}; "
            f"kernels are there for {', '.join(f.__name__ for f in _KERNELS)} with fixed numbers."
        )
