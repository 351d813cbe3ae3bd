"""Which parameters are decayed, by the two recipes of the papers' codes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import cgjax as cg
from train.engine.recipes import decayed
from train.models.resnet import ResNet


class Recurrent(nnx.Module):
    """The parameters of a layer of an independently recurrent network, and of what is around it."""

    def __init__(self, rngs):
        self.affine = nnx.Linear(2, 3, rngs=rngs)
        self.recurrent = nnx.Param(jnp.ones(3))
        self.norm = nnx.BatchNorm(3, rngs=rngs)


def network():
    class Network(nnx.Module):
        def __init__(self):
            self.layers = nnx.List([Recurrent(nnx.Rngs(k)) for k in range(2)])
            self.output = nnx.Linear(3, 2, rngs=nnx.Rngs(2))

    return cg.functional(Network())[1]


ALL_BUT = functools.partial(decayed, but=("*bias", "*recurrent"))


def test_the_recipe_of_residual_networks_decays_everything():
    net = nnx.eval_shape(lambda: ResNet(rngs=nnx.Rngs(0)))
    params = cg.functional(net)[1]
    mask = decayed(params)
    assert jax.tree.structure(mask) == jax.tree.structure(params)
    # 21 convolutions, scale and bias at 19 places, and the last layer's two.
    assert jax.tree.leaves(mask) == [True] * (21 + 2 * 19 + 2)


def test_the_recipe_of_recurrent_networks_decays_scales_and_neither_biases_nor_recurrent_weights():
    mask = ALL_BUT(network())
    layer = {
        "affine": {"kernel": True, "bias": False},
        "recurrent": False,
        "norm": {"scale": True, "bias": False},
    }
    expected = {"layers": {0: layer, 1: layer}, "output": {"kernel": True, "bias": False}}
    assert nnx.to_pure_dict(mask) == expected


def test_optax_shrinks_what_the_mask_says_and_nothing_else():
    """Where the gradient is 0, a step of SGD multiplies by 1 - learning rate * decay."""
    params = jax.tree.map(jnp.ones_like, network())
    optimiser = optax.chain(optax.add_decayed_weights(0.5, mask=ALL_BUT), optax.sgd(0.5))
    updates, _ = optimiser.update(
        jax.tree.map(jnp.zeros_like, params), optimiser.init(params), params
    )
    after = optax.apply_updates(params, updates)
    expected = jax.tree.map(lambda p, d: p * (0.75 if d else 1.0), params, ALL_BUT(params))
    jax.tree.map(np.testing.assert_array_equal, after, expected)


def test_a_pattern_that_matches_nothing_is_named():
    with pytest.raises(ValueError, match=r"'\*weight_hh' matches no parameter; there are layers/0"):
        decayed(network(), but=("*weight_hh",))
