"""Residual blocks as refinement modules ([A] section 4.1)."""

import functools
import inspect
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from cgjax.layers import Node, Refinement
from tests.helpers import RecordedBits, assert_identical

KEY = jax.random.key(71)
X = jax.random.normal(jax.random.key(72), (5, 3))
RELU = cg.nodes.ReLU()


def linear(a, b, seed):
    return nnx.Linear(a, b, rngs=nnx.Rngs(seed))


def block(base, n, seed, family, **options):
    """A refinement whose refining submodule has one component."""
    refine = nnx.Sequential(linear(n, n, seed), Node(family), linear(n, n, seed + 1))
    return Refinement(base, refine, node=family, **options)


def tower(depth: int, family: Any = RELU, **options: Any) -> Any:
    """A base that is refined again and again."""
    base: Any = linear(3, 4, 0)
    return functools.reduce(
        lambda base, k: block(base, 4, 10 * k, family, **options),
        range(1, depth + 1),
        base,
    )


def convolution(a, b, seed, stride=1, groups=1, size=3):
    return nnx.Conv(
        a,
        b,
        (size, size),
        strides=stride,
        feature_group_count=groups,
        use_bias=False,
        rngs=nnx.Rngs(seed),
    )


def normalised(n):
    return Node(RELU, nnx.BatchNorm(n, rngs=nnx.Rngs(0)))


class PreActivation(nnx.Module):
    """The residual block of He et al. 2016 as it is usually written, with a module's own layers."""

    def __init__(self, refinement):
        self.first = refinement.node.normalise
        self.convolution, node, self.last = refinement.refine.layers
        self.second = node.normalise

    def __call__(self, x):
        h = self.convolution(nnx.relu(self.first(x)))
        return x + self.last(nnx.relu(self.second(h)))


@pytest.mark.parametrize("samples", ["independent", "shared"])
def test_recursion_is_a_sequence_of_pre_activation_residual_blocks(samples):
    stem = net = convolution(2, 4, 0)
    usual = []
    for k in range(1, 4):
        refine = nnx.Sequential(
            convolution(4, 4, 10 * k), normalised(4), convolution(4, 4, 10 * k + 1)
        )
        net = Refinement(net, refine, node=normalised(4), samples=samples)
        usual.append(PreActivation(net))
    x = jax.random.normal(KEY, (2, 6, 6, 2))
    expected = stem(x)
    for layer in usual:
        expected = layer(expected)
    np.testing.assert_allclose(net(x), expected, rtol=1e-5, atol=1e-5)  # float32's rounding
    f, params, state = cg.functional(net)
    plain = jax.jit(f)(params, state, x)
    fed = jax.jit(cg.feed_forward(f))(params, state, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), fed, plain)
    fed = jax.jit(cg.pcff(f, 0.0))(KEY, params, state, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), fed, plain)


def test_the_graph_has_the_base_and_its_copy():
    graph = cg.chain_graph(tower(1))(X[0])
    assert [c.name for c in graph] == ["copy/relu_0", "copy/relu_1"]
    assert [p.name for p in graph["copy/relu_0"].parents] == ["x"]
    assert [p.name for p in graph["copy/relu_1"].parents] == ["copy/relu_0"]
    assert [p.name for p in graph.results[0].parents] == ["x", "copy/relu_1"]


def parents(graph):
    return {c.name: {p.name for p in c.parents} for c in graph}


def test_the_graph_of_a_refined_refinement_has_the_inner_one_twice():
    graph = cg.chain_graph(tower(2))(X[0])
    assert parents(graph) == {
        "copy/relu_0": {"x"},  # of the inner refinement
        "copy/relu_1": {"copy/relu_0"},
        "copy/copy/relu_0": {"x"},  # and of its copy
        "copy/copy/relu_1": {"copy/copy/relu_0"},
        "copy/relu_2": {"x", "copy/copy/relu_1"},
        "copy/relu_3": {"copy/relu_2"},
    }
    assert {p.name for p in graph.results[0].parents} == {"x", "copy/relu_1", "copy/relu_3"}


def test_the_graph_of_shared_samples_has_one_path():
    graph = cg.chain_graph(tower(2, samples="shared"))(X[0])
    assert parents(graph) == {
        "copy/relu_0": {"x"},
        "copy/relu_1": {"copy/relu_0"},
        "copy/relu_2": {"x", "copy/relu_1"},
        "copy/relu_3": {"copy/relu_2"},
    }


def test_an_untied_copy_has_weights_of_its_own():
    base, copy, refine = linear(3, 4, 0), linear(3, 4, 1), linear(4, 4, 2)
    net = Refinement(base, refine, copy=copy, node=cg.nodes.Spin(), name="side")
    expected = base(X) + refine(jnp.tanh(copy(X)))
    np.testing.assert_allclose(net(X), expected, rtol=1e-6, atol=1e-6)  # float32's rounding
    assert parents(cg.chain_graph(net)(X[0])) == {"copy/side": {"x"}}
    assert len(jax.tree.leaves(cg.functional(net)[1])) == 6


