"""Activations of networks written without cgjax become nodes of their families."""

import contextlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import cgjax as cg
from cgjax import _static
from cgjax._program import trace
from tests._lift.parts import KEY, PARAMS, X, families, skipped


def _piecewise(x, *conditions):
    return jnp.piecewise(x, list(conditions), [lambda x: 0.1 * x, lambda x: x])


# One way of writing each activation a line: the family it must become, and the function.
ACTIVATIONS = {
    "jax.nn.relu": ("ReLU", jax.nn.relu),
    "nnx.relu": ("ReLU", nnx.relu),
    "maximum": ("ReLU", lambda x: jnp.maximum(x, 0)),
    "maximum, zero first": ("ReLU", lambda x: jnp.maximum(0.0, x)),
    "maximum, array": ("ReLU", lambda x: jnp.maximum(x, jnp.zeros_like(x))),
    "lax.max": ("ReLU", lambda x: lax.max(x, jnp.zeros_like(x))),
    "where": ("ReLU", lambda x: jnp.where(x > 0, x, 0)),
    "where, mirrored": ("ReLU", lambda x: jnp.where(0 < x, x, 0.0)),
    "where, not below": ("ReLU", lambda x: jnp.where(x >= 0, x, jnp.zeros_like(x))),
    "where, negative first": ("ReLU", lambda x: jnp.where(x < 0, 0, x)),
    "times a condition": ("ReLU", lambda x: x * (x > 0)),
    "half the sum with the modulus": ("ReLU", lambda x: (x + jnp.abs(x)) / 2),
    "nnx.leaky_relu": ("LeakyReLU", nnx.leaky_relu),
    "leaky where": ("LeakyReLU", lambda x: jnp.where(x > 0, x, 0.2 * x)),
    "leaky where, slope last": ("LeakyReLU", lambda x: jnp.where(x < 0, x * 0.2, x)),
    "leaky maximum": ("LeakyReLU", lambda x: jnp.maximum(0.1 * x, x)),
    "leaky sum": ("LeakyReLU", lambda x: jnp.maximum(x, 0) + 0.1 * jnp.minimum(x, 0)),
    "leaky piecewise": ("LeakyReLU", lambda x: _piecewise(x, x < 0, x >= 0)),
    "leaky, nested": ("LeakyReLU", lambda x: jnp.where(x >= 0, x, jnp.where(x < 0, 0.1 * x, 0))),
    "leaky difference": ("LeakyReLU", lambda x: jax.nn.relu(x) - 0.1 * jax.nn.relu(-x)),
    "jnp.tanh": ("Spin", jnp.tanh),
    "nnx.tanh": ("Spin", nnx.tanh),
    "nnx.sigmoid": ("Bernoulli", nnx.sigmoid),
    "lax.logistic": ("Bernoulli", lax.logistic),
    "logistic by hand": ("Bernoulli", lambda x: 1 / (1 + jnp.exp(-x))),
    "logistic, reciprocal": ("Bernoulli", lambda x: jnp.reciprocal(1 + jnp.exp(-x))),
    "logistic, share": ("Bernoulli", lambda x: jnp.exp(x) / (1 + jnp.exp(x))),
    "logistic by tanh": ("Bernoulli", lambda x: 0.5 + 0.5 * jnp.tanh(x / 2)),
    "jax.nn.softplus": ("Softplus", jax.nn.softplus),
    "logaddexp": ("Softplus", lambda x: jnp.logaddexp(x, 0)),
    "logaddexp, zero first": ("Softplus", lambda x: jnp.logaddexp(0.0, x)),
    "softplus by hand": ("Softplus", lambda x: jnp.log1p(jnp.exp(x))),
    "nnx.gelu": ("GELU", nnx.gelu),
    "gelu, half last": (
        "GELU",
        lambda x: x * (1 + jnp.tanh(jnp.sqrt(2 / jnp.pi) * (x + 0.044715 * x**3))) / 2,
    ),
    "gelu, factor": (
        "GELU",
        lambda x: 0.5 * x * (1 + jnp.tanh(0.79788456 * x * (1 + 0.044715 * x * x))),
    ),
    "gelu by sigmoid": ("GELU", lambda x: x * nnx.sigmoid(1.5957691 * (x + 0.044715 * x**3))),
    "exact gelu": ("GELU", lambda x: nnx.gelu(x, approximate=False)),
    "exact gelu by erf": ("GELU", lambda x: x * 0.5 * (1 + lax.erf(x * jnp.sqrt(0.5)))),
    "nnx.silu": ("SiLU", nnx.silu),
    "silu, quotient": ("SiLU", lambda x: x / (1 + jnp.exp(-x))),
    "silu by tanh": ("SiLU", lambda x: x * (0.5 + 0.5 * jnp.tanh(x / 2))),
    "swish": ("SiLU", lambda x: x * nnx.sigmoid(1.702 * x)),
    "jax.nn.mish": ("Mish", jax.nn.mish),
    "mish by hand": ("Mish", lambda x: x * jnp.tanh(jnp.log1p(jnp.exp(x)))),
    "nnx.hard_swish": ("HardSiLU", nnx.hard_swish),
    "hard swish by hand": ("HardSiLU", lambda x: x * jnp.clip(x * (1 / 6) + 0.5, 0, 1)),
    "nnx.elu": ("ELU", nnx.elu),
    "elu by hand": ("ELU", lambda x: jnp.where(x > 0, x, 0.5 * (jnp.exp(x) - 1))),
    "nnx.selu": ("SELU", nnx.selu),
    "nnx.celu": ("CELU", lambda x: nnx.celu(x, 0.5)),
    "nnx.hard_tanh": ("HardTanh", nnx.hard_tanh),
    "nnx.hard_sigmoid": ("HardSigmoid", nnx.hard_sigmoid),
    "nnx.relu6": ("ReLU6", nnx.relu6),
    "relu6 by hand": ("ReLU6", lambda x: jnp.minimum(jnp.maximum(x, 0), 6)),
    "jax.nn.soft_sign": ("SoftSign", jax.nn.soft_sign),
    "jax.nn.sparse_plus": ("SparsePlus", jax.nn.sparse_plus),
    "jax.nn.sparse_sigmoid": ("SparseSigmoid", jax.nn.sparse_sigmoid),
    "arctan": ("Arctan", jnp.arctan),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_becomes_a_node_of_its_family(name):
    family, activation = ACTIVATIONS[name]

    def net(p, x):
        return activation(x @ p["w"]) @ p["u"]

    report = cg.lift(net).report(PARAMS, X)
    assert [e.family for e in report.lifted] == [family]
    assert not report.skipped
    assert report.lifted[0].shape == (5, 4)
    assert "test_recognised.py" in report.lifted[0].source

    lifted = cg.lift(net)
    assert np.array_equal(lifted(PARAMS, X), net(PARAMS, X))
    assert np.array_equal(jax.jit(lifted)(PARAMS, X), jax.jit(net)(PARAMS, X))
    gradients = [jax.grad(lambda p, f=f: f(p, X).sum())(PARAMS) for f in (net, lifted)]
    assert jax.tree.all(jax.tree.map(np.array_equal, *gradients))

    _, nodes = cg.with_nodes(cg.feed_forward(lifted))(PARAMS, X)
    (value,) = nodes.values()
    # The compiled network may round differently from one operation after the other.
    np.testing.assert_allclose(value, activation(X @ PARAMS["w"]), rtol=1e-5, atol=1e-6)
    sample = cg.forward_sample(lifted)(KEY, PARAMS, X)
    assert np.isfinite(sample).all() and not np.array_equal(sample, net(PARAMS, X))


LEAKY = {
    "touching nowhere": lambda x: _piecewise(x, x < 0, x > 0),
    "the rest": lambda x: _piecewise(x, x < 0),
    "the other first": lambda x: jnp.piecewise(x, [x >= 0, x < 0], [lambda x: x, lambda x: x / 5]),
    "with an argument": lambda x: jnp.piecewise(
        x, [x > 0], [lambda x, a: x, lambda x, a: a * x], 0.2
    ),
    "one by one": jax.vmap(lambda row: _piecewise(row, row < 0)),
    "select": lambda x: jnp.select([x > 0, x <= 0], [x, 0.1 * x]),
    "whole numbers": lambda x: lax.select_n((x > 0).astype(jnp.int32), 0.1 * x, x),
    "decided already": lambda x: jnp.where(x > 0, jnp.where(x >= 0, x, -5.0), 0.1 * x),
    "branches": jax.vmap(
        jax.vmap(lambda v: lax.cond(v > 0, lambda v: v, lambda v: 0.1 * v, v)),
    ),
    "a switch": jax.vmap(
        jax.vmap(lambda v: lax.switch(jnp.int32(v > 0), [lambda v: 0.1 * v, lambda v: v], v)),
    ),
}


@pytest.mark.parametrize("name", LEAKY)
def test_choices_are_one_however_they_are_nested(name):
    assert families(lambda p, x: LEAKY[name](x @ p["w"]) @ p["u"], PARAMS, X) == ["LeakyReLU"]


def test_choices_that_are_no_leaky_rectifier():
    def others(p, x):
        e = x @ p["w"]
        first = jnp.piecewise(e, [e < 0, e > 0], [lambda e: 0.1 * e, lambda e: e, lambda e: e + 1])
        second = jnp.where(e > 0, e, jnp.where(e > 1, 0.1 * e, 0.2 * jnp.sin(e)))
        return (first + second) @ p["u"]

    assert "LeakyReLU" not in families(others, PARAMS, X)


CLIPS = {
    "clip": lambda q: jnp.clip(q, 1e-7, 1 - 1e-7),
    "maximum": lambda q: jnp.maximum(q, 1e-7),
    "and scaled": lambda q: 2 * lax.clamp(1e-7, q, 1.0) - 1,
}


@pytest.mark.parametrize("name", CLIPS)
def test_probabilities_that_are_clipped_are_results(name):
    """Of few values, a clip renames the states: the nodes are outputs."""

    def net(p, x):
        h = jax.nn.relu(x @ p["w"])
        return CLIPS[name](jax.nn.softmax(h @ p["u"])), CLIPS[name](jax.nn.sigmoid(h @ p["v"]))

    lifted = cg.lift(net)
    report = lifted.report(PARAMS, X)
    assert {e.family for e in report.lifted} == {"Bernoulli", "Categorical", "ReLU"}
    graph = cg.chain_graph(lifted)(PARAMS, X)
    assert sum(c.output for c in graph.components) == 2


def test_values_that_are_clipped_are_used():
    """A clip of a value among infinitely many is a function of it."""
    net = cg.lift(lambda p, x: jnp.minimum(cg.node(cg.nodes.ReLU(), x @ p["w"], name="h"), 1.0))
    (component,) = cg.chain_graph(net)(PARAMS, X).components
    assert not component.output


@pytest.mark.parametrize("slope", [0.01, 0.2, 0.3, 1 / 3, 1.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_slope_is_recovered(slope, dtype):
    lifted = cg.lift(lambda x: 2 * nnx.leaky_relu(x, slope))
    (site,) = trace(lifted, (X.astype(dtype),)).sites
    assert _static.join(site.family, []) == cg.nodes.LeakyReLU(slope)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_numbers_of_other_functions_are_recovered(dtype):
    made = {
        cg.nodes.ELU(0.3): lambda x: nnx.elu(x, 0.3),
        cg.nodes.CELU(2.5): lambda x: nnx.celu(x, 2.5),
        cg.nodes.SiLU(1.702): lambda x: x * nnx.sigmoid(1.702 * x),
    }
    for family, activation in made.items():
        lifted = cg.lift(lambda x, f=activation: 2 * f(x))
        (site,) = trace(lifted, (X.astype(dtype),)).sites
        found = _static.join(site.family, [])
        assert type(found) is type(family)
        (own,), (wanted,) = vars(found).values(), vars(family).values()
        np.testing.assert_allclose(own, wanted, rtol=5e-3)
    x = jax.grad(lambda b: cg.lift(lambda b, x: (x * nnx.sigmoid(b * x)).sum())(b, X))(1.5)
    assert families(lambda p, b, x: x * nnx.sigmoid(b * x) @ p["w"], PARAMS, 1.5, X) == ["SiLU"]
    assert np.isfinite(x)


def test_a_slope_that_is_a_parameter():
    module = nnx.PReLU(0.3)
    assert families(lambda p, a, x: jax.nn.leaky_relu(x, a) @ p["w"], PARAMS, 0.3, X) == [
        "LeakyReLU"
    ]
    lifted = cg.lift(module)
    assert [e.family for e in lifted.report(X).lifted] == ["LeakyReLU"]

    def marked(x):
        return cg.node(cg.nodes.LeakyReLU(0.3), x)

    sample = cg.forward_sample(lifted)(KEY, X)
    # The slope is an array here and a number there, and enters the sample by one product.
    np.testing.assert_allclose(sample, cg.forward_sample(marked)(KEY, X), rtol=1e-6)
    slopes = jax.grad(lambda a: cg.lift(lambda a, x: jax.nn.leaky_relu(x, a).sum())(a, X))(0.3)
    np.testing.assert_allclose(slopes, jnp.minimum(X, 0).sum(), rtol=1e-6)


def test_a_slope_that_no_family_has_is_skipped():
    assert skipped(lambda x: jnp.where(x > 0, x, 3 * x), X) == [("leaky_relu", False)]
    assert skipped(lambda x: jnp.where(x > 0, x, -0.1 * x), X) == [("leaky_relu", False)]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_final_softmax_is_an_output_node_with_its_axis(axis):
    def by_hand(x):
        e = jnp.exp(x - x.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    for softmax in (lambda x: nnx.softmax(x, axis), by_hand):
        lifted = cg.lift(lambda p, x, f=softmax: f(x @ p["w"]))
        assert [e.family for e in lifted.report(PARAMS, X).lifted] == ["Categorical"]
        sample = cg.forward_sample(lifted)(KEY, PARAMS, X)
        assert set(np.unique(sample)) == {0, 1} and np.array_equal(
            sample.sum(axis), sample.max(axis)
        )
        # Output nodes stay collapsed unless they are named.
        mean = cg.feed_forward(lifted)(PARAMS, X)
        with pytest.warns(UserWarning, match="samples nothing"):
            assert np.array_equal(cg.pcff(lifted, 1.0)(KEY, PARAMS, X), mean)
        named = cg.pcff(lifted, {"categorical_0": 1.0})(KEY, PARAMS, X)
        assert np.array_equal(named, sample)


def test_a_softmax_under_vmap_keeps_its_axis():
    def net(p, x):
        return jax.vmap(lambda row: jax.nn.softmax(row @ p["w"]), out_axes=1)(x)

    lifted = cg.lift(net)
    assert families(net, PARAMS, X) == ["Categorical"]
    assert np.array_equal(cg.forward_sample(lifted)(KEY, PARAMS, X).sum(0), np.ones(5))


def _scanned(f):
    return lambda x: lax.scan(lambda carry, row: (carry, f(row)), 0.0, x)[1]


WRAPPERS = {
    "jit": jax.jit,
    "jit in jit": lambda f: jax.jit(lambda x: jax.jit(f)(x)),
    "remat": jax.checkpoint,
    "vmap": jax.vmap,
    "scan": _scanned,
    "cond": lambda f: lambda x: lax.cond(x.sum() > -1e9, f, jnp.zeros_like, x),
    "fori": lambda f: lambda x: lax.fori_loop(0, 2, lambda i, x: f(x), x),
    "jit of vmap of remat": lambda f: jax.jit(jax.vmap(jax.checkpoint(f))),
}


@pytest.mark.parametrize("function", ["jax.nn.relu", "leaky where", "jnp.tanh", "jax.nn.softplus"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_recognised_under_transformations(function, wrapper):
    family, activation = ACTIVATIONS[function]

    def net(p, x):
        return WRAPPERS[wrapper](lambda x: activation(x @ p["w"]))(x) @ p["u"]

    lifted = cg.lift(net)
    assert families(net, PARAMS, X) == [family]
    assert np.array_equal(jax.jit(lifted)(PARAMS, X), jax.jit(net)(PARAMS, X))
    assert not np.array_equal(cg.forward_sample(lifted)(KEY, PARAMS, X), net(PARAMS, X))


def test_a_step_of_a_loop_of_unknown_length_is_lifted():
    def net(p, x):
        return lax.while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.tanh(c[1] @ p["w"])), (0, x)
        )[1]

    assert families(net, PARAMS, X) == ["Spin"]
    assert set(np.unique(cg.forward_sample(cg.lift(net))(KEY, PARAMS, X))) == {-1, 1}


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_recognised_in_any_precision(name, dtype):
    family, activation = ACTIVATIONS[name]
    with jax.enable_x64(True) if dtype == jnp.float64 else contextlib.nullcontext():
        x = jnp.asarray(X, dtype)
        lifted = cg.lift(lambda x: 2 * activation(x))
        assert [e.family for e in lifted.report(x).lifted] == [family]
        assert jax.eval_shape(cg.forward_sample(lifted), KEY, x).dtype == dtype


def test_the_compiled_code_is_that_of_the_network():
    def net(p, x):
        h = nnx.relu(x @ p["w"])
        h = lax.scan(lambda h, w: (jnp.tanh(h @ w), None), h, jnp.stack([p["u"], p["v"]]))[0]
        return jax.nn.softmax(jax.nn.softplus(h) @ p["w"])

    def code(f):
        text = jax.jit(f).lower(PARAMS, X).as_text()
        # Functions are named after what was traced, and numbered.
        return re.sub(r"@[\w.<>]+", "@f", re.sub(r"module @\w+", "module", text))

    assert code(cg.lift(net)) == code(net)
    assert families(net, PARAMS, X) == ["ReLU", "Spin", "Softplus", "Categorical"]


def test_a_custom_derivative_survives():
    def net(x):
        return jax.nn.relu(x)

    # The derivative of jax.nn.relu at 0 is 0; that of maximum, which it is made of, is 1/2.
    zeros = jnp.zeros(3)
    assert np.array_equal(jax.grad(lambda x: cg.lift(net)(x).sum())(zeros), zeros)
    half = jax.grad(lambda x: cg.lift(lambda x: jnp.maximum(x, 0))(x).sum())(zeros)
    assert np.array_equal(half, jnp.full(3, 0.5))


def test_an_activation_inside_a_custom_derivative_is_skipped():
    @jax.custom_vjp
    def f(x):
        return jnp.tanh(x * 2) * 3 + 1

    f.defvjp(lambda x: (f(x), x), lambda x, g: (7 * g,))
    (entry,) = cg.lift(lambda x: f(x)).report(X).skipped
    assert "custom derivative" in entry.reason and not entry.optional
    assert np.array_equal(
        jax.grad(lambda x: cg.lift(lambda x: f(x))(x).sum())(X), jnp.full((5, 4), 7.0)
    )

    @jax.custom_jvp
    def hard(x):  # a custom derivative around nothing but an activation
        return jnp.tanh(x)

    hard.defjvp(lambda primals, tangents: (hard(*primals), 5 * tangents[0]))
    assert families(lambda x: hard(x), X) == ["Spin"]
    assert np.array_equal(
        jax.grad(lambda x: cg.lift(lambda x: hard(x))(x).sum())(X), jnp.full((5, 4), 5.0)
    )


def test_what_the_network_differentiates_through_is_skipped():
    def force(p, x):
        return jax.grad(lambda x: (jnp.tanh(x @ p["w"]) @ p["u"]).sum())(x)

    (entry,) = cg.lift(force).report(PARAMS, X).skipped
    assert "differentiates" in entry.reason

    # Differentiating the procedure from outside is another matter.
    def loss(p):
        return cg.pcff(cg.lift(lambda p, x: jnp.tanh(x @ p["w"]) @ p["u"]), 0.5)(KEY, p, X).sum()

    gradient = jax.jit(jax.grad(loss))(PARAMS)
    assert np.isfinite(gradient["w"]).all() and np.abs(gradient["w"]).max() > 0


# Functions of `jax.nn` that are no activation of one value, or the mean of no variable with a
# variance: docs/activations.md says why.
OTHERS = {
    *("dot_product_attention", "get_scaled_dot_general_config", "glu", "identity", "initializers"),
    *("log1mexp", "log_sigmoid", "log_softmax", "logmeanexp", "logsumexp", "one_hot"),
    *("scaled_dot_general", "scaled_matmul", "squareplus", "standardize"),
}


def test_every_activation_of_jax_is_lifted_or_known_not_to_be():
    for name in sorted(n for n in dir(jax.nn) if not n.startswith("_")):
        if name in OTHERS:
            continue
        activation = getattr(jax.nn, name)
        assert len(families(lambda p, x, f=activation: f(x @ p["w"]), PARAMS, X)) == 1, name
    assert families(lambda p, x: jnp.sin(x @ p["w"]), PARAMS, X, include="sine*") == ["Sine"]
