"""Recurrent layers: the usual networks as chain graphs, under every procedure."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import cgjax as cg
from cgjax.layers import (
    Dropout,
    IndependentRecurrent,
    SimpleRecurrent,
    clip_recurrent_weights,
    recurrent_weight_bound,
)
from tests.helpers import assert_identical

KEY = jax.random.key(71)
BATCH, STEPS, INPUTS, UNITS = 2, 5, 3, 4
X = jax.random.normal(KEY, (BATCH, STEPS, INPUTS))
FAMILIES = {
    "relu": (cg.nodes.ReLU(), jax.nn.relu),
    "tanh": (cg.nodes.Spin(), jnp.tanh),
    "logistic": (cg.nodes.Bernoulli(), jax.nn.sigmoid),
    "leaky": (cg.nodes.LeakyReLU(0.1), lambda e: jax.nn.leaky_relu(e, 0.1)),
    "softplus": (cg.nodes.Softplus(), jax.nn.softplus),
}


def simple(**options) -> Any:
    return SimpleRecurrent(INPUTS, UNITS, rngs=nnx.Rngs(3), **options)


def independent(**options) -> Any:
    layer = IndependentRecurrent(INPUTS, UNITS, rngs=nnx.Rngs(3), **options)
    layer.recurrent[...] = jnp.array([1.0, -0.75, 0.0, 0.5])
    return layer


def usual(layer, act, x, initial):
    """The layer as one writes it without cgjax, for one example, features last."""
    h, states = initial, []
    weights = layer.recurrent[...]
    for t in range(x.shape[0]):
        past = h @ weights if weights.ndim == 2 else weights * h
        h = act(x[t] @ layer.input.kernel[...] + layer.input.bias[...] + past)
        states.append(h)
    return jnp.stack(states)


@pytest.mark.parametrize("name", ["relu", "tanh", "leaky", "softplus"])
def test_the_independent_layer_is_the_usual_network(name):
    family, act = FAMILIES[name]
    layer = independent(family=family)
    initial = jax.random.normal(jax.random.key(2), (BATCH, UNITS))
    f, params, state = cg.functional(layer)
    graphdef = nnx.split(layer)[0]
    weigh = jax.random.normal(jax.random.key(4), (BATCH, STEPS, UNITS))

    def ours(params, x, initial):
        out = f(params, state, x, initial)[0]
        return (weigh * out).sum(), out

    def theirs(params, x, initial):
        module = nnx.merge(graphdef, params, state)
        out = jnp.stack([usual(module, act, x[i], initial[i]) for i in range(BATCH)])
        return (weigh * out).sum(), out

    got, expected = (
        jax.jit(jax.value_and_grad(g, (0, 1, 2), has_aux=True))(params, X, initial)
        for g in (ours, theirs)
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # float32, other orders of sums
    both = jax.jit(lambda x: (cg.feed_forward(layer)(x), layer(x)))
    np.testing.assert_array_equal(*both(X))


def test_the_simple_layer_is_that_of_flax():
    layer = simple()
    cell: Any = nnx.SimpleCell(INPUTS, UNITS, rngs=nnx.Rngs(0))
    cell.dense_i.kernel[...] = layer.input.kernel[...]
    cell.dense_i.bias[...] = layer.input.bias[...] = jnp.arange(4.0) / 10
    cell.dense_h.kernel[...] = layer.recurrent[...]
    expected = nnx.RNN(cell)(X)
    got = layer(X)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(cg.feed_forward(layer)(X), got)


@pytest.mark.parametrize(("build", "diagonal"), [(simple, False), (independent, True)])
def test_nodes_depend_on_the_last_step_as_in_figure_3(build, diagonal):
    """The joint density couples the nodes that share a factor, and no others."""
    layer = build(family=cg.nodes.Gaussian(1.0))
    layer.recurrent[...] = jnp.ones_like(layer.recurrent[...])
    graph = cg.chain_graph(layer)(X[0])
    assert [(p.name, p.through_time) for p in graph["state"].parents] == [
        ("inputs", False),
        ("state", True),
    ]
    log_prob = lambda h: cg.log_joint(layer)({"state": h}, X[0])  # noqa: E731
    h = jax.random.normal(jax.random.key(6), (STEPS, UNITS))
    coupling = np.asarray(jax.jit(jax.hessian(log_prob))(h))
    through_time = np.eye(UNITS) if diagonal else np.ones((UNITS, UNITS))
    for s in range(STEPS):
        for t in range(STEPS):
            if abs(s - t) == 1:
                np.testing.assert_allclose(coupling[s, :, t], through_time, atol=1e-6)
            elif s != t:
                np.testing.assert_array_equal(coupling[s, :, t], 0)
    # Within a step nodes are independent given the last one, and share the factors of the next.
    np.testing.assert_allclose(coupling[-1, :, -1], -np.eye(UNITS), atol=1e-6)


def test_procedures_use_the_kernel_where_it_is_the_same():
    def tangent_of(build, x=X):
        return str(jax.make_jaxpr(lambda x: jax.jvp(build, (x,), (x,)))(x))

    name = "cgjax_recurrence_tangent"
    layer = independent()
    assert name in tangent_of(layer)
    assert name in tangent_of(cg.feed_forward(layer))
    assert name in tangent_of(lambda x: cg.pcff(layer, 0.5)(KEY, x))
    assert name in tangent_of(lambda x: cg.forward_sample(layer)(KEY, x))
    # Walked: values of nodes, another estimator, noise at each step, families without a kernel.
    assert name not in tangent_of(lambda x: cg.with_nodes(cg.feed_forward(layer))(x)[0])
    straight = cg.pcff(layer, 0.5, estimator="straight_through")
    assert name not in tangent_of(lambda x: straight(KEY, x))
    fresh = independent(drop_rate=0.5)
    assert name in tangent_of(cg.feed_forward(fresh))
    assert name not in tangent_of(lambda x: cg.pcff(fresh, 0.5)(KEY, x))
    shared = independent(drop_rate=0.5, shared_noise=True)
    assert name in tangent_of(lambda x: cg.pcff(shared, 0.5)(KEY, x))
    other = independent(family=cg.nodes.NairHinton())
    assert name not in tangent_of(other)


@pytest.mark.numerics
@pytest.mark.parametrize("name", ["relu", "logistic"])
def test_the_kernel_and_the_nodes_have_one_distribution(name):
    layer = independent(family=FAMILIES[name][0])
    n = 4000
    keys = jax.random.split(KEY, 2 * n)
    sampled = cg.pcff(layer, 0.7)
    walked = cg.with_nodes(sampled)
    by_kernel = jax.jit(jax.vmap(lambda k: sampled(k, X[0])))(keys[:n])
    by_nodes = jax.jit(jax.vmap(lambda k: walked(k, X[0])[0]))(keys[n:])

    def statistics(states):
        """Means, second moments, and products of neighbours in time, for each example."""
        return np.concatenate([states, states**2, states[:, 1:] * states[:, :-1]], axis=1)

    a, b = (statistics(np.asarray(s, np.float64)) for s in (by_kernel, by_nodes))
    error = np.sqrt((a.var(0) + b.var(0)) / n)
    assert (abs(a.mean(0) - b.mean(0)) <= 5 * error + 1e-12).all()
    assert (error > 1e-3).any()


@pytest.mark.parametrize("build", [simple, independent])
def test_rates_are_coupled_and_end_in_feed_forward(build):
    layer = build(family=cg.nodes.Spin())
    run = jax.jit(lambda rate: cg.pcff(layer, {"state": rate})(KEY, X))
    # A rate of 0 that is known is feed-forward itself; at a traced one other code is compiled.
    known, fed = jax.jit(lambda x: (cg.pcff(layer, 0.0)(KEY, x), cg.feed_forward(layer)(x)))(X)
    assert_identical(known, fed)
    np.testing.assert_allclose(run(0.0), layer(X), rtol=1e-5, atol=1e-6)
    assert set(np.unique(run(1.0))) == {-1.0, 1.0}
    np.testing.assert_array_equal(run(1.0), cg.forward_sample(layer)(KEY, X))
    # The mask grows with the rate: what is sampled first is sampled at a larger rate too.
    first = [abs(np.asarray(run(rate))[:, 0]) == 1 for rate in (0.25, 0.5, 0.75)]
    assert (first[0] <= first[1]).all() and (first[1] <= first[2]).all()
    by_step = jnp.array([1.0, 0, 0, 0, 1.0]).reshape(-1, 1, 1)
    states = np.asarray(cg.pcff(layer, {"state": by_step})(KEY, X))
    assert (abs(states[:, [0, 4]]) == 1).all() and (abs(states[:, 1:4]) < 1).all()


def test_straight_through_has_the_derivative_of_the_activation():
    layer = independent(family=cg.nodes.Spin())

    def slope(**options):
        return jax.jit(jax.grad(lambda x: cg.forward_sample(layer, **options)(KEY, x).sum()))(X)

    np.testing.assert_array_equal(slope(), 0)
    assert (slope(estimator="straight_through")[:, -1] != 0).any()


@pytest.mark.parametrize("build", [simple, independent])
def test_noise_is_shared_over_time_or_fresh_at_each_step(build):
    x = np.ones((20, 12, INPUTS), np.float32)
    for shared in (False, True):
        layer, plain = build(drop_rate=0.5, shared_noise=shared), build()

        @jax.jit
        def run(x, layer=layer, plain=plain):
            by_kernel = cg.pcff(layer, 0.0)(KEY, x)
            return layer(x), plain(x), cg.with_nodes(cg.pcff(layer, 0.0))(KEY, x), by_kernel

        marginalised, without, (walked, nodes), by_kernel = run(x)
        np.testing.assert_array_equal(marginalised, without)
        mask = np.asarray(nodes["state_dropout"])
        assert mask.shape == ((20, UNITS) if shared else (12, 20, UNITS))
        # 80 or 960 draws of probability 1/2.
        assert abs(mask.mean() - 0.5) < 5 * 0.5 / np.sqrt(mask.size)
        if not shared:
            assert len(np.unique(mask.reshape(12, -1), axis=0)) == 12
        # What the drop does: the states are those of the usual network with dropped states.
        act = (lambda e: np.maximum(e, 0)) if build is independent else np.tanh
        full = np.broadcast_to(mask, (12, 20, UNITS))
        h, weights = np.zeros((20, UNITS)), np.asarray(layer.recurrent[...])
        kernel, bias = (np.asarray(v[...]) for v in (layer.input.kernel, layer.input.bias))
        for t in range(12):
            past = 2 * full[t] * h
            past = past @ weights if weights.ndim == 2 else weights[None] * past
            h = act(x[:, t] @ kernel + bias + past)
        np.testing.assert_allclose(walked[:, -1], h, rtol=1e-5, atol=1e-5)
        if shared:  # the mask is a node of its own, outside of what the kernel computes
            np.testing.assert_allclose(by_kernel, walked, rtol=1e-5, atol=1e-5)
    nothing = build(drop_rate=0.5, shared_noise=True)(jnp.ones((2, 0, INPUTS)))
    assert nothing.shape == (2, 0, UNITS)


def test_rows_of_a_map_have_noise_of_their_own():
    layer = independent(drop_rate=0.5, shared_noise=True)
    net = lambda x: jax.vmap(layer)(x)  # noqa: E731
    layer.input.kernel[...] = jnp.ones((INPUTS, UNITS))
    states = cg.pcff(net, 0.0)(KEY, jnp.ones((20, STEPS, INPUTS)))
    assert len(np.unique(np.asarray(states), axis=0)) > 5  # of 2^3 masks of the connected units


SOME = jnp.array([0.0, 0.0, 1.0, 1.0, 0.0])


@pytest.mark.parametrize(
    "rate",
    [
        SOME.reshape(5, 1),
        SOME.reshape(5, 1, 1),
        jnp.outer(SOME, SOME[::-1]).reshape(5, 5, 1),
        jnp.broadcast_to(SOME[:UNITS], (1, 5, UNITS)),
    ],
    ids=["rows", "steps", "steps and rows", "units"],
)
def test_rates_of_single_nodes_of_mapped_layers(rate):
    """As many rows as steps: a rate of rows must not be taken for one of steps."""
    layer = independent(family=cg.nodes.Spin())
    x = jnp.stack([X[0]] * 5)
    net = lambda x: jax.vmap(layer)(x)  # noqa: E731
    sampled = abs(np.asarray(cg.pcff(net, {"state": rate})(KEY, x))) == 1  # rows, steps, units
    # The axes of the node: steps, rows, units.
    expected = np.moveaxis(np.broadcast_to(np.asarray(rate) == 1, (STEPS, 5, UNITS)), 0, 1)
    np.testing.assert_array_equal(sampled, expected)


def test_layers_and_steps_have_noise_of_their_own():
    def half(name):
        layer = independent(family=cg.nodes.Spin(), name=name)
        for weights in (layer.input.kernel, layer.input.bias, layer.recurrent):
            weights[...] = jnp.zeros_like(weights[...])
        return layer

    first, second = half("first"), half("second")  # coins
    x = jnp.ones((200, STEPS, INPUTS))
    a, b = cg.forward_sample(lambda x: (first(x), second(x)))(KEY, x)
    columns = np.concatenate([a, b], 1).reshape(200, -1)
    correlation = columns.T @ columns / 200
    off = abs(correlation[~np.eye(len(correlation), dtype=bool)])
    assert off.max() < 5 / np.sqrt(200)


@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("build", [simple, independent])
def test_log_joint_is_the_sum_over_nodes(build, name):
    family = FAMILIES[name][0]
    layer = build(family=family)

    @jax.jit
    def run(x):
        states, nodes = cg.with_nodes(cg.forward_sample(layer))(KEY, x)
        h, expected, weights = jnp.zeros(UNITS), 0.0, layer.recurrent[...]
        for t in range(STEPS):
            past = h @ weights if weights.ndim == 2 else weights * h
            expected += family.log_prob(states[t], layer.input(x[t]) + past).sum()
            h = states[t]
        return cg.log_joint(layer)({"state": nodes["state"]}, x), expected

    got, expected = run(X[0])
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_time_may_come_first_and_states_may_be_handed_on():
    layer, turned = independent(), independent(time_major=True)
    states = layer(X)
    assert_identical(turned(jnp.moveaxis(X, 1, 0)), jnp.moveaxis(states, 1, 0))
    first = layer(X[:, :2])
    rest = layer(X[:, 2:], first[:, -1])
    np.testing.assert_allclose(jnp.concatenate([first, rest], 1), states, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(layer(X[0]), states[0], rtol=1e-6, atol=1e-6)  # no batch axis
    many = layer(jnp.stack([X, X])[:, None])  # and three of them
    np.testing.assert_allclose(many[1, 0], states, rtol=1e-6, atol=1e-6)
    bare = IndependentRecurrent(None, UNITS, rngs=nnx.Rngs(0))
    assert bare(jnp.ones((STEPS, UNITS))).shape == (STEPS, UNITS)
    assert len(jax.tree.leaves(nnx.state(bare, nnx.Param))) == 1


def test_exact_marginals_moments_and_clamps_reach_the_nodes():
    layer = IndependentRecurrent(None, 1, family=cg.nodes.Spin(), rngs=nnx.Rngs(0))
    layer.recurrent[...] = jnp.array([0.8])
    x = jnp.array([[0.3], [-0.2]])
    exact = cg.exact_marginals(layer)(x)
    first = np.tanh(0.3)
    up, down = np.tanh(-0.2 + 0.8), np.tanh(-0.2 - 0.8)
    second = (1 + first) / 2 * up + (1 - first) / 2 * down
    np.testing.assert_allclose(exact[:, 0], [first, second], rtol=1e-6)
    clamped = cg.clamp(layer, {"state": jnp.array([[1.0], [-1.0]])})
    np.testing.assert_array_equal(clamped(x)[:, 0], [1.0, -1.0])
    # Uncertain inputs of a Gaussian chain: the variance of a sum.
    chain = IndependentRecurrent(None, 1, family=cg.nodes.Gaussian(1.0), rngs=nnx.Rngs(0))
    chain.recurrent[...] = jnp.array([0.5])
    belief = cg.moments(chain)(cg.Belief(x, jnp.ones_like(x)))
    np.testing.assert_allclose(belief.mean[:, 0], [0.3, -0.05], rtol=1e-6)
    np.testing.assert_allclose(belief.variance[:, 0], [1.0, 1.25], rtol=1e-6)


def test_recurrent_weights_start_and_stay_within_their_bound():
    bound = recurrent_weight_bound(784)
    assert abs(bound - 1.0020550) < 5e-8  # 5^(1/784)
    layer = IndependentRecurrent(2, 4000, max_recurrent_weight=bound, rngs=nnx.Rngs(0))
    u = np.asarray(layer.recurrent[...])
    assert 0 <= u.min() and u.max() <= bound
    assert abs(u.mean() - bound / 2) < 5 * bound / np.sqrt(12 * u.size)  # U(0, bound)
    net = nnx.Sequential(
        independent(max_recurrent_weight=0.5), SimpleRecurrent(4, 2, rngs=nnx.Rngs(1))
    )
    f, params, state = cg.functional(net)
    before: Any = params
    optimiser = optax.sgd(100.0)

    @jax.jit
    def step(params):
        gradient = jax.grad(lambda p: f(p, state, X)[0].sum())(params)
        updates, _ = optimiser.update(gradient, optimiser.init(params))
        return optax.apply_updates(params, updates)

    moved: Any = step(before)
    clipped = jax.jit(clip_recurrent_weights)(moved)
    assert jax.tree.structure(clipped) == jax.tree.structure(params)
    weights = clipped["layers"][0]["recurrent"][...]
    assert abs(np.asarray(moved["layers"][0]["recurrent"][...])).max() > 0.5
    assert_identical(weights, jnp.clip(moved["layers"][0]["recurrent"][...], -0.5, 0.5))
    # Weights without a bound, and all others, are left alone.
    clipped["layers"][0]["recurrent"] = moved["layers"][0]["recurrent"]
    assert_identical(clipped, moved)
    # Whatever the initialiser gives.
    three = nnx.initializers.constant(-3.0)
    layer = IndependentRecurrent(
        2, 4, max_recurrent_weight=0.5, recurrent_init=three, rngs=nnx.Rngs(0)
    )
    assert_identical(layer.recurrent[...], jnp.full(4, -0.5))


@pytest.mark.numerics
def test_five_thousand_steps_stay_finite():
    steps = 5000
    bound = recurrent_weight_bound(steps)
    layer: Any = IndependentRecurrent(1, 3, max_recurrent_weight=bound, rngs=nnx.Rngs(0))
    layer.recurrent[...] = bound * jnp.array([1.0, -1.0, 1.0])
    layer.input.kernel[...] = jnp.array([[1.0, 1.0, 0.5]])
    x = jax.random.normal(KEY, (1, steps, 1))
    f, params, state = cg.functional(layer)
    networks = (lambda p: f(p, state, x)[0], lambda p: cg.pcff(f, 0.1)(KEY, p, state, x)[0])
    for run in networks:
        states, gradient = jax.jit(
            lambda p, run=run: (run(p), jax.grad(lambda p: run(p).mean())(p))
        )(params)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((states, gradient)))
        # A state that only grows, grows by the factor 5 at most: |h_t| <= 5 sum_t |x_t|.
        assert 1 < states.max() <= 5 * jnp.abs(x).sum()


def test_stacks_are_ordinary_composition():
    """Plain, residual and dense stacks: the graph has the edges of each."""
    sizes = {"first": 4, "second": 4}
    layers = {n: IndependentRecurrent(s, 4, name=n, rngs=nnx.Rngs(0)) for n, s in sizes.items()}
    wide = IndependentRecurrent(8, 4, name="second", rngs=nnx.Rngs(0))
    drop = Dropout(0.5, broadcast_dims=(-2,))  # one mask for all steps
    x = jnp.ones((STEPS, 4))
    stacks = {
        "plain": lambda x: layers["second"](drop(layers["first"](x))),
        "residual": lambda x: (lambda h: h + layers["second"](h))(x + layers["first"](x)),
        "dense": lambda x: wide(jnp.concatenate([x, layers["first"](x)], -1)),
    }
    parents = {
        name: [p.name for p in cg.chain_graph(stack)(x)["second"].parents]
        for name, stack in stacks.items()
    }
    assert parents["plain"] == ["first", "dropout", "second"]
    assert parents["residual"] == parents["dense"] == ["x", "first", "second"]
    mask = cg.with_nodes(cg.pcff(stacks["plain"], 0.0))(KEY, x)[1]["dropout"]
    assert mask.shape == (1, 4)


def test_bfloat16_layers():
    layer, plain = independent(family=cg.nodes.Spin()), independent()
    x = X.astype(jnp.bfloat16)

    @jax.jit
    def run(x):
        walked = cg.with_nodes(cg.feed_forward(layer))(x)[0]
        slope = jax.grad(lambda x: cg.pcff(plain, 0.5)(KEY, x).astype(jnp.float32).sum())
        return layer(x), walked, layer(x.astype(jnp.float32)), cg.pcff(layer, 0.5)(KEY, x), slope(x)

    states, walked, wide, sampled, slope = run(x)
    assert states.dtype == jnp.bfloat16
    # Five steps of a contraction, each with one rounding of e and one of the state.
    for got in (states, walked):
        np.testing.assert_allclose(got.astype(jnp.float32), wide, atol=5 * 2**-7)
    assert sampled.dtype == jnp.bfloat16
    assert slope.dtype == jnp.bfloat16 and bool(jnp.isfinite(slope).all())


def test_mistakes_raise():
    layer = independent()
    with pytest.raises(ValueError, match=r"shape \(\*batch, time, 3\), got one of \(2, 5, 4\)"):
        layer(jnp.ones((2, 5, 4)))
    with pytest.raises(ValueError, match=r"got one of \(3,\)"):
        layer(jnp.ones(3))
    with pytest.raises(ValueError, match=r"here \(2, 4\), got \(4,\)"):
        layer(X, jnp.ones(4))
    with pytest.raises(ValueError, match="drop rate"):
        independent(drop_rate=1.5)
    with pytest.raises(ValueError, match="max_recurrent_weight is positive"):
        independent(max_recurrent_weight=0.0)
    with pytest.raises(ValueError, match="steps and growth are positive"):
        recurrent_weight_bound(0)
    arrays = nnx.to_pure_dict(nnx.state(layer))
    for unbounded in (arrays, cg.functional(SimpleRecurrent(4, 2, rngs=nnx.Rngs(1)))[1]):
        with pytest.raises(ValueError, match="No parameter has a bound"):
            clip_recurrent_weights(unbounded)
    with pytest.raises(ValueError, match="has no kernel for nodes"):
        independent(family=cg.nodes.NairHinton(), implementation="parallel")(X)
    with pytest.raises(ValueError, match="only clipped affine steps"):
        independent(family=cg.nodes.Spin(), implementation="parallel")(X)


def test_a_named_implementation_never_gives_way():
    parallel = independent(implementation="parallel")
    np.testing.assert_allclose(parallel(X), independent()(X), rtol=1e-5, atol=1e-6)
    assert_identical(cg.pcff(parallel, 0.0)(KEY, X), parallel(X))
    for build in (cg.forward_sample, lambda net: cg.pcff(net, 0.5)):
        with pytest.raises(ValueError, match="implementation='parallel' has no form in which"):
            build(parallel)(KEY, X)
        fresh = independent(implementation="mosaic_gpu", drop_rate=0.5)
        with pytest.raises(ValueError, match="implementation='mosaic_gpu' has no form in which"):
            build(fresh)(KEY, X)


def test_a_sweep_of_layers_is_lowered_for_gpus_by_the_kernel():
    layer = independent(implementation="mosaic_gpu", time_major=True)
    f, params, state = cg.functional(layer)

    def loss(params, key, rate):
        return cg.pcff(f, rate)(key, params, state, jnp.moveaxis(X, 1, 0))[0].sum()

    runs = jax.vmap(jax.grad(loss))
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    arguments = many, jax.random.split(KEY, 2), jnp.array([0.0, 0.5])
    program = jax.jit(runs).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("mosaic_gpu_v2") == 2  # the states, and their derivative