# -- samples: against brute force

SPIN = np.array([-1.0, 1.0])


def affine(layer):
    return np.asarray(layer.kernel[...], np.float64), np.asarray(layer.bias[...], np.float64)


def states(e):
    """All configurations of spins and their probabilities, given natural parameters."""
    for x in itertools.product(SPIN, repeat=len(e)):
        x = np.array(x)
        yield x, float(np.prod(1 / (1 + np.exp(-2 * x * e))))


def moments_of(weighted):
    """Mean and covariance of a discrete distribution, of (value, probability)."""
    values, p = (np.array(a) for a in zip(*weighted, strict=True))
    mean = p @ values
    return mean, (values - mean).T @ (p[:, None] * (values - mean))


def through(layer, weighted):
    """The distribution of an affine map of spins, given that of their natural parameters."""
    w, b = affine(layer)
    return [(x @ w + b, p * q) for e, p in weighted for x, q in states(e)]


def refined(net, weighted):
    """The distribution of the refining submodule's result, given that of the copy's parameters."""
    first, _, last = net.refine.layers
    return through(last, through(first, weighted))


def small(samples: Any) -> Any:
    """A base with a component, refined twice: 2 + 2 + 2 spins along each path."""
    spin = cg.nodes.Spin()
    base: Any = nnx.Sequential(linear(3, 2, 0), Node(spin), linear(2, 2, 1))
    for layer in (base.layers[0], base.layers[2]):
        layer.kernel[...] = 2 * layer.kernel[...]
    return block(base, 2, 2, spin, samples=samples)


@pytest.mark.numerics
def test_samples_of_the_two_paths_are_independent():
    x, net = X[0], small("independent")
    w, b = affine(net.base.layers[0])
    base = through(net.base.layers[2], [(np.asarray(x) @ w + b, 1.0)])
    side = refined(net, base)
    (mean, covariance), (side_mean, side_covariance) = moments_of(base), moments_of(side)
    mean, covariance = mean + side_mean, covariance + side_covariance
    np.testing.assert_allclose(cg.exact_marginals(net)(x), mean, rtol=1e-5, atol=1e-5)
    # With shared samples the paths are correlated: that the counts below see.
    joint = []
    for e, p in base:
        joint += [(e + r, p * q) for r, q in refined(net, [(e, 1.0)])]
    shared_mean, shared_covariance = moments_of(joint)
    np.testing.assert_allclose(shared_mean, mean, rtol=1e-9)
    f, params, state = cg.functional(net)
    n = 40_000

    @jax.jit
    def drawn(keys):
        return jax.vmap(lambda key: cg.forward_sample(f)(key, params, state, x)[0])(keys)

    g, *shared = cg.functional(small("shared"))
    draws = np.asarray(drawn(jax.random.split(KEY, n)), np.float64)
    errors = []
    for values, expected in ((draws, covariance), (None, shared_covariance)):
        if values is None:
            one = jax.vmap(lambda key: cg.forward_sample(g)(key, *shared, x)[0])
            values = np.asarray(jax.jit(one)(jax.random.split(KEY, n)), np.float64)
        deviation = values - mean
        assert (abs(deviation.mean(0)) < 5 * values.std(0) / np.sqrt(n)).all()
        products = deviation[:, :, None] * deviation[:, None, :]
        error = products.std(0) / np.sqrt(n)
        assert (abs(products.mean(0) - expected) < 5 * error).all()
        errors.append(error)
    assert (abs(covariance - shared_covariance) > 10 * errors[0]).any()


def test_no_two_nodes_share_noise(monkeypatch):
    bits = RecordedBits(monkeypatch)
    cg.forward_sample(tower(2))(KEY, X)
    bits.assert_disjoint(6)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_running_statistics_are_updated_once(rate):
    net = Refinement(
        nnx.Sequential(linear(3, 4, 0), normalised(4), linear(4, 4, 1)), linear(4, 4, 2)
    )
    f, params, state = cg.functional(net)
    _, plain = jax.jit(f)(params, state, X)
    _, sampled = jax.jit(cg.pcff(f, 0.0))(KEY, params, state, X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), sampled, plain)


# -- cost


def products_in(function, *args):
    return jax.jit(function).lower(*args).as_text().count("stablehlo.dot_general")


@pytest.mark.parametrize("samples", ["independent", "shared"])
def test_cost_is_linear_in_the_depth_of_recursion(samples):
    def loss(f, params, state):
        return (f(params, state, X)[0] ** 2).sum()

    for depth in (1, 6):
        f, params, state = cg.functional(tower(depth, samples=samples))
        assert products_in(f, params, state, X) == 1 + 2 * depth
        gradient = jax.grad(functools.partial(loss, f))
        # Each product has two derivatives, but for the first: that by x is not asked for.
        assert products_in(gradient, params, state) == 3 * (1 + 2 * depth) - 1
        fed = cg.feed_forward(f)
        assert products_in(fed, params, state, X) == 1 + 2 * depth
        moments = cg.moments(f)
        belief = cg.Belief(X, jnp.full_like(X, 0.1))
        # A mean and a variance for each product, and what a block's result has in common with what
        # it was made of, which is that of up to four blocks.
        extra = products_in(moments, params, state, belief) - 2 * (1 + 2 * depth)
        assert 0 <= extra <= 3 * depth
        unsampled = cg.pcff(f, 0.0)
        assert products_in(unsampled, KEY, params, state, X) == 1 + 2 * depth
        clamped = cg.clamp(f, {"copy/relu_0": 1.0})
        # The clamped node has no parents any more, but the program that gives them.
        assert products_in(clamped, params, state, X) <= 3 + 2 * depth
        if samples == "shared":
            sampled = cg.pcff(f, 0.3)
            assert products_in(sampled, KEY, params, state, X) == 1 + 2 * depth


