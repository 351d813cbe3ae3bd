"""The walker: control flow, names, output nodes, and noise that is never shared."""

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
from cgjax._program import UnsupportedPrimitiveError, parents, trace
from cgjax._walk import streams
from cgjax._walk.rows import Rows
from tests.helpers import (
    RecordedBits,
    as_users,
    assert_identical,
    correlation,
    optimised_hlo,
    relu,
    spin,
    weighted,
)

# The run-time check of annotations puts its own lines between the user's and the library's.
source_info_util.register_exclusion(str(pathlib.Path(jaxtyping.__file__).parent))

KEY = jax.random.key(7)
X = jnp.linspace(-1.0, 1.0, 4)


# -- networks with nodes in every kind of control flow; each maps (4,) to (4,)


def scanned(x):
    return lax.scan(lambda c, s: (spin(c + s, "h"), c), x, jnp.ones((5, 4)))[0]


def reverse_scanned(x):
    return lax.scan(lambda c, s: (spin(c + s, "h"), c), x, jnp.ones((5, 4)), reverse=True)[0]


def nested_scans(x):
    def outer(c, _):
        c = lax.scan(lambda c, _: (spin(c, "inner"), None), c, None, length=2)[0]
        return spin(c * 2, "outer"), None

    return lax.scan(outer, x, None, length=3)[0]


def while_loop(x):
    def body(c):
        return c[0] + 1, spin(c[1], "h")

    return lax.while_loop(lambda c: c[0] < 4, body, (0, x))[1]


def while_with_random_condition(x):
    def cond(c):
        return (c[0] < 3) | (spin(c[1], "stop").sum() > 100)

    return lax.while_loop(cond, lambda c: (c[0] + 1, spin(c[1], "h")), (0, x))[1]


def while_in_scan(x):
    return lax.scan(lambda c, _: (while_loop(c), None), x, None, length=2)[0]


def scan_in_while(x):
    return lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, scanned(c[1])), (0, x))[1]


def fori_loop(x):
    return lax.fori_loop(0, 4, lambda i, c: spin(c + i, "h"), x)


def fori_loop_of_unknown_length(x):
    stop = 4 + 0 * x[0].astype(jnp.int32)
    return lax.fori_loop(0, stop, lambda i, c: spin(c, "h"), x)


def conditional(x):
    x = lax.cond(x.sum() < 1, lambda x: spin(x, "yes"), lambda x: spin(2 * x, "no"), x)
    branches = [lambda x, k=k: spin(x + k, f"branch{k}") for k in range(3)]
    return lax.switch(1, branches, x)


def same_function_in_both_branches(x):
    f = lambda x: spin(x, "h")  # noqa: E731
    return lax.cond(x[0] > 0, f, f, x)


def jitted(x):
    f = jax.jit(lambda x: spin(x, "h"))
    return f(f(x) * 2)


def rematerialised(x):
    f = jax.checkpoint(lambda x: spin(spin(x, "a") * 2, "b"))
    return f(f(x))


def remat_in_scan(x):
    f = jax.checkpoint(lambda c, _: (spin(spin(c, "a") * 2, "b"), None))
    return lax.scan(f, x, None, length=3)[0]


def mapped(x):
    return jax.vmap(lambda x: spin(x[None], "h")[0])(x)


def mapped_while(x):
    """Rows that stop after 1, 2, 3 and 4 steps."""

    def one(x, limit):
        def body(c):
            return c[0] + 1, spin(c[1], "h")

        return lax.while_loop(lambda c: c[0] < limit, body, (0, x[None]))[1][0]

    return jax.vmap(one)(x, jnp.arange(1, 5))


def mapped_cond(x):
    f = lambda x: lax.cond(x > 0, lambda x: spin(x, "yes"), lambda x: spin(x, "no"), x)  # noqa: E731
    return jax.vmap(f)(x)


