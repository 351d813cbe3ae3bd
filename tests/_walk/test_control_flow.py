"""Nodes in control flow: what is computed, recorded and refused, and what it compiles to."""

import pathlib
import re

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import lax
from jax._src import source_info_util

import cgjax as cg
from cgjax._program import UnsupportedPrimitiveError
from cgjax._walk.rows import Rows
from tests._walk.networks import (
    KEY,
    X,
    scan_in_while,
    while_in_scan,
    while_loop,
)
from tests.helpers import (
    assert_identical,
    optimised_hlo,
    spin,
)

# The run-time check of annotations puts its own lines between the user's and the library's.
source_info_util.register_exclusion(str(pathlib.Path(jaxtyping.__file__).parent))


def test_loops_compute_what_they_computed():
    def collatz(n):
        # Counts steps, with a node that passes its value.
        def body(c):
            n, steps = c
            n = cg.node(cg.nodes.Gaussian(0.0), n, name="n")
            return jnp.where(n % 2 == 0, n / 2, 3 * n + 1), steps + 1

        return lax.while_loop(lambda c: c[0] > 1, body, (n, 0))[1]

    numbers = jnp.arange(1.0, 10.0)
    expected = [0, 1, 7, 2, 5, 8, 16, 3, 19]
    assert cg.forward_sample(jax.vmap(collatz))(KEY, numbers).tolist() == expected
    assert [int(cg.forward_sample(collatz)(KEY, n)) for n in numbers] == expected


def test_scan_records_stack_in_time_order_and_broadcast_rates_over_time():
    def net(x):
        def step(c, s):
            c = spin(c + s, "h")
            inner = lax.scan(lambda d, _: (spin(d, "in"), None), c, None, length=2)[0]
            return inner, inner * 2

        return lax.scan(step, x, jnp.ones((3, 4)), reverse=True)

    for rate, expected in (
        (jnp.array([0.0, 1.0, 0.0])[:, None], [False, True, False]),
        (1.0, [True, True, True]),
    ):
        nodes = cg.with_nodes(cg.pcff(net, {"h": rate, "in": 1.0}))(KEY, X)[1]
        assert nodes["h"].shape == (3, 4) and nodes["in"].shape == (3, 2, 4)
        sampled = (np.abs(nodes["h"]) == 1).all(1).tolist()
        assert sampled == expected
    rate = jnp.zeros((3, 2, 1)).at[2, 1].set(1.0)
    nodes = cg.with_nodes(cg.pcff(net, {"in": rate}))(KEY, X)[1]
    assert np.argwhere((np.abs(nodes["in"]) == 1).all(2)).tolist() == [[2, 1]]
    with pytest.raises(ValueError, match="does not broadcast"):
        cg.pcff(net, {"h": jnp.ones((2, 1))})(KEY, X)


def test_an_empty_scan_has_empty_records():
    net = lambda x: lax.scan(lambda c, s: (spin(c + s, "h"), c), x, jnp.ones((0, 4)))  # noqa: E731
    (out, ys), nodes = cg.with_nodes(cg.pcff(net, 1.0))(KEY, X)
    assert_identical(out, X)
    assert ys.shape == nodes["h"].shape == (0, 4)


def test_a_branch_that_is_not_taken_is_nan_and_nothing_else_is():
    def net(x):
        inner = lambda x: lax.cond(x[1] > 9, lambda x: spin(x, "deep"), lambda x: x, x)  # noqa: E731
        other = lambda x: spin(spin(x, "no"), "no2")  # noqa: E731
        return 2 * lax.cond(x[0] > 0, inner, other, spin(x, "always"))

    out, nodes = cg.with_nodes(cg.feed_forward(net))(X)
    assert set(nodes) == {"always", "deep", "no", "no2"}
    assert np.isnan(nodes["deep"]).all()
    assert not any(np.isnan(nodes[n]).any() for n in ("always", "no", "no2"))
    assert not np.isnan(out).any()
    nodes = cg.with_nodes(cg.pcff(net, 0.5))(KEY, jnp.array([9.0, 9.0, 9.0, 9.0]))[1]
    assert np.isnan(nodes["no"]).all() and np.isnan(nodes["no2"]).all()
    # A branch that holds NaN never reaches a gradient.
    loss = lambda x: cg.with_nodes(cg.pcff(net, 0.5))(KEY, x)[0].sum()  # noqa: E731
    assert np.isfinite(jax.grad(loss)(X)).all()


