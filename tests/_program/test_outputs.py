"""Output nodes, and the parents of nodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax._program import parents, trace
from tests.helpers import (
    assert_identical,
    spin,
    weighted,
)

KEY = jax.random.key(7)
X = jnp.linspace(-1.0, 1.0, 4)


def outputs(net, *args):
    return {site.name: site.output for site in trace(net, args).sites}


MOVEMENT = {
    "as it is": lambda h: h,
    "reshape": lambda h: h.reshape(2, 2),
    "slice": lambda h: h[1:3],
    "strided slice": lambda h: h[::2],
    "element": lambda h: h[0],
    "gather": lambda h: h[jnp.array([0, 2])],
    "transpose": lambda h: h[None].T,
    "moveaxis": lambda h: jnp.moveaxis(h[None], 0, 1),
    "convert": lambda h: h.astype(jnp.bfloat16),
    "concatenate": lambda h: jnp.concatenate([h, jnp.ones(1)]),
    "stack": lambda h: jnp.stack([h, jnp.ones(4)]),
    "split": lambda h: jnp.split(h, 2),
    "flip": lambda h: h[::-1],
    "squeeze": lambda h: h[None].squeeze(0),
    "tree": lambda h: {"a": h, "b": (h, 1.0)},
    "jit": jax.jit(lambda h: h.reshape(2, 2)),
    "remat": jax.checkpoint(lambda h: h.reshape(2, 2)),
    "vmap": jax.vmap(lambda h: h[None]),
    "cond": lambda h: lax.cond(True, lambda h: h, lambda h: h[::-1], h),
    "carried unchanged": lambda h: lax.fori_loop(0, 2, lambda i, c: c, h),
    "sharding": lambda h: lax.with_sharding_constraint(
        h, jax.sharding.SingleDeviceSharding(jax.devices()[0])
    ),
    "device_put": lambda h: jax.device_put(h, jax.devices()[0]),
    "stop_gradient": lax.stop_gradient,
    "pad": lambda h: jnp.pad(h, 1),
    "barrier": lambda h: lax.optimization_barrier((jnp.ones(2), h)),
    "written into an array": lambda h: jnp.zeros((3, 4)).at[1].set(h),
    "written at each step": lambda h: lax.fori_loop(
        0, 2, lambda i, a: lax.dynamic_update_slice(a, h[None], (i, 0)), jnp.zeros((2, 4))
    ),
    "masked": lambda h: jnp.where(jnp.arange(4) < 2, h, 0.0),
    "constant scale and shift": lambda h: 2 * h + 1,
    "negated": lambda h: -h,
    "scale in a jit": jax.jit(lambda h: h * 2),
    "scale in a scan": lambda h: lax.scan(lambda c, _: (c * 2, None), h, None, length=2)[0],
    "mapped cond": lambda h: jax.vmap(lambda h, c: lax.cond(c, lambda h: h, lambda h: 0.0, h))(
        h, jnp.arange(4) < 2
    ),
}
NOT_MOVEMENT = {
    "affine map": lambda h, x: weighted(2, h, x) + 1,
    "matrix": lambda h, x: h @ jnp.ones((4, 2)),
    "sum": lambda h, x: h.sum(),
    "negated": lambda h, x: weighted(-1, h, x),
    "reused": lambda h, x: (h, h.sum()),
    "chosen by": lambda h, x: lax.cond(h[0] > 0, lambda: 1.0, lambda: 2.0),
    "index": lambda h, x: (h, jnp.ones(4)[h[0].astype(int)]),
    "index of a write": lambda h, x: (h, jnp.zeros(4).at[h[0].astype(int)].set(1.0)),
    "mask": lambda h, x: (h, jnp.where(h > 0, 1.0, 2.0)),
    "added into an array": lambda h, x: jnp.ones(4).at[:].add(h),
    "loop condition": lambda h, x: lax.while_loop(lambda c: c < h[0], lambda c: c + 1.0, 0.0),
    "feeds a node": lambda h, x: (h, spin(h, "next")),
    "is a node's parameter": lambda h, x: (
        h,
        cg.node(cg.nodes.Gaussian(jnp.abs(h)), jnp.ones(4), name="next"),
    ),
    "in a jit": jax.jit(lambda h, x: weighted(2, h, x)),
    "in a scan": lambda h, x: lax.scan(lambda c, _: (weighted(2, c, x), None), h, None, length=2)[
        0
    ],
    "read by a scan": lambda h, x: lax.scan(lambda c, s: (c + s, None), 0.0, h)[0],
    "not returned": lambda h, x: 1.0,
}


@pytest.mark.parametrize("how", MOVEMENT)
def test_data_movement_leaves_an_output_node(how):
    assert outputs(lambda x: MOVEMENT[how](spin(x, "h")), X) == {"h": True}


@pytest.mark.parametrize("how", NOT_MOVEMENT)
def test_any_other_use_makes_it_an_inner_node(how):
    assert outputs(lambda x: NOT_MOVEMENT[how](spin(x, "h"), x), X)["h"] is False


def test_output_nodes_of_scans():
    def net(x):
        def step(c, s):
            h = spin(c + s, "h")
            y = spin(h * 2, "y")
            return h, y.reshape(2, 2)

        return lax.scan(step, x, jnp.ones((3, 4)))[1]

    assert outputs(net, X) == {"h": False, "y": True}
    carried = lambda x: lax.scan(lambda c, _: (spin(x, "h"), None), x, None, length=2)[0]  # noqa: E731
    assert outputs(carried, X) == {"h": True}
    fed_back = lambda x: lax.scan(lambda c, _: (spin(c, "h"), None), x, None, length=2)[0]  # noqa: E731
    assert outputs(fed_back, X) == {"h": False}


def test_pcff_keeps_output_nodes_collapsed_unless_named():
    def net(x):
        h = spin(x, "h")
        return spin(h * 2, "out").reshape(2, 2), h * 2

    for rate in (1.0, {"*": 1.0}, jnp.float32(1.0)):
        out, h = cg.pcff(net, rate)(KEY, X)
        assert set(np.abs(h).tolist()) == {2.0}
        np.testing.assert_array_equal(np.abs(out).ravel(), np.full(4, np.tanh(np.float32(2))))
    for procedure in (cg.pcff(net, {"*": 1.0, "out": 1.0}), cg.pcff(net, {"o*": 1.0, "h": 1.0})):
        assert_identical(procedure(KEY, X), cg.forward_sample(net)(KEY, X))
    assert set(np.abs(cg.forward_sample(net)(KEY, X)[0]).ravel().tolist()) == {1.0}


# -- parents


def test_parents_follow_the_natural_parameter_alone():
    def net(x):
        a = spin(x, "a")
        b = cg.node(cg.nodes.Gaussian(jnp.abs(a)), x, name="b")
        mask = cg.noise(cg.nodes.BernoulliMask(), jnp.full(4, 0.5), name="mask", like=b)
        return spin(mask * b, "c") + lax.cond(a[0] > 0, lambda: 1.0, lambda: 2.0)

    program = trace(net, (X,))
    found, results = parents(program)
    by_name = {s.name: {program.sites[i].name for i, _ in found[s.index]} for s in program.sites}
    assert by_name == {"a": set(), "b": {"a"}, "mask": set(), "c": {"mask", "b"}}
    assert {program.sites[i].name for i, _ in results[0]} == {"a", "c"}