def mapped_scan(x):
    f = lambda x: lax.scan(lambda c, _: (spin(c, "h"), None), x, None, length=3)[0]  # noqa: E731
    return jax.vmap(f)(x)


def lax_map(x):
    return lax.map(lambda x: spin(x, "h"), x)


def with_custom_jvp(x):
    @jax.custom_jvp
    def f(x):
        return spin(spin(x, "a") * 2, "b")

    f.defjvp(lambda p, t: (f(*p), t[0]))
    return f(x)


def with_custom_vjp(x):
    @jax.custom_vjp
    def f(x):
        return spin(x, "a")

    f.defvjp(lambda x: (f(x), None), lambda _, g: (g,))
    return f(f(x))


def three_of_a_shape(x):
    return sum(spin(x * k, f"h{k}") for k in range(4))


def grouped_around_loops(x):
    """Small nodes of equal shape inside and outside a loop, a branch and a remat."""
    x = spin(spin(spin(x, "a"), "b"), "c")
    x = spin(conditional(scanned(x)), "d")
    return spin(rematerialised(x), "e") * x


# The network, and how many draws one run of `forward_sample` makes, by hand.
NETWORKS = {
    scanned: 5,
    reverse_scanned: 5,
    nested_scans: 3 * (2 + 1),
    while_loop: 4,
    while_with_random_condition: 3 + 4,
    while_in_scan: 8,
    scan_in_while: 10,
    fori_loop: 4,
    fori_loop_of_unknown_length: 4,
    # Words of five small nodes of one shape are made together, outside the branches.
    conditional: 5,
    same_function_in_both_branches: 1,
    jitted: 2,
    rematerialised: 4,
    remat_in_scan: 6,
    mapped: 1,
    mapped_while: 4,
    mapped_cond: 2,
    mapped_scan: 3,
    lax_map: 4,
    with_custom_jvp: 2,
    with_custom_vjp: 2,
    three_of_a_shape: 4,
    grouped_around_loops: 5 + 5 + 5 + 4,
}
CUSTOM = (with_custom_jvp, with_custom_vjp)


@pytest.mark.parametrize("net", NETWORKS)
def test_no_random_bits_are_used_twice(net, monkeypatch):
    bits = RecordedBits(monkeypatch)
    traced_here = lambda x: net(x)  # noqa: E731  (traced anew, with the recorder in place)
    sample = cg.forward_sample(traced_here, inline=net in CUSTOM)
    sample(KEY, X)
    taken = bits.assert_disjoint(NETWORKS[net])
    sample(KEY, X)
    assert set(bits.take()) == set(taken)
    sample(jax.random.key(8), X)
    assert not set(bits.take()) & set(taken)


@pytest.mark.parametrize("net", [scanned, mapped_while, conditional, rematerialised])
def test_no_random_bits_are_used_twice_over_mapped_keys(net, monkeypatch):
    bits = RecordedBits(monkeypatch)
    traced_here = lambda x: net(x)  # noqa: E731
    jax.vmap(cg.forward_sample(traced_here), (0, None))(jax.random.split(KEY, 3), X)
    bits.assert_disjoint(3 * NETWORKS[net])


@pytest.mark.parametrize("net", NETWORKS)
def test_rate_0_is_feed_forward_and_rate_1_is_forward_sampling(net):
    inline = net in CUSTOM
    affine = lambda x: weighted(2, net(x), x) + 1  # noqa: E731  (no output nodes)
    procedures = {
        "pcff traced 0": lambda r: cg.pcff(affine, r, inline=inline)(KEY, X),
        "pcff traced 1": lambda r: cg.pcff(affine, r + 1, inline=inline)(KEY, X),
        "pcff 1": lambda r: cg.pcff(affine, 1.0, inline=inline)(KEY, X),
        "sample": lambda r: cg.forward_sample(affine, inline=inline)(KEY, X),
    }
    out = jax.jit(lambda r: {name: p(r) for name, p in procedures.items()})(0.0)
    plain = jax.jit(affine)(X)
    assert_identical(cg.feed_forward(affine)(X), plain)
    assert_identical(cg.pcff(affine, 0.0)(KEY, X), plain)
    assert_identical([out["pcff 1"], out["pcff traced 1"]], [out["sample"]] * 2)
    # A rate that is not known when compiling: XLA contracts the same operations otherwise (4 ulp).
    np.testing.assert_allclose(out["pcff traced 0"], plain, rtol=0, atol=5e-7)
    assert (np.abs(out["sample"] - plain) > 1e-3).all()