def test_nodes_in_a_while_loop_are_sampled_but_not_captured():
    for net in (while_loop, while_in_scan, scan_in_while):
        with pytest.raises(ValueError, match="'h' lies in a `while_loop`.*helpers.py"):
            cg.with_nodes(cg.pcff(net, 0.5))(KEY, X)
    assert set(np.abs(cg.forward_sample(while_loop)(KEY, X)).tolist()) == {1.0}


@pytest.mark.parametrize("rate", [jnp.float32(1.0), jnp.ones(4), jnp.ones((4,), jnp.bfloat16)])
def test_rates_in_a_while_loop_may_be_arrays(rate):
    f = lambda x: 2 * while_loop(x)  # noqa: E731
    assert_identical(cg.pcff(f, rate)(KEY, X), cg.forward_sample(f)(KEY, X))
    traced = jax.jit(lambda r: cg.pcff(f, {"h": r})(KEY, X))(rate)
    assert_identical(traced, cg.forward_sample(f)(KEY, X))


def test_side_effects_of_the_network_are_kept():
    seen = []

    def net(x):
        def step(c, s):
            c = spin(c + s, "h")
            jax.debug.callback(lambda v: seen.append(float(v)), c.sum())
            return c, c

        return lax.scan(step, x, jnp.ones((3, 4)))[1] * 2

    out = cg.forward_sample(net)(KEY, X)
    jax.effects_barrier()
    assert sorted(seen) == sorted((out / 2).sum(1).tolist())


def test_nodes_in_a_primitive_that_cannot_be_entered_raise_and_name_it():
    def net(x):
        return lax.custom_linear_solve(lambda v: spin(x, "h") * v, x, lambda matvec, b: b)

    match = "Nodes inside `custom_linear_solve` at .*test_control_flow.py.*cgjax.component"
    for procedure in (cg.pcff(net, 0.5), cg.forward_sample(net)):
        with pytest.raises(UnsupportedPrimitiveError, match=match):
            procedure(KEY, X)


# -- caches of JAX


def test_a_function_traced_before_outside_is_not_reused_wrongly_inside():
    inner = jax.jit(lambda x: spin(x, "h"))

    def body(c, _):
        return inner(c), None

    def net(x):
        x = lax.scan(body, x, None, length=2)[0]
        return lax.cond(x[0] < 9, inner, lambda x: x, jax.checkpoint(inner)(x)) * 2

    outside = net(X), jax.jit(net)(X), jax.grad(lambda x: net(x).sum())(X), inner(X)
    sample = cg.forward_sample(net)(KEY, X)
    assert set(np.abs(sample).tolist()) == {2.0}
    jax.grad(lambda x: cg.forward_sample(net)(KEY, x).sum())(X)
    again = net(X), jax.jit(net)(X), jax.grad(lambda x: net(x).sum())(X), inner(X)
    assert_identical(again, outside)


def test_nodes_of_many_layers_are_compiled_alike():
    """The kernels of equal nodes are equal, so that the compiler makes them once."""

    def net(weights, x):
        for k, w in enumerate(weights):
            x = cg.node(cg.nodes.Spin(), x @ w, name=f"layer{k}")
        return x

    weights = jnp.ones((8, 4, 4)) / 4
    text = optimised_hlo(cg.pcff(net, {"layer*": 0.5}), KEY, weights, jnp.ones((3, 4)))
    bodies = re.findall(r"^%\d+ \(.*?^}", text, re.MULTILINE | re.DOTALL)
    unnamed = [re.sub(r"%[\w.-]+|, metadata={.*}|\w+\.\d+:", "", b) for b in bodies if "tanh" in b]
    assert len(unnamed) >= 6
    # The first layer's has an operand less, its number being that of the unknown zero.
    assert len(set(unnamed)) <= 3


def test_rows_are_sliced_and_not_gathered_under_vmap():
    words = jax.random.bits(KEY, (5, 4, 3))

    def third(known, words):
        return Rows(known).of(words, 2)

    np.testing.assert_array_equal(third(jnp.uint32([0xFFFFFFFF]), words[0]), words[0, 2])
    mapped = jax.vmap(jax.vmap(third, (0, None)), (None, 0))
    np.testing.assert_array_equal(mapped(words, words)[1, 3], words[1, 2])
    assert "gather" not in str(jax.make_jaxpr(mapped)(words, words))
