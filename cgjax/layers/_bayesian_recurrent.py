"""The Bayesian recurrent layer: each unit infers a hidden state of its own from its inputs."""

from typing import cast

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from cgjax._node import check_name
from cgjax._static import is_traced
from cgjax.layers._recurrent import Initializer
from cgjax.layers._sizes import check_sizes
from cgjax.layers._steps import checked_inputs
from cgjax.layers._taking_part import taking_part
from cgjax.layers._two_state_units import GivenName, Units, two_state_units


class BayesianRecurrent(nnx.Module):
    """The Bayesian recurrent layer: each unit is a Markov chain with the states 0 and 1.

    The inputs are evidence for state 1, and what is handed on is its probability, by Bayes's rule:

        predicted_t = tau[0, 1] (1 - h_{t-1}) + tau[1, 1] h_{t-1}
        h_t = sigmoid(W x_t + b + logit(predicted_t))

    These are filtered probabilities, of z_t given x_1, ..., x_t, in the chain

        P(z) = prior(z_1) prod_t tau[z_{t-1}, z_t] exp(sum_t (W x_t + b) z_t) / Z;

    with `given="all"` they are its marginals, of z_t given all inputs: a layer in both directions
    with the parameters of one. Parameters, besides W and b, are log-odds: `stay` (2, features) of
    the probabilities tau[0, 0] and tau[1, 1] of staying in a state, and `start` (features,) of the
    prior. A step with a forget gate remembers the last state with the probability

        gate_t = sigmoid(W' x_t + b'),   tau_t = gate_t tau + (1 - gate_t) prior.

    Told of the past, a unit is one Bernoulli node a step, which depends on the last one through
    tau. Sampled, the last state is 0 or 1 and predicted_t is a row of tau; collapsed, the nodes
    compute the filter. In their joint law evidence does not reach back, so that its marginals are
    not the filter's. Told of all, a unit is one `cgjax.nodes.LinearChain`, with exact marginals and
    samples of whole paths; the node's statistic is one-hot, (*batch, features, time, 2). Gates are
    Bernoulli nodes. Plain evaluation and `feed_forward` are computed on log-odds, where nothing
    underflows, by `cgjax.kernels.chains.two_state_filter` and `two_state_smoother`; every other
    procedure walks the nodes.

    Args:
        in_features: the number of inputs; None: the inputs are the evidence W x_t + b already.
        features: the number of units.
        given: "past", inputs up to the step, or "all", those of the whole sequence.
        forget_gate: whether steps may forget, as their inputs say.
        time_major: whether the axis of time comes first; otherwise it comes before the features.
        kernel_init: initialiser of W and of W'; b starts at 0, and b' at 1.
        stay_init: initialiser of `stay`; by default U(0, 3), probabilities from 0.5 to 0.95.
            `start` starts at 0.
        name: of the nodes; gates are called `{name}_gate`.
        rngs: the source of randomness of the initial weights.

    Raises:
        ValueError: `given` has another value; a size is below 1; or there is a gate and
            `in_features` is None.
        TypeError: a size is no integer, or the name no string.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> from flax import nnx
        >>> layer = cg.layers.BayesianRecurrent(3, 4, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 5, 3)), lengths=jnp.array([5, 2])).shape
        (2, 5, 4)
        >>> print(cg.chain_graph(layer)(jnp.ones((2, 5, 3)))["state"].parents)
        (Parent(name='inputs', through_time=False), Parent(name='state', through_time=True))
        >>> both = cg.layers.BayesianRecurrent(3, 4, given="all", rngs=nnx.Rngs(0))
        >>> cg.forward_sample(both)(jax.random.key(0), jnp.ones((2, 5, 3))).shape
        (2, 5, 4)

    Source: Garner and Tong, "A Bayesian approach to recurrence in neural networks", 2020 (arXiv
    1910.11247); Bittar and Garner, "Bayesian recurrent units and the forward-backward algorithm",
    2022 (arXiv 2207.10486). As a chain graph: [A] sections 3 and 4.2.
    """

    def __init__(
        self,
        in_features: int | None,
        features: int,
        *,
        given: GivenName = "past",
        forget_gate: bool = False,
        time_major: bool = False,
        kernel_init: Initializer = nnx.initializers.lecun_normal(),  # noqa: B008 (immutable)
        stay_init: Initializer = nnx.initializers.uniform(3.0),  # noqa: B008
        name: str = "state",
        rngs: nnx.Rngs,
    ):
        if given not in ("past", "all"):
            raise ValueError(f"given is 'past' or 'all', got {given!r}.")
        if forget_gate and in_features is None:
            raise ValueError(
                "A forget gate is computed from the layer's inputs: give in_features. With None "
                "the inputs are the evidence of each unit already."
            )
        check_sizes(in_features=in_features, features=features)
        check_name("node", name)
        self.features = features
        self.given: GivenName = given
        self.time_major = time_major
        self.name = name

        def affine(bias_init: Initializer) -> nnx.Linear:
            inputs = cast(int, in_features)
            return nnx.Linear(
                inputs, features, kernel_init=kernel_init, bias_init=bias_init, rngs=rngs
            )

        self.input = None if in_features is None else affine(nnx.initializers.zeros)
        self.gate = affine(nnx.initializers.ones) if forget_gate else None
        self.stay = nnx.Param(stay_init(rngs.params(), (2, features), jnp.float32))
        self.start = nnx.Param(jnp.zeros(features))

    def __call__(
        self,
        inputs: Float[Array, "..."],
        initial: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Float[Array, "..."]:
        """The probability of state 1 of all units at all steps, or what a procedure puts there.

        Args:
            inputs: (*batch, time, in_features), or (time, *batch, in_features) if `time_major`.
            initial: probabilities of state 1 before the first step, such as the filter's at the
                last step of what went before: (*batch, features), or one number. By default nothing
                is known before, and the first step has the prior.
            lengths: how many of the first steps take part, integers (*batch,); default all.
            mask: which steps take part, booleans (*batch, time), or (time, *batch) if `time_major`,
                in place of `lengths`. A masked step is skipped, and its neighbours become adjacent.

        Returns:
            (*batch, time, features), or (time, *batch, features); dtype of the inputs, and 0 at
            steps that take no part.

        Raises:
            TypeError: the inputs are not floating point, lengths no integers, the mask no booleans.
            ValueError: the inputs have no axis of time, or another number of features; the initial
                probabilities have another shape, or are known to lie outside [0, 1]; both lengths
                and mask are given, or do not fit.
        """
        features = self.features if self.input is None else self.input.in_features
        x = checked_inputs(inputs, features, self.time_major)
        dtype, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
        x = x if self.time_major else jnp.moveaxis(x, -2, 0)
        part = taking_part(lengths, mask, x.shape[:-1], self.time_major)
        units = Units(
            (x if self.input is None else self.input(x)).astype(wide),
            self.stay[...].astype(wide),
            self.start[...].astype(wide),
            self._initial(initial, (*x.shape[1:-1], self.features), wide),
            None if self.gate is None else self.gate(x).astype(wide),
            None if part is None else part[..., None],
        )
        states = two_state_units(self.given, self.name)(units).astype(dtype)
        return states if self.time_major else jnp.moveaxis(states, 0, -2)

    def _initial(
        self, initial: ArrayLike | None, shape: tuple[int, ...], dtype: np.dtype
    ) -> Array | None:
        if initial is None:
            return None
        found = jnp.asarray(initial)
        if found.shape not in ((), shape):
            raise ValueError(
                f"The initial probabilities have the shape (*batch, features), here {shape}, got "
                f"{found.shape}."
            )
        if not is_traced(initial) and found.size:
            known = np.asarray(initial, np.float64)
            if not (known.min() >= 0 and known.max() <= 1):
                raise ValueError(
                    f"The initial states are probabilities, from 0 to 1, got {known.min()} to "
                    f"{known.max()}."
                )
        return jnp.broadcast_to(found.astype(dtype), shape)
