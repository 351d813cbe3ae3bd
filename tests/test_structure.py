"""Structures of real networks as chain graphs, each as [A] section 3 names it.

Every one is held to the usual network, written without nodes, and to the graph that it should have.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import cgjax as cg
from tests.helpers import assert_identical, filled

KEY = jax.random.key(91)
RELU, SPIN = cg.nodes.ReLU(), cg.nodes.Spin()


def parents(graph):
    return {c.name: [p.name for p in c.parents] for c in graph}


def close(got, expected, tolerance=1e-5):
    """Up to the rounding of float32 in a few layers."""
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


# -- branches


class Inception(nnx.Module):
    """Four branches of one input, side by side along the channels, and a convolution of them."""

    def __init__(self, activation: Any):
        def conv(inputs, outputs, size):
            return nnx.Conv(inputs, outputs, (size, size), rngs=rngs)

        rngs = nnx.Rngs(0)
        self.stem = conv(2, 3, 3)
        self.one = conv(3, 2, 1)
        self.reduce_three, self.three = conv(3, 2, 1), conv(2, 4, 3)
        self.reduce_five, self.five = conv(3, 2, 1), conv(2, 3, 5)
        self.pooled = conv(3, 2, 1)
        self.output = conv(11, 2, 1)
        self.activation = activation

    def __call__(self, x):
        node = self.activation
        x = node(self.stem(x), "stem")
        one = node(self.one(x), "one")
        three = node(self.three(node(self.reduce_three(x), "reduce_three")), "three")
        five = node(self.five(node(self.reduce_five(x), "reduce_five")), "five")
        pool = nnx.avg_pool(x, (3, 3), strides=(1, 1), padding="SAME")
        pooled = node(self.pooled(pool), "pooled")
        branches = jnp.concatenate([one, three, five, pooled], -1)
        return node(self.output(branches), "output")


def test_an_inception_module_has_a_component_for_each_layer_of_each_branch():
    x = jax.random.normal(KEY, (1, 5, 5, 2))
    net = filled(lambda: Inception(lambda e, name: cg.node(RELU, e, name=name)))
    f, params, state = cg.functional(net)
    usual, *_ = cg.functional(filled(lambda: Inception(lambda e, name: nnx.relu(e))))

    @jax.jit
    def outputs(params):
        procedures = usual, cg.feed_forward(f), functools.partial(cg.pcff(f, 0.0), KEY)
        return [procedure(params, state, x)[0] for procedure in procedures]

    expected, *others = outputs(params)
    for other in others:
        close(other, expected)
    graph = cg.chain_graph(lambda x: f(params, state, x)[0])(x)
    assert parents(graph) == {
        "stem": ["x"],
        "one": ["stem"],
        "reduce_three": ["stem"],
        "three": ["reduce_three"],
        "reduce_five": ["stem"],
        "five": ["reduce_five"],
        "pooled": ["stem"],
        "output": ["one", "three", "five", "pooled"],
    }
    assert graph["output"].output and graph["three"].shape == (1, 5, 5, 4)


# -- sparse, shared and fixed connections

KERNEL = jax.random.normal(jax.random.key(92), (3, 3, 2, 3))


def convolution(x):
    numbers = ("NHWC", "HWIO", "NHWC")
    convolve = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=numbers)
    return convolve(x[None], KERNEL, (1, 1), "SAME")[0]


def convolution_matrix(side):
    """Connections between pixels at most one apart, whose weight is that of their offset."""
    matrix = np.zeros((side, side, 2, side, side, 3))
    for row, column, i, j in np.ndindex(side, side, 3, 3):
        above, left = row + i - 1, column + j - 1
        if 0 <= above < side and 0 <= left < side:
            matrix[above, left, :, row, column] = KERNEL[i, j]
    return matrix


def pooling(x):
    return nnx.avg_pool(x[None], (2, 2), strides=(2, 2))[0]


def pooling_matrix(side):
    """Four connections of weight 1/4 to each node, whatever is learned."""
    matrix = np.zeros((side, side, 2, side // 2, side // 2, 2))
    for row, column, channel in np.ndindex(side, side, 2):
        matrix[row, column, channel, row // 2, column // 2, channel] = 0.25
    return matrix


def skip(x):
    return x + jnp.tanh(KERNEL[0, 0, 0, 0]) * x[::-1]


def skip_matrix(side):
    """A connection of weight 1 from each node to the one at its place, and one of another kind."""
    identity = np.einsum("ik,jl,cd->ijckld", *(np.eye(n) for n in (side, side, 2)))
    return identity + np.tanh(KERNEL[0, 0, 0, 0]) * identity[::-1]


@pytest.mark.parametrize(
    ("layer", "matrix", "connections"),
    [
        # Three of side 4: a pixel inside has nine neighbours, on a border six, in a corner four.
        (convolution, convolution_matrix, (4 * 9 + 8 * 6 + 4 * 4) * 2 * 3),
        (pooling, pooling_matrix, 4 * 8),
        (skip, skip_matrix, 2 * 32),
    ],
    ids=["convolution", "average pooling", "skip"],
)
def test_a_layer_is_a_component_with_sparse_shared_or_fixed_connections(layer, matrix, connections):
    """The same distribution as with a dense matrix that has these weights: not only the means."""
    w = matrix(4)
    assert (w != 0).sum() == connections
    w = jnp.asarray(w.reshape(32, -1), jnp.float32)

    def net(x):
        return cg.node(SPIN, layer(cg.node(SPIN, x, name="below")), name="above")

    def dense(x):
        below = cg.node(SPIN, x, name="below")
        above = cg.node(SPIN, below.reshape(32) @ w, name="above")
        return above.reshape(layer(x).shape)

    def usual(x):
        return jnp.tanh(layer(jnp.tanh(x)))

    x = jax.random.normal(KEY, (4, 4, 2))
    close(net(x), usual(x))
    close(cg.feed_forward(net)(x), usual(x))
    close(cg.feed_forward(dense)(x), usual(x))
    assert parents(cg.chain_graph(net)(x)) == parents(cg.chain_graph(dense)(x))
    assert parents(cg.chain_graph(net)(x)) == {"below": ["x"], "above": ["below"]}
    out, nodes = cg.with_nodes(cg.forward_sample(net))(KEY, x)
    assert_identical(out, nodes["above"])
    flat = nodes | {"above": nodes["above"].reshape(-1)}
    # A sum of some fifty logarithms.
    close(
        cg.log_joint(net, batch_axes=0)(nodes, x), cg.log_joint(dense, batch_axes=0)(flat, x), 1e-4
    )


# -- normalisation: reparametrisations of the natural parameter


class Normalised(nnx.Module):
    """A layer of spins, and one of ReLU nodes whose natural parameter is normalised."""

    def __init__(self, normalise: Any, wrap: Any = lambda linear: linear):
        self.lower = nnx.Linear(3, 6, rngs=nnx.Rngs(0))
        self.linear = wrap(nnx.Linear(6, 6, rngs=nnx.Rngs(1)))
        self.hidden = cg.layers.Node(RELU, normalise, name="hidden")

    def __call__(self, x):
        lower = cg.node(SPIN, self.lower(x), name="lower")
        return self.hidden(self.linear(lower))


def affine(norm, e):
    return e * norm.scale[...][None] + norm.bias[...][None]


def standardised(e, axis, epsilon=1e-6):
    mean, variance = e.mean(axis, keepdims=True), e.var(axis, keepdims=True)
    return (e - mean) / jnp.sqrt(variance + epsilon)


# Each makes a network, and the function that its normalisation should be.


def layer_norm():
    net = filled(lambda: Normalised(nnx.LayerNorm(6, rngs=nnx.Rngs(0))))
    return net, lambda e: affine(net.hidden.normalise, standardised(e, -1))


def group_norm():
    # The fast formula of the variance would lose digits in groups of three.
    make = functools.partial(nnx.GroupNorm, 6, num_groups=2, use_fast_variance=False)
    net = filled(lambda: Normalised(make(rngs=nnx.Rngs(0))))
    grouped = lambda e: standardised(e.reshape(-1, 2, 3), -1).reshape(-1, 6)  # noqa: E731
    return net, lambda e: affine(net.hidden.normalise, grouped(e))


def batch_norm_in_evaluation():
    net = filled(lambda: Normalised(nnx.BatchNorm(6, rngs=nnx.Rngs(0))))
    net.eval()
    norm = net.hidden.normalise
    deviation = jnp.sqrt(norm.var[...] + 1e-5)[None]
    return net, lambda e: affine(norm, (e - norm.mean[...][None]) / deviation)


def batch_norm_in_training():
    net = filled(lambda: Normalised(nnx.BatchNorm(6, rngs=nnx.Rngs(0))))
    return net, lambda e: affine(net.hidden.normalise, standardised(e, 0, 1e-5))


def weight_norm():
    net = Normalised(None, lambda linear: nnx.WeightNorm(linear, rngs=nnx.Rngs(0)))
    kernel, bias = net.linear.layer_instance.kernel[...], net.linear.layer_instance.bias[...][None]
    norms = jnp.sqrt((kernel**2).sum(0, keepdims=True))
    return net, lambda e: (e - bias) / norms + bias


NORMALISATIONS = [
    layer_norm,
    group_norm,
    batch_norm_in_evaluation,
    batch_norm_in_training,
    weight_norm,
]
ROWS = jax.random.normal(jax.random.key(93), (5, 3))


@pytest.mark.parametrize("make", NORMALISATIONS, ids=lambda make: make.__name__)
def test_normalisation_reparametrises_the_natural_parameter(make):
    net, normalise = make()
    # Before the net is called: weight normalisation writes the kernel that it has normalised.
    linear = getattr(net.linear, "layer_instance", net.linear)
    kernel, bias = linear.kernel[...], linear.bias[...][None]

    def natural_parameter(lower):
        return normalise(lower @ kernel + bias)

    expected = nnx.relu(natural_parameter(jnp.tanh(net.lower(ROWS))))
    f, params, state = cg.functional(net)
    close(cg.feed_forward(f)(params, state, ROWS)[0], expected)
    # The nodes are of the same family, and the normalised parameter is theirs given the parents.
    graph = cg.chain_graph(lambda x: f(params, state, x)[0])(ROWS)
    assert parents(graph) == {"lower": ["x"], "hidden": ["lower"]}
    assert graph["hidden"].family == RELU
    values = {"lower": cg.forward_sample(lambda e: cg.node(SPIN, e))(KEY, net.lower(ROWS))}
    clamped = cg.clamp(f, values)
    e = natural_parameter(values["lower"])
    close(cg.feed_forward(clamped)(params, state, ROWS)[0], nnx.relu(e))
    values["hidden"] = nnx.relu(e + 0.1)
    terms = [SPIN.log_prob(values["lower"], net.lower(ROWS)), RELU.log_prob(values["hidden"], e)]
    got = cg.log_joint(lambda x: f(params, state, x)[0], batch_axes=0)(values, ROWS)
    close(got, sum(t.sum() for t in terms), 1e-4)


def test_the_scales_of_weight_norm_can_be_parameters():
    def trained(linear):
        norm: Any = nnx.WeightNorm(linear, rngs=nnx.Rngs(0))
        norm.scales = nnx.data({path: nnx.Param(scale) for path, scale in norm.scales.items()})
        return norm

    net = Normalised(None, trained)
    linear, lower = net.linear.layer_instance, jnp.tanh(net.lower(ROWS))
    direction = linear.kernel[...] / jnp.sqrt((linear.kernel[...] ** 2).sum(0, keepdims=True))
    f, params, state = cg.functional(net)
    gradient = jax.grad(lambda p: cg.feed_forward(f)(p, state, ROWS)[0].sum())(params)
    (got,) = jax.tree.leaves(gradient["linear"]["scales"])
    open_ = lower @ direction + linear.bias[...][None] > 0
    close(got, ((lower @ direction) * open_).sum(0))
    assert got.any()


def test_batch_norm_in_training_normalises_by_the_statistics_of_sampled_parents():
    make = functools.partial(nnx.BatchNorm, 6, momentum=0.75)
    net = filled(lambda: Normalised(make(rngs=nnx.Rngs(0))))
    f, params, state = cg.functional(net)
    old = net.hidden.normalise
    mean, variance = old.mean[...], old.var[...]
    procedure = cg.with_nodes(cg.pcff(f, {"lower": 0.5, "hidden": 1.0}))
    (_, new), nodes = procedure(KEY, params, state, ROWS)
    lower = nodes["lower"]
    assert 5 < (abs(lower) == 1).sum() < 25  # of 30 spins, those that were sampled
    e = net.linear(lower)
    got: Any = new["hidden"]["normalise"]
    close(got["mean"][...], 0.75 * mean + 0.25 * e.mean(0))
    close(got["var"][...], 0.75 * variance + 0.25 * e.var(0))


# -- transfer learning


class Backbone(nnx.Module):
    """Two components."""

    def __init__(self, rngs):
        self.first = nnx.Linear(3, 8, rngs=rngs)
        self.normalise = nnx.BatchNorm(8, rngs=rngs)
        self.second = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x):
        h = cg.node(RELU, self.normalise(self.first(x)), name="first")
        return cg.node(RELU, self.second(h), name="second")


class Model(nnx.Module):
    """A backbone and what a task puts on it."""

    def __init__(self, backbone, outputs, rngs):
        self.backbone = backbone
        self.head = nnx.Linear(8, outputs, rngs=rngs)

    def __call__(self, x):
        return self.head(self.backbone(x))


def trained(f: Any, params: Any, state: Any, optimiser: Any, targets: Any, steps=30) -> Any:
    """Parameters and state after some steps of PCFF training, and the losses."""
    x = jax.random.normal(jax.random.key(94), (16, 3))

    def step(carry, key):
        params, state, memory = carry

        def loss(params):
            out, new = cg.pcff(f, 0.3)(key, params, state, x)
            return optax.softmax_cross_entropy_with_integer_labels(out, targets(x)).mean(), new

        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, memory = optimiser.update(gradient, memory, params)
        return (optax.apply_updates(params, updates), state, memory), value

    carry = (params, state, optimiser.init(params))
    (params, state, _), losses = jax.lax.scan(step, carry, jax.random.split(KEY, steps))
    return params, state, losses


def frozen_but_head(params):
    """A label for each parameter, by a filter of Flax."""
    head, backbone = nnx.split_state(params, nnx.PathContains("head"), ...)
    label = lambda name, part: jax.tree.map(lambda _: name, part)  # noqa: E731
    return nnx.merge_state(label("trained", head), label("frozen", backbone))


def test_components_of_a_trained_graph_are_reused_with_others():
    first = filled(lambda: Model(Backbone(nnx.Rngs(0)), 2, nnx.Rngs(1)))
    f, params, state = cg.functional(first)
    params, state, losses = trained(
        f, params, state, optax.sgd(0.1), lambda x: (x[:, 0] > 0).astype(int)
    )
    assert losses[-5:].mean() < 0.8 * losses[:5].mean()
    nnx.update(first, params, state)

    second = Model(first.backbone, 3, nnx.Rngs(2))
    # In evaluation mode the running statistics are parameters like others, and frozen as well.
    second.backbone.eval()
    g, params, state = cg.functional(second)
    sgd: dict[Any, Any] = {"trained": optax.sgd(0.1, momentum=0.9), "frozen": optax.set_to_zero()}
    targets = lambda x: 1 * (x[:, 0] > 0) + (x[:, 1] > 0)  # noqa: E731
    after, new, losses = trained(g, params, state, optax.partition(sgd, frozen_but_head), targets)
    assert losses[-5:].mean() < 0.9 * losses[:5].mean()
    assert_identical((after["backbone"], new), (params["backbone"], state))
    for p, q in zip(*map(jax.tree.leaves, (after["head"], params["head"])), strict=True):
        assert (p != q).any()
    # What the backbone brings to both graphs is the same; so is what it computes.
    graphs = [cg.chain_graph(net.eval() or net)(jnp.ones((1, 3))) for net in (first, second)]
    assert list(graphs[0]) == list(graphs[1]) and len(graphs[0]) == 2
    nodes = [cg.with_nodes(cg.feed_forward(net))(ROWS)[1] for net in (first, second)]
    assert_identical(nodes[0], nodes[1])

    # The same as differentiating by the head's parameters alone.
    head, backbone = nnx.split_state(params, nnx.PathContains("head"), ...)

    def with_frozen(head, state, x):
        return g(nnx.merge_state(head, backbone), state, x)

    alone, _, others = trained(with_frozen, head, state, sgd["trained"], targets)
    close(others, losses)
    jax.tree.map(close, alone["head"], after["head"])


# -- the small-weight assumption

SIZE, LAYERS = 4, 3


@pytest.mark.parametrize("family", [cg.nodes.Bernoulli(), SPIN], ids=["Bernoulli", "Spin"])
def test_feed_forward_approaches_the_exact_marginals_quadratically_in_the_weights(family):
    """The mean of an activation differs from the activation of the mean by half its curvature times
    the variance of the natural parameter, which is quadratic in the weights."""
    generator = np.random.default_rng(5)
    w = generator.normal(size=(LAYERS, SIZE, SIZE))
    b = generator.normal(size=(LAYERS, 1, SIZE))

    def net(scale, x):
        for k in range(LAYERS):
            e = x @ (scale * w[k]) + b[k, 0]
            x = cg.node(family, e)
        return x

    with jax.enable_x64(True):
        x = jnp.ones(SIZE)

        @jax.jit
        def error(scale):
            return cg.exact_marginals(net)(scale, x) - cg.feed_forward(net)(scale, x)

        scales = 0.5 ** np.arange(1, 8)
        errors = np.array([np.linalg.norm(error(scale)) for scale in scales])
    ratios = errors[:-1] / errors[1:]
    assert (ratios > 1).all()
    # Of the next order is a share that is linear in the weights: 1/64 times a number of order 1.
    np.testing.assert_allclose(ratios[-2:], 4, rtol=0.05)
