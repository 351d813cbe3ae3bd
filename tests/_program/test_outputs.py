"""Output nodes: returned, renamed at most, and feeding nothing else, however that is written."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import cgjax as cg
from cgjax._program import trace

X = jnp.ones((3, 4))
W = jnp.eye(4)
GAIN = jnp.arange(4.0)[None]


def _twice(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x, x


def spin(e):
    return cg.node(cg.nodes.Spin(), e)


def beside(use):
    """The statistic, and what something else makes of it."""

    def net(x):
        h = spin(x)
        return h, use(h, x)

    return net


def dropped(x):
    h = spin(x)
    jax.debug.print("{}", h)
    jax.debug.callback(lambda value: None, jnp.exp(h))
    _ = jnp.exp(h) @ W
    return h


def in_a_custom_derivative(x):
    @jax.custom_jvp
    def f(x):
        return 2 * spin(x)

    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    return f(x)


OUTPUTS = {
    "itself": spin,
    "scaled": lambda x: 30 * spin(x / 30),
    "shifted": lambda x: 1 - spin(x) / 3,
    "scaled by an array": lambda x: GAIN * spin(x) + GAIN,
    "scaled by a computed array": lambda x: jnp.linspace(1, 2, 4)[None] * spin(x),
    "negated": lambda x: -spin(x),
    "masked by a selection": lambda x: jnp.where(x > 0, spin(x), 0),
    "masked by a product": lambda x: spin(x) * (x > 0),
    "masked by a sum": lambda x: spin(x) + jnp.where(x > 0, 0, -1e9),
    "padded": lambda x: jnp.pad(spin(x), 1),
    "written": lambda x: jnp.zeros((5, 4)).at[:3].set(spin(x)),
    "updated": lambda x: lax.dynamic_update_slice(jnp.zeros((5, 4)), spin(x), (0, 0)),
    "gathered": lambda x: spin(x)[jnp.array([0, 2])],
    "put together": lambda x: jnp.concatenate([spin(x).T, x.T]).reshape(-1)[::-1],
    "converted": lambda x: spin(x).astype(jnp.bfloat16).astype(int),
    "guarded": lambda x: lax.optimization_barrier((spin(x), jnp.exp(x)))[0],
    "without derivative": lambda x: lax.stop_gradient(spin(x)),
    "a sum of one": lambda x: spin(x[:, :1]).sum(1),
    "printed, and dropped": dropped,
    "in branches": lambda x: lax.cond(x.sum() > 0, lambda: spin(x), lambda: 2 * spin(x)),
    "in a scan": lambda x: lax.scan(lambda c, row: (c, 2 * spin(row)), 0.0, x)[1],
    "after a scan": lambda x: 2 * lax.scan(lambda c, row: (spin(row), None), x[0], x)[0],
    "rows of a scan": lambda x: lax.scan(lambda c, row: (c, 2 * row), 0.0, spin(x))[1],
    "in a loop": lambda x: lax.fori_loop(0, 3, lambda i, h: spin(x), x),
    "mapped": jax.vmap(lambda x: 2 * spin(x), in_axes=1),
    "jitted": jax.jit(lambda x: jax.jit(spin)(x) / 3),
    "recomputed": jax.checkpoint(lambda x: spin(x)[:1]),
    "with a custom derivative": in_a_custom_derivative,
    "in a component": cg.component(lambda x: 2 * spin(x)),
    "lends its axes": lambda x: (
        lambda h: (h, cg.noise(cg.nodes.BernoulliMask(), jnp.full(X.shape, 0.5), like=h) * x)
    )(spin(x)),
}
USED = {
    "an affine map": lambda x: spin(x) @ W,
    "an affine map of data": lambda x: spin(x) * x,
    "a sum with data": lambda x: spin(x) + x,
    "a function": lambda x: jnp.exp(spin(x)),
    "a square": lambda x: spin(x) ** 2,
    "a product with itself": lambda x: (lambda h: h * h)(spin(x)),
    "a denominator": lambda x: 1 / spin(x),
    "a sum": lambda x: spin(x).sum(),
    "a running sum": lambda x: jnp.cumsum(spin(x), 0),
    "a clip": lambda x: jnp.clip(spin(x), -0.5, 0.5),
    "noise": lambda x: spin(x) * jax.random.normal(jax.random.key(0), x.shape),
    "a decision": beside(lambda h, x: lax.cond(h.sum() > 0, lambda: x, lambda: 2 * x)),
    "a selection": beside(lambda h, x: jnp.where(h > 0, x, 0)),
    "an index": beside(lambda h, x: x[h[0, 0].astype(int)]),
    "another result": beside(lambda h, x: h @ W),
    "a loop's end": lambda x: lax.while_loop(lambda c: c.sum() < 3, spin, x),
    "the next step": lambda x: lax.scan(lambda h, row: _twice(spin(h @ W + row)), x[0], x)[1],
    "a component": beside(lambda h, x: cg.component(lambda h: jnp.exp(h))(h)),
}


def outputs(net, *args):
    return [site.output for site in trace(net, args).sites if site.kind == "node"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_renamed_statistic_is_an_output(name):
    assert set(outputs(OUTPUTS[name], X)) == {True}


@pytest.mark.parametrize("name", USED)
def test_a_statistic_that_is_used_is_no_output(name):
    assert set(outputs(USED[name], X)) == {False}


def test_a_parameter_scales_and_a_constant_renames():
    assert outputs(lambda gain, x: gain * spin(x), GAIN, X) == [False]
    assert outputs(lambda x: GAIN * spin(x), X) == [True]


def test_of_two_nodes_in_a_row_the_last_may_be_an_output():
    assert outputs(lambda x: 2 * spin(spin(x) @ W), X) == [False, True]
    assert outputs(lambda x: (lambda h: (h, spin(h)))(spin(x)), X) == [False, True]
