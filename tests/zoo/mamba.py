"""Mamba: a linear recurrence whose coefficients are made of what it reads, and a gate."""

from tests.zoo.build import equinox_parts
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    width, inner, states, rank, taps, length = 4, 8, 3, 2, 3, 5

    def recurrence(decay, x):
        """h[t] = decay[t] h[t-1] + x[t], for all steps at once."""

        def joined(first, second):
            return first[0] * second[0], second[0] * first[1] + second[1]

        return jax.lax.associative_scan(joined, (decay, x))[1]

    class RMSNorm(eqx.Module):
        scale: jax.Array

        def __init__(self):
            self.scale = jnp.ones(width)

        def __call__(self, x):
            return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6) * self.scale[None, :]

    class Block(eqx.Module):
        norm: RMSNorm
        expand: eqx.nn.Linear
        convolution: eqx.nn.Conv1d
        select: eqx.nn.Linear
        step: eqx.nn.Linear
        log_decay: jax.Array
        skip: jax.Array
        contract: eqx.nn.Linear

        def __init__(self, key):
            keys = jax.random.split(key, 5)
            self.norm = RMSNorm()
            self.expand = eqx.nn.Linear(width, 2 * inner, use_bias=False, key=keys[0])
            self.convolution = eqx.nn.Conv1d(
                inner, inner, taps, padding=((taps - 1, 0),), groups=inner, key=keys[1]
            )
            self.select = eqx.nn.Linear(inner, rank + 2 * states, use_bias=False, key=keys[2])
            self.step = eqx.nn.Linear(rank, inner, key=keys[3])
            self.log_decay = jnp.log(jnp.ones((inner, 1)) * jnp.arange(1.0, states + 1)[None, :])
            self.skip = jnp.ones(inner)
            self.contract = eqx.nn.Linear(inner, width, use_bias=False, key=keys[4])

        def __call__(self, x):
            h, gate = jnp.split(jax.vmap(self.expand)(self.norm(x)), 2, -1)
            h = jax.nn.silu(self.convolution(h.T).T)
            step, b, c = jnp.split(jax.vmap(self.select)(h), (rank, rank + states), -1)
            step = jax.nn.softplus(jax.vmap(self.step)(step))
            decay = jnp.exp(step[:, :, None] * -jnp.exp(self.log_decay)[None])
            state = recurrence(decay, (step * h)[:, :, None] * b[:, None, :])
            y = jnp.einsum("tis,ts->ti", state, c) + h * self.skip[None, :]
            return x + jax.vmap(self.contract)(y * jax.nn.silu(gate))

    class Mamba(eqx.Module):
        block: Block
        norm: RMSNorm
        head: eqx.nn.Linear

        def __init__(self, key):
            block, head = jax.random.split(key)
            self.block = Block(block)
            self.norm = RMSNorm()
            self.head = eqx.nn.Linear(width, 3, key=head)

        def __call__(self, x):
            return jax.vmap(self.head)(self.norm(self.block(x)))

    return equinox_parts(Mamba, normal(2, length, width))


# A softplus and two silus, all of them gates: of its own accord `lift` makes no nodes.
EXAMPLES = (
    Example(
        "Mamba",
        "equinox",
        "sequence",
        _make,
        activations=3,
        optional=3,
        errors={
            "forward_sample": "The network has no nodes",
            "pcff": "The network has no nodes",
            "monte_carlo": "The network has no nodes",
            "log_joint": "The network has no nodes",
            "local_reparameterization": ".log_decay once for all examples",
            "flipout": ".log_decay once for all examples",
        },
    ),
)