@pytest.mark.parametrize("net", [scanned, mapped_while, grouped_around_loops, mapped_cond])
def test_jit_and_vmap_over_keys_and_inputs_are_the_loop(net):
    sample = cg.pcff(net, {"*": 0.5})
    keys = jax.random.split(KEY, 3)
    inputs = jnp.stack([X, -X, 2 * X])
    rows = [sample(k, x) for k, x in zip(keys, inputs, strict=True)]
    got = jax.jit(jax.vmap(sample))(keys, inputs)
    # Batched tanh may be vectorised differently: some ulp.
    np.testing.assert_allclose(got, jnp.stack(rows), rtol=1e-6, atol=1e-7)


# -- independence, by correlation


def test_steps_nodes_and_rows_are_uncorrelated():
    size = 4000
    noise = lambda x: cg.node(cg.nodes.Gaussian(1.0), x, name="n")  # noqa: E731

    def row(x):
        steps = lax.scan(lambda c, _: (c, noise(x)), 0, None, length=3)[1]
        loop = lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, noise(x)), (0, x))[1]
        same = jax.jit(noise)
        first = lax.cond(x[0] < 1, noise, lambda x: x, x)
        return jnp.stack([*steps, loop, same(x), same(x), first, jax.checkpoint(noise)(x)])

    draws = jax.jit(cg.forward_sample(jax.vmap(row)))(KEY, jnp.zeros((2, size)))
    draws = draws.reshape(-1, size)
    assert draws.shape[0] == 16
    matrix = np.corrcoef(draws) - np.eye(16)
    # Correlations of independent draws have standard deviation 1 / sqrt(size); the largest of 120
    # exceeds 5 of them with probability 7e-5.
    assert np.abs(matrix).max() < 5 / np.sqrt(size)
    # Two keys, and neighbours within one draw.
    other = jax.jit(cg.forward_sample(jax.vmap(row)))(jax.random.key(8), jnp.zeros((2, size)))
    assert abs(correlation(draws, other)) < 5 / np.sqrt(draws.size)
    assert abs(correlation(draws[:, 1:], draws[:, :-1])) < 5 / np.sqrt(draws.size)


def test_a_node_that_does_not_depend_on_the_mapped_axis_is_drawn_once():
    def net(x, shared):
        return jax.vmap(lambda x: relu(x, "own") + relu(shared, "shared"))(x)

    shared = cg.pcff(net, {"shared": 1.0})(KEY, jnp.zeros((5, 3)), jnp.ones(3))
    assert_identical(shared, jnp.broadcast_to(shared[0], (5, 3)))
    own = cg.pcff(net, {"own": 1.0})(KEY, jnp.ones((5, 3)), jnp.ones(3))
    assert len(np.unique(own)) > 9  # of 15, some of which are clipped to 0


def test_noise_with_like_has_its_own_draw_for_every_row_of_nested_maps():
    def net(x, like):
        def noisy(row):
            like_row = row if like else None
            return row + cg.noise(cg.nodes.Gaussian(1.0), jnp.zeros(3), like=like_row)

        return jax.vmap(jax.vmap(noisy))(x)

    def sample(like):
        f = cg.forward_sample(lambda x: net(x, like))
        return np.asarray(f(KEY, jnp.zeros((2, 4, 3))))

    assert len(np.unique(sample(True))) == 24
    assert len(np.unique(sample(False))) == 3