# -- any refining submodule

BOTTLENECK = nnx.Sequential(
    convolution(4, 2, 1, size=1),
    normalised(2),
    convolution(2, 2, 2),
    normalised(2),
    convolution(2, 4, 3, size=1),
)
GROUPED = nnx.Sequential(
    convolution(4, 8, 1, size=1),
    normalised(8),
    convolution(8, 8, 2, groups=4),
    normalised(8),
    convolution(8, 4, 3, size=1),
)


@pytest.mark.parametrize("refine", [BOTTLENECK, GROUPED], ids=["bottleneck", "grouped"])
def test_the_refining_submodule_may_be_anything(refine):
    net: Any = Refinement(convolution(2, 4, 0), refine, node=normalised(4))
    x = jax.random.normal(KEY, (2, 5, 5, 2))
    e = net.base(x)
    expected = e + refine(nnx.relu(net.node.normalise(e)))
    np.testing.assert_allclose(net(x), expected, rtol=1e-4, atol=1e-5)  # float32's rounding
    net.eval()
    assert len(cg.chain_graph(net)(x[0])) == 3
    net.train()


def test_a_function_may_be_the_base():
    weights = jnp.ones((3, 4))
    net = Refinement(lambda x: x @ weights, linear(4, 4, 1))
    assert len(cg.chain_graph(net)(X[0])) == 1
    assert_identical(cg.pcff(net, 0.0)(KEY, X), cg.feed_forward(net)(X))


@pytest.mark.parametrize(
    "build", [cg.feed_forward, lambda net: functools.partial(cg.pcff(net, 0.5), KEY)]
)
def test_a_module_may_hold_functions_that_close_over_traced_arrays(build):
    def run(weights):
        base = nnx.Sequential(lambda x: x @ weights, Node(RELU), linear(4, 4, 0))
        return build(Refinement(base, linear(4, 4, 1)))(X)

    weights = jnp.ones((3, 4))
    np.testing.assert_allclose(jax.jit(run)(weights), run(weights), rtol=1e-5, atol=1e-5)
    assert jax.jit(jax.grad(lambda w: run(w).sum()))(weights).any()


def test_a_module_may_hold_functions_that_close_over_other_arrays_than_numbers():
    def run(kept, key):
        def noisy(x):
            return jnp.where(kept, x, 0) + jax.random.normal(key, x.shape)

        base = nnx.Sequential(noisy, linear(3, 4, 0))
        return cg.pcff(Refinement(base, linear(4, 4, 1)), 0.5)(KEY, X)

    kept = jnp.array([True, False, True])[None]
    np.testing.assert_allclose(jax.jit(run)(kept, KEY), run(kept, KEY), rtol=1e-5, atol=1e-5)


def test_arrays_in_a_family_are_part_of_the_module():
    net = Refinement(linear(3, 4, 0), linear(4, 4, 1), node=cg.nodes.Gaussian(jnp.float32(0.5)))
    f, params, state = cg.functional(net)
    assert len(jax.tree.leaves(state)) == 1
    assert cg.forward_sample(f)(KEY, params, state, X)[0].shape == (5, 4)


# -- errors


def test_errors():
    # As users call it: the tests' run-time check of annotations would raise first.
    unchecked = inspect.unwrap(Refinement.__init__)
    with pytest.raises(ValueError, match="samples is one of independent, shared"):
        unchecked(tower(1), linear(3, 4, 0), linear(4, 4, 1), samples="both")
    with pytest.raises(ValueError, match=r"base's is Spin\(\) and this one's ReLU\(\)"):
        block(tower(1, cg.nodes.Spin()), 4, 1, cg.nodes.ReLU())
    with pytest.raises(ValueError, match=r"base's is Spin\(\) and this one's ReLU\(\)"):
        block(nnx.Sequential(linear(3, 3, 0), tower(1, cg.nodes.Spin())), 4, 1, cg.nodes.ReLU())
    with pytest.raises(
        ValueError, match=r"submodule returned float32\[5, 5\] and the base float32"
    ):
        Refinement(linear(3, 4, 0), linear(4, 5, 1))(X)
    with pytest.raises(ValueError, match=r"the copy returned float32\[5, 2\]"):
        Refinement(linear(3, 4, 0), linear(4, 4, 1), copy=linear(3, 2, 0))(X)
