"""Equal networks draw equal numbers, however the parts between their nodes are written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg

W = jax.random.normal(jax.random.key(0), (3, 4))
V = jax.random.normal(jax.random.key(1), (4, 2))
X = jax.random.normal(jax.random.key(2), (5, 3))
KEY = jax.random.key(3)


def hidden(x):
    return cg.node(cg.nodes.Spin(), x @ W, name="hidden")


def out(h):
    return cg.node(cg.nodes.ReLU(), h @ V, name="out")


def plain(x):
    return out(hidden(x))


def jitted(x):
    return jax.jit(lambda x: jax.jit(out)(hidden(x)))(x)


def rematerialised(x):
    return jax.checkpoint(out)(jax.checkpoint(hidden)(x))


def behind_a_barrier(x):
    return lax.optimization_barrier(out(*lax.optimization_barrier((hidden(x),))))


def in_a_branch(x):
    return lax.cond(x[0, 0] > -100, lambda x: out(hidden(x)), lambda x: jnp.zeros((5, 2)), x)


def moved(x):
    h = jnp.concatenate(jnp.split(hidden(x[::-1][::-1]), 2, axis=1), axis=1)
    return out(h.T.reshape(20).reshape(4, 5).T)


def copied(x):
    return jax.device_put(out(jax.device_put(hidden(x))))


REWRITINGS = (jitted, rematerialised, behind_a_barrier, in_a_branch, moved, copied)
VALUES = {"hidden": jnp.ones((5, 4))}
PROCEDURES = {
    "pcff": lambda net: cg.pcff(net, 0.5)(KEY, X),
    "forward_sample": lambda net: cg.forward_sample(net)(KEY, X),
    "feed_forward": lambda net: cg.feed_forward(net)(X),
    "clamp": lambda net: cg.pcff(cg.clamp(net, VALUES), 0.5)(KEY, X),
    "log_joint": lambda net: cg.log_joint(net, batch_axes=0)(
        {**VALUES, "out": jnp.ones((5, 2))}, X
    ),
}


@pytest.mark.parametrize("name", PROCEDURES)
def test_rewritings_draw_the_same_numbers(name):
    procedure = PROCEDURES[name]
    expected, *found = jax.jit(lambda: [procedure(net) for net in (plain, *REWRITINGS)])()
    for net, got in zip(REWRITINGS, found, strict=True):
        # To the rounding of what XLA fuses in another way: other numbers would be far off.
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6, err_msg=net.__name__)
    if name in ("pcff", "forward_sample"):
        assert (expected != PROCEDURES["feed_forward"](plain)).any()


def test_the_streams_of_a_node_do_not_depend_on_what_stands_around_it():
    def other(x):
        h = jax.checkpoint(hidden)(x)
        later = jax.jit(lambda h: cg.node(cg.nodes.Spin(), h, name="more"))(h)
        return h, later

    first, _ = cg.forward_sample(other)(KEY, X)
    np.testing.assert_array_equal(first, cg.forward_sample(hidden)(KEY, X))


def test_a_walk_may_be_traced_as_often_as_jax_likes():
    procedure = cg.pcff(lambda x: in_a_branch(rematerialised(x) @ V.T @ W.T), 0.5)
    traced = [jax.make_jaxpr(procedure)(KEY, X) for _ in range(2)]
    assert str(traced[0]) == str(traced[1])