# -- values in control flow


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

    match = "Nodes inside `custom_linear_solve` at .*test_interpret.py.*cgjax.component"
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


def test_grouped_words_are_the_words_one_by_one(monkeypatch):
    nets = (three_of_a_shape, grouped_around_loops, conditional)

    def run():
        return [cg.pcff(lambda x, n=n: n(x), 0.5)(KEY, X) for n in nets]

    grouped = run()
    calls = []
    original = streams.grouped_words
    counted = lambda *a, **k: calls.append(a) or original(*a, **k)  # noqa: E731
    monkeypatch.setattr(streams, "grouped_words", counted)
    run()
    assert len(calls) >= 2
    calls.clear()
    monkeypatch.setattr(streams, "GROUP_AT_LEAST", 99)
    assert_identical(run(), grouped)
    assert not calls


def test_large_nodes_are_not_grouped(monkeypatch):
    monkeypatch.setattr(streams, "grouped_words", lambda *a, **k: pytest.fail("grouped"))
    cg.forward_sample(lambda x: three_of_a_shape(x))(KEY, jnp.ones(streams.GROUP_MAX_ELEMENTS + 1))
    two = lambda x: spin(spin(x)) * 2  # noqa: E731
    cg.forward_sample(two)(KEY, X)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_which_nodes_are_sampled_never_changes_the_numbers_of_the_others(impl):
    key = jax.random.key(3, impl=impl)

    def net(x):
        return [2 * relu(jnp.full((6,), 3.0) + 0 * x, name) for name in "abcde"]

    full = cg.forward_sample(net)(key, jnp.float32(0))
    for chosen in ("a", "abc", "bcde"):
        part = cg.pcff(net, {n: 1.0 for n in chosen})(key, jnp.float32(0))
        for name, got, expected in zip("abcde", part, full, strict=True):
            if name in chosen:
                assert_identical(got, expected)
            else:
                assert set(got.tolist()) == {6.0}


# -- output nodes


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


# -- derivative rules


def test_a_custom_derivative_without_nodes_survives():
    @jax.custom_vjp
    def reversed_gradient(x):
        return x

    reversed_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))

    @jax.custom_jvp
    def doubled_gradient(x):
        return x

    doubled_gradient.defjvp(lambda p, t: (doubled_gradient(*p), 2 * t[0]))

    def net(x):
        h = relu(doubled_gradient(jax.jit(reversed_gradient)(x)), "h")
        step = lambda c, _: (doubled_gradient(relu(c, "s")), None)  # noqa: E731
        return lax.scan(step, h, None, length=2)[0]

    x = jnp.array([1.0, 2.0])
    for procedure in (cg.feed_forward(net), lambda x: cg.pcff(net, 0.0)(KEY, x)):
        got = jax.vjp(procedure, x)[1](jnp.ones(2))[0]
        assert_identical(got, jnp.full(2, -8.0))
    certain = cg.nodes.RectifiedGaussian(0.0)
    sampled = lambda x: 3 * cg.node(certain, reversed_gradient(x), name="h")  # noqa: E731
    got = jax.grad(lambda x: cg.forward_sample(sampled)(KEY, x).sum())(x)
    assert_identical(got, jnp.full(2, -3.0))


