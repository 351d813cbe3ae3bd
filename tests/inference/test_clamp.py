"""Clamping: nodes with given values, in a network that otherwise stays what it was."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax._program import trace
from cgjax.inference import _procedure
from tests.helpers import assert_identical, relu, spin, two_layers, weights

KEY = jax.random.key(41)
X = jnp.array([0.4, -0.7])


def net(x):
    a = spin(x, "a")
    with cg.scope("block"):
        b = relu(a + 1)
        b = relu(b * 2)
    return 2 * spin(b - 1, "a") + a


def site_names(f, *args):
    return [s.name for s in trace(f, args).sites]


@pytest.mark.parametrize(
    "value", [0.25, 1, [0.25, 0.5], np.ones(2), jnp.ones((1,)), jnp.float32(2)]
)
def test_the_value_replaces_the_statistic_and_cuts_its_parents(value):
    clamped = cg.clamp(net, {"block/relu_0": value})
    b = np.broadcast_to(np.asarray(value, np.float32), 2)
    h = jnp.tanh(jax.nn.relu(2 * b) - 1)
    np.testing.assert_allclose(clamped(X), 2 * h + jnp.tanh(X), rtol=1e-6)
    only_a = jax.jacobian(clamped)(X)
    np.testing.assert_allclose(only_a, np.diag(1 - np.tanh(np.asarray(X)) ** 2), rtol=1e-5)


def test_the_other_nodes_keep_their_names_draws_and_kinds():
    names = ["a", "block/relu_0", "block/relu_1", "a#1"]
    assert site_names(net, X) == names
    for name in names:
        clamped = cg.clamp(net, {name: 0.5})
        left = [n for n in names if n != name]
        assert site_names(clamped, X) == left
        assert list(cg.with_nodes(cg.pcff(clamped, {left[0]: 1.0}))(KEY, X)[1]) == left
    twice = cg.clamp(cg.clamp(net, {"a": 0.5}), {"a#1": 0.25})
    assert site_names(twice, X) == names[1:3]
    np.testing.assert_allclose(twice(X), jnp.full(2, 2 * 0.25 + 0.5))
    with pytest.raises(ValueError, match="no node 'a'.*'block/relu_0', 'block/relu_1'"):
        cg.clamp(twice, {"a": 0.5})(X)
    assert_identical(cg.clamp(net, {})(X), jax.jit(net)(X))
    assert site_names(cg.clamp(net, {}), X) == names

    def kinds(x):
        x = cg.observe(x, -1.0, 1.0, name="seen")
        return x * cg.noise(cg.nodes.GaussianMask(), jnp.full(2, 0.5), name="drop") * spin(x, "h")

    assert [s.kind for s in trace(cg.clamp(kinds, {"h": 1.0}), (X,)).sites] == ["observe", "noise"]
    dropped = cg.clamp(kinds, {"drop": 1.0})
    assert_identical(cg.pcff(dropped, 0.0)(KEY, X), cg.feed_forward(dropped)(X))


def test_names_survive_inside_scopes_and_custom_derivatives():
    @jax.custom_jvp
    def custom(x):
        with cg.scope("custom"):
            return relu(relu(x))

    custom.defjvp(lambda p, t: (custom(*p), 7 * t[0]))

    def inner(x):
        return relu(custom(relu(spin(x, "h"))))

    def outer(x):
        with cg.scope("left"):
            y = cg.clamp(inner, {"relu_0": 0.5})(x)
        with cg.scope("right"):
            return 2 * cg.clamp(inner, {"h": 1.0})(y)

    inner_names = ["h", "relu_0", "custom/relu_0", "custom/relu_1", "relu_1"]
    assert site_names(inner, X) == inner_names
    expected = [f"left/{n}" for n in inner_names if n != "relu_0"]
    expected += [f"right/{n}" for n in inner_names if n != "h"]
    assert site_names(outer, X) == expected
    again = cg.clamp(outer, {"left/h": 1.0})
    assert site_names(again, X) == expected[1:]
    # The rule is still there: nodes inside raise when sampled, and it gives the derivative.
    with pytest.raises(TypeError, match="inline=True"):
        cg.pcff(again, {"right/custom/relu_1": 1.0})(KEY, X)
    gradient = jax.grad(lambda x: cg.clamp(lambda x: custom(spin(x, "h")), {"h": x})(x).sum())(X)
    assert_identical(gradient, jnp.full(2, 7.0))


def test_commutes_with_sampling():
    """Sampling a clamped network draws, for the other nodes, what sampling the network draws."""
    net = lambda x: [3 * spin(x, n) for n in "abcd"]  # noqa: E731
    x = jnp.zeros(50)
    full = cg.forward_sample(net)(KEY, x)
    # Clamping the last node leaves the numbers of those before it as they were.
    part = cg.forward_sample(cg.clamp(net, {"d": 0.5}))(KEY, x)
    assert_identical(part[:3], full[:3])
    assert_identical(part[3], jnp.full(50, 1.5))


def test_inside_a_scan_values_have_a_time_axis_or_serve_every_step():
    def f(x):
        def step(c, s):
            c = spin(c + s, "h")
            inner = lax.scan(lambda d, _: (d + relu(d, "r"), None), c, None, length=3)[0]
            return c, inner

        return lax.scan(step, x, jnp.ones((4, 2)))

    over_time = jnp.arange(8.0).reshape(4, 2) / 8
    carry, ys = cg.clamp(f, {"h": over_time, "r": 0.5})(X)
    assert_identical(carry, over_time[-1])
    assert_identical(ys, over_time + 1.5)
    at_one_time = jnp.zeros((4, 3, 1)).at[2, 1].set(1.0)
    ys = cg.clamp(f, {"h": over_time, "r": at_one_time})(X)[1]
    assert_identical(ys, over_time + jnp.array([0.0, 0.0, 1.0, 0.0])[:, None])
    assert_identical(cg.clamp(f, {"h": jnp.float32(0.5)})(X)[0], jnp.full(2, 0.5))
    assert site_names(cg.clamp(f, {"h": over_time}), X) == ["r"]
    nodes = cg.with_nodes(cg.pcff(cg.clamp(f, {"h": over_time}), 0.5))(KEY, X)[1]
    assert nodes["r"].shape == (4, 3, 2)
    with pytest.raises(ValueError, match=r"shape \(3, 2\) does not broadcast.*\(4, 2\)"):
        cg.clamp(f, {"h": jnp.ones((3, 2))})(X)


def test_inside_branches_remat_and_jit():
    def f(x, yes):
        x = jax.checkpoint(jax.jit(lambda x: spin(x, "inner")))(x)
        return lax.cond(yes, lambda x: spin(x, "yes"), lambda x: spin(x, "no") - 1, x)

    clamped = cg.clamp(f, {"yes": 0.25, "no": jnp.array([0.5, 0.75])})
    assert_identical(clamped(X, True), jnp.full(2, 0.25))
    assert_identical(clamped(X, False), jnp.array([-0.5, -0.25]))
    assert site_names(clamped, X, True) == ["inner"]
    assert_identical(cg.clamp(f, {"inner": 0.0})(X, True), jnp.zeros(2))


def test_inside_a_while_loop_raises():
    f = lambda x: lax.while_loop(lambda c: c.sum() < 0, lambda c: spin(c, "h"), x)  # noqa: E731
    with pytest.raises(ValueError, match="'h' lies in a `while_loop`.*cannot be given values"):
        cg.clamp(f, {"h": 1.0})(X)
    with pytest.raises(ValueError, match="'h' lies in a `while_loop`"):
        cg.log_joint(f)({"h": 1.0}, X)
    # Other nodes may be clamped beside it.
    beside = lambda x: f(spin(x, "a"))  # noqa: E731
    assert site_names(cg.clamp(beside, {"a": 1.0}), X) == ["h"]
    assert_identical(cg.clamp(beside, {"a": 1.0})(X), jnp.ones(2))


def test_values_may_be_traced_mapped_and_differentiated():
    f = lambda v, x: cg.clamp(net, {"a": v})(x).sum()  # noqa: E731
    values = jnp.array([[0.5, 1.0], [-1.0, 0.75], [0.0, 0.0]])
    got = jax.jit(jax.vmap(jax.grad(f), (0, None)))(values, X)
    for v, g in zip(values, got, strict=True):
        # One program for all rows, and one for each: rounding only.
        np.testing.assert_allclose(g, jax.grad(f)(v, X), rtol=1e-5)
    # New values of one shape and structure do not trace the network again.
    traces = 0

    def counted(x):
        nonlocal traces
        traces += 1
        return net(x)

    for v in values:
        cg.feed_forward(cg.clamp(counted, {"a": v}))(X)
    assert traces == 1


def test_other_values_compile_nothing():
    def value(v):
        net = cg.clamp(two_layers, {"first": jnp.full(4, v)})
        return cg.pcff(net, 0.5)(KEY, weights(3, 4, 4, 2), jnp.ones(3))

    one = value(0.5)
    run: Any = _procedure.run_compiled
    compiled = run._cache_size()
    assert (value(-0.75) != one).any()
    np.testing.assert_array_equal(value(0.5), one)
    assert run._cache_size() == compiled


def test_mistakes_raise():
    with pytest.raises(ValueError, match=r"shape \(3,\) does not broadcast.*'a' of shape \(2,\)"):
        cg.clamp(net, {"a": jnp.ones(3)})(X)
    with pytest.raises(ValueError, match="no node 'b'. Its nodes: 'a', 'block/relu_0'"):
        cg.clamp(net, {"b": 1.0})(X)
    with pytest.raises(ValueError, match="no node 'b'. Its nodes: none"):
        cg.clamp(lambda x: x, {"b": 1.0})(X)
