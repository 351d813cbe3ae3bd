"""Random numbers of a walk: none is used twice, and which nodes are sampled changes none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax._walk import streams
from tests._walk.networks import (
    CUSTOM,
    KEY,
    NETWORKS,
    X,
    conditional,
    grouped_around_loops,
    mapped_cond,
    mapped_while,
    rematerialised,
    scanned,
    three_of_a_shape,
)
from tests.helpers import (
    RecordedBits,
    assert_identical,
    correlation,
    relu,
    spin,
    weighted,
)


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
    sample = cg.pcff(lambda x: jnp.tanh(net(x)), {"*": 0.5})
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