@pytest.mark.parametrize("net", CUSTOM)
def test_a_custom_derivative_with_nodes_raises_unless_inlined(net):
    affine = lambda x: weighted(2, net(x), x)  # noqa: E731
    names = [s.name for s in trace(affine, (X,)).sites]
    for procedure in (
        cg.forward_sample(affine),
        cg.pcff(affine, 0.5),
        cg.pcff(affine, jnp.ones(4)),
    ):
        with pytest.raises(TypeError, match=f"'{names[0]}'.*test_interpret.py.*inline=True"):
            procedure(KEY, X)
    with pytest.raises(TypeError, match="inline=True"):
        cg.log_joint(affine)(dict.fromkeys(names, 1.0), X)
    with pytest.raises(TypeError, match="inline=True"):
        cg.clamp(affine, {names[0]: 1.0})(X)
    # Collapsed nodes keep the rule, which passes the gradient unchanged.
    for procedure in (cg.feed_forward(affine), lambda x: cg.pcff(affine, 0.0)(KEY, x)):
        assert_identical(jax.vjp(procedure, X)[1](jnp.ones(4))[0], jnp.full(4, 2.0))
    captured, nodes = as_users(cg.with_nodes(cg.feed_forward(affine)))(X)
    assert_identical(captured, as_users(affine)(X))
    assert list(nodes) == names
    out = lambda x: cg.with_nodes(cg.feed_forward(affine))(x)[0].sum()  # noqa: E731
    assert_identical(jax.grad(out)(X), jnp.full(4, 2.0))
    inlined = cg.clamp(affine, {names[0]: 1.0}, inline=True)
    assert inlined(X).shape == (4,)


def test_inlined_custom_derivatives_are_differentiated_as_plain_functions():
    @jax.custom_jvp
    def f(x):
        return cg.node(cg.nodes.RectifiedGaussian(0.0), 3 * x, name="h")

    f.defjvp(lambda p, t: (f(*p), 100 * t[0]))
    net = lambda x: 2 * f(x)  # noqa: E731
    got = jax.grad(lambda x: cg.forward_sample(net, inline=True)(KEY, x).sum())(jnp.ones(3))
    assert_identical(got, jnp.full(3, 6.0))


def test_differentiating_through_nodes_inside_the_network_raises_unless_collapsed():
    def net(x):
        a = spin(x, "a")
        inner = jax.jit(lambda x: (spin(x, "h") * 3).sum())
        return jax.grad(inner)(a) * 2, jax.jvp(lambda x: spin(x, "g"), (x,), (x,))[1]

    plain = as_users(net)(X)
    for collapsed in (
        cg.feed_forward(net),
        lambda x: cg.with_nodes(cg.feed_forward(net))(x)[0],
        lambda x: cg.pcff(net, 0.0)(KEY, x),
        lambda x: cg.pcff(net, {"h": 0.0})(KEY, x),
    ):
        assert_identical(as_users(collapsed)(X), plain)
    for sampling in (
        cg.forward_sample(net),
        cg.pcff(net, 0.5),
        cg.pcff(net, {"h": 1.0}),
        cg.pcff(net, {"g": jnp.ones(4)}),
        cg.pcff(cg.clamp(net, {"a": 1.0}), {"h": 1.0}),
    ):
        with pytest.raises(TypeError, match="differentiates through its node '[gh]'"):
            sampling(KEY, X)
    # Nodes that no derivative passes through may be sampled.
    cg.pcff(net, {"a": 1.0})(KEY, X)


def test_hessians_and_gradients_of_procedures_pass_through():
    net = lambda x: 2 * relu(x, "h") ** 2  # noqa: E731
    sample = lambda x: cg.forward_sample(net)(KEY, x).sum()  # noqa: E731
    x = jnp.array([0.5, 1.5, -0.2])
    hessian = jax.jit(jax.hessian(sample))(x)
    assert np.isfinite(hessian).all() and np.abs(hessian - np.diag(np.diag(hessian))).max() == 0
    eps = 1e-3
    slope = jax.grad(sample)
    shifted = [
        (slope(x.at[i].add(eps)) - slope(x.at[i].add(-eps)))[i] / (2 * eps) for i in range(3)
    ]
    # Central differences in float32: rounding 1e-7 * 10 / 1e-3, truncation 1e-6.
    np.testing.assert_allclose(np.diag(hessian), shifted, rtol=5e-3, atol=5e-3)


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
