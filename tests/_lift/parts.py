"""What the tests of `lift` share."""

import jax
import jax.numpy as jnp

import cgjax as cg

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (5, 4))
Y = jnp.sign(jax.random.normal(jax.random.key(2), (5, 4)))
LABELS = jnp.arange(5) % 4


def weights(seed, shape=(4, 4)):
    return jax.random.normal(jax.random.key(seed), shape)


PARAMS = {"w": weights(3), "u": weights(4), "v": weights(5), "gain": jnp.ones(4) * 1.5}


def families(net, *args, **options):
    return [entry.family for entry in cg.lift(net, **options).report(*args).lifted]


def skipped(net, *args, **options):
    return [(e.function, e.optional) for e in cg.lift(net, **options).report(*args).skipped]


GATE, NEVER = True, False
