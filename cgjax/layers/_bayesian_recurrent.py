"""The Bayesian recurrent layer: units that filter, or smooth, a hidden state of their own."""

from typing import cast

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from cgjax._node import check_name
from cgjax.layers._recurrent import Initializer
from cgjax.layers._two_state_units import GivenName, Units, two_state_units


class BayesianRecurrent(nnx.Module):
    def __init__(
        self,
        in_features: int | None,
        features: int,
        *,
        given: GivenName = "past",
        forget_gate: bool = False,
        time_major: bool = False,
        kernel_init: Initializer = nnx.initializers.lecun_normal(),  # noqa: B008
        stay_init: Initializer = nnx.initializers.uniform(3.0),  # noqa: B008
        name: str = "state",
        rngs: nnx.Rngs,
    ):
        if given not in ("past", "all"):
            raise ValueError(f"given is 'past' or 'all', got {given!r}.")
        check_name("node", name)
        self.features = features
        self.given: GivenName = given
        self.time_major = time_major
        self.name = name
        self.input = (
            None
            if in_features is None
            else nnx.Linear(in_features, features, kernel_init=kernel_init, rngs=rngs)
        )
        self.gate = (
            None
            if not forget_gate
            else nnx.Linear(
                in_features,
                features,
                kernel_init=kernel_init,
                bias_init=nnx.initializers.ones,
                rngs=rngs,
            )
        )
        self.stay = nnx.Param(stay_init(rngs.params(), (2, features), jnp.float32))
        self.start = nnx.Param(jnp.zeros(features))

    def __call__(
        self,
        inputs: Float[Array, "..."],
        initial: Float[Array, "..."] | None = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Float[Array, "..."]:
        x = jnp.asarray(inputs)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        if not self.time_major:
            x = jnp.moveaxis(x, -2, 0)
        evidence = (x if self.input is None else self.input(x)).astype(wide)
        gate = None if self.gate is None else self.gate(x).astype(wide)
        if initial is not None:
            initial = jnp.broadcast_to(jnp.asarray(initial, wide), evidence.shape[1:])
        units = Units(
            evidence, self.stay[...].astype(wide), self.start[...].astype(wide), initial, gate, mask
        )
        states = two_state_units(self.given, self.name)(units).astype(inputs.dtype)
        return states if self.time_major else jnp.moveaxis(states, 0, -2)
