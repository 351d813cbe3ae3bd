"""The independently recurrent layer, and the fused component that it is ([A] section 4.2.2)."""

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, ArrayLike

from cgjax import _static
from cgjax._cache import recent
from cgjax._component import component
from cgjax._node import node
from cgjax._static import Function, Leaf
from cgjax.kernels import (
    Implementation,
    independent_recurrence,
    sampled_independent_recurrence,
)
from cgjax.layers._dropout import Dropout
from cgjax.layers._recurrent import Initializer, Recurrent, States
from cgjax.nodes import Bernoulli, Family, LeakyReLU, ReLU, Softplus, Spin


class IndependentRecurrent(Recurrent):
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
        ValueError: for a drop rate outside [0, 1], a size below 1, or a bound that is not positive;
            when called, if the implementation does not have the family, or not its samples.
        TypeError: for a drop rate that is no floating-point number, or a size that is no integer.

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
        drop_rate: Leaf | None = None,
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
            States(family, drop_rate, shared_noise, time_major, name),
            kernel_init,
            rngs,
        )
        initial = recurrent_init or nnx.initializers.uniform(max_recurrent_weight)
        weights = initial(rngs.params(), (features,), jnp.float32)
        weights = jnp.clip(weights, -max_recurrent_weight, max_recurrent_weight)
        self.recurrent = nnx.Param(weights, recurrent_bound=max_recurrent_weight)
        self.implementation: Implementation | None = implementation

    def _states(self, x: Array, initial: Array) -> Array:
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
def _independent(nodes: _Node, implementation: Implementation | None) -> Function:
    """The recurrence as a fused component, `run(x, weights, initial, *arrays)`, time first."""

    def reference(x: Array, weights: Array, initial: Array, *arrays: Array) -> Array:
        family, rate = _static.join(nodes.structure, arrays)
        dropout = None if rate is None else Dropout(rate, name=f"{nodes.name}_dropout")
        wide = jnp.promote_types(x.dtype, jnp.float32)

        def step(state: Array, x: Array) -> tuple[Array, Array]:
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
    leak: Leaf = family.leak if isinstance(family, LeakyReLU) else 0.01
    if known is None or not leak > 0:
        _require_no(implementation, nodes)
        return component(reference)
    activation, has_samples = known

    # Noise at each step has mean 1, so that it changes nothing here.
    def feed_forward(x: Array, weights: Array, initial: Array) -> Array:
        return independent_recurrence(
            x, weights, initial, activation=activation, leak=leak, implementation=implementation
        )

    def pcff(key: Array, rates: Rates, x: Array, weights: Array, initial: Array) -> Array:
        return sampled_independent_recurrence(
            key,
            x,
            weights,
            initial,
            rate=rates[0],
            activation=activation,
            implementation=implementation,
        )

    def forward_sample(key: Array, *args: Array) -> Array:
        return pcff(key, (1.0,), *args)

    def no_samples(*args: object) -> NoReturn:
        raise ValueError(
            f"implementation={implementation!r} has no form in which these nodes are sampled "
            f"({nodes.structure.treedef}): there is none of 'parallel', of noise that each step "
            "draws anew (drop_rate without shared_noise), and of the families LeakyReLU and "
            "Softplus. With implementation=None each procedure takes the form that it has."
        )

    if has_samples and rate is None and implementation != "parallel":
        sampled: dict[str, Function] = {"forward_sample": forward_sample, "pcff": pcff}
    elif implementation in (None, "scan"):
        sampled = {}  # the nodes are walked, in a loop
    else:
        sampled = {"forward_sample": no_samples, "pcff": no_samples}
    return component(reference, feed_forward=feed_forward, **sampled)


# One for each node of the reference.
Rates = Sequence[ArrayLike]

# The activation's name in the kernels, and whether they sample such nodes.
_KERNELS: dict[type, tuple[Leaf, bool]] = {
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
