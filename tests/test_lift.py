"""`lift`: activations of networks written without cgjax become nodes, and nothing else does."""

import contextlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

import cgjax as cg
from cgjax import _static
from cgjax._program import trace

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (5, 4))
Y = jnp.sign(jax.random.normal(jax.random.key(2), (5, 4)))
LABELS = jnp.arange(5) % 4


def _weights(seed, shape=(4, 4)):
    return jax.random.normal(jax.random.key(seed), shape)


PARAMS = {"w": _weights(3), "u": _weights(4), "v": _weights(5), "gain": jnp.ones(4) * 1.5}


def families(net, *args, **options):
    return [entry.family for entry in cg.lift(net, **options).report(*args).lifted]


def skipped(net, *args, **options):
    return [(e.function, e.optional) for e in cg.lift(net, **options).report(*args).skipped]


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
    assert "test_lift.py" in report.lifted[0].source

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


@pytest.mark.parametrize("slope", [0.01, 0.2, 0.3, 1 / 3, 1.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_slope_is_recovered(slope, dtype):
    lifted = cg.lift(lambda x: 2 * nnx.leaky_relu(x, slope))
    (site,) = trace(lifted, (X.astype(dtype),)).sites
    assert _static.join(site.family, []) == cg.nodes.LeakyReLU(slope)


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


# ---- what is not lifted: functions of (parameters, x, y) and what the report says is skipped

GATE, NEVER = True, False


def _gru(p, x, h):
    z = jax.nn.sigmoid(x @ p["w"] + h @ p["u"])
    r = jax.nn.sigmoid(x @ p["u"] + h @ p["v"])
    n = jnp.tanh(x @ p["v"] + r * (h @ p["w"]))
    return h + z * (n - h)


def _lstm(p, carry, x):
    c, h = carry
    f, i, o = (jax.nn.sigmoid(x @ p[k] + h @ p[k]) for k in "wuv")
    c = f * c + i * jnp.tanh(x @ p["w"] + h @ p["u"])
    h = o * jnp.tanh(c)
    return (c, h), h


def _layer_norm(p, x):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.maximum((x * x).mean(-1, keepdims=True) - mean * mean, 0)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * p["gain"][None]


def _layer_norm_2(p, x):
    centred = x - x.mean(-1, keepdims=True)
    variance = jax.nn.relu((centred * centred).mean(-1, keepdims=True))
    return centred * lax.rsqrt(variance + 1e-5) * p["gain"][None]


def _attention(p, x, y):
    return jax.nn.softmax((x @ p["w"]) @ (y @ p["u"]).T / 2) @ (y @ p["v"])


def _causal_attention(p, x, y):
    scores = jnp.where(jnp.tri(5) > 0, 30 * jnp.tanh(x @ p["w"] @ x.T / 30), -1e9)
    scores = scores - scores.max(-1, keepdims=True)
    weights = jnp.exp(scores) / jnp.exp(scores).sum(-1, keepdims=True)
    return weights @ (x @ p["v"])


def _normalised_by_maximum(p, x, y):
    return x / jnp.maximum(jnp.abs(x).max(-1, keepdims=True), 1e-6)


NEGATIVES = {
    "silu": (lambda p, x, y: nnx.silu(x @ p["w"]), [("logistic", GATE)]),
    "swish by hand": (lambda p, x, y: x * jax.nn.sigmoid(1.7 * x), [("logistic", GATE)]),
    "gelu": (lambda p, x, y: nnx.gelu(x), [("tanh", GATE)]),
    "exact gelu": (lambda p, x, y: nnx.gelu(x, approximate=False), []),
    "gelu by hand": (
        lambda p, x, y: 0.5 * x * (1 + jnp.tanh(0.8 * (x + 0.04 * x**3))),
        [("tanh", GATE)],
    ),
    "mish": (lambda p, x, y: jax.nn.mish(x), [("softplus", NEVER), ("tanh", NEVER)]),
    "mish by hand": (
        lambda p, x, y: x * jnp.tanh(jax.nn.softplus(x)),
        [("softplus", NEVER), ("tanh", GATE)],
    ),
    "elu": (lambda p, x, y: nnx.elu(x), []),
    "selu": (lambda p, x, y: nnx.selu(x), []),
    "celu": (lambda p, x, y: nnx.celu(x), [("relu", NEVER)]),
    "glu": (lambda p, x, y: nnx.glu(x @ p["w"]), [("logistic", GATE)]),
    "glu by hand": (
        lambda p, x, y: (x @ p["w"]) * jax.nn.sigmoid(x @ p["u"]) @ p["v"],
        [("logistic", GATE)],
    ),
    "reglu": (lambda p, x, y: (x @ p["w"]) * jax.nn.relu(x @ p["u"]), [("relu", GATE)]),
    "gated tanh": (
        lambda p, x, y: jnp.tanh(x @ p["w"]) * jax.nn.sigmoid(x @ p["u"]),
        [("tanh", GATE), ("logistic", GATE)],
    ),
    "highway": (
        lambda p, x, y: (lambda t: t * jnp.tanh(x @ p["w"]) + (1 - t) * x)(
            jax.nn.sigmoid(x @ p["u"])
        ),
        [("logistic", GATE), ("tanh", GATE)],
    ),
    "gru": (lambda p, x, y: _gru(p, x, y), [("logistic", GATE)] * 2 + [("tanh", GATE)]),
    "gru in a scan": (
        lambda p, x, y: lax.scan(lambda h, x: (_gru(p, x, h),) * 2, y[0], x)[1] @ p["w"],
        [("logistic", GATE)] * 2 + [("tanh", GATE)],
    ),
    "lstm": (
        lambda p, x, y: _lstm(p, (y, y), x),
        [("logistic", GATE)] * 3 + [("tanh", GATE)] * 2,
    ),
    "lstm in a scan": (
        lambda p, x, y: lax.scan(lambda c, x: _lstm(p, c, x), (0 * x[0], 0 * x[0]), x)[1],
        [("logistic", GATE)] * 3 + [("tanh", GATE)] * 2,
    ),
    "attention": (_attention, [("softmax", GATE)]),
    "causal attention": (_causal_attention, [("tanh", GATE), ("softmax", GATE)]),
    "sigmoid attention": (
        lambda p, x, y: jax.nn.sigmoid(x @ p["w"] @ x.T) @ (x @ p["v"]),
        [("logistic", GATE)],
    ),
    "pooling": (
        lambda p, x, y: (jax.nn.softmax(x @ p["gain"], 0)[:, None] * (x @ p["w"])).sum(0),
        [("softmax", GATE)],
    ),
    "mixture of experts": (
        lambda p, x, y: jnp.einsum("be,bd->bd", jax.nn.softmax(x @ p["w"]), x),
        [("softmax", GATE)],
    ),
    "layer norm": (lambda p, x, y: _layer_norm(p, x), [("relu", NEVER)]),
    "layer norm, relu": (lambda p, x, y: _layer_norm_2(p, x), [("relu", NEVER)]),
    "divided by the maximum": (_normalised_by_maximum, []),
    "distance": (
        lambda p, x, y: jnp.sqrt(jnp.maximum(((x - y) ** 2).sum(-1), 0)),
        [("relu", NEVER)],
    ),
    "clip": (lambda p, x, y: jnp.clip(x @ p["w"], 0, 1), [("relu", NEVER)]),
    "clip from below": (lambda p, x, y: jnp.clip(x @ p["w"], 0), [("relu", NEVER)]),
    "clip by hand": (lambda p, x, y: jnp.minimum(jnp.maximum(x, 0), 1), [("relu", NEVER)]),
    "clip by hand, other order": (
        lambda p, x, y: jnp.maximum(jnp.minimum(x, 1), 0),
        [("relu", NEVER)],
    ),
    "lax.clamp": (lambda p, x, y: lax.clamp(0.0, x, 1.0), []),
    "relu6": (lambda p, x, y: nnx.relu6(x), [("relu", NEVER)]),
    "hard_tanh": (lambda p, x, y: nnx.hard_tanh(x), []),
    "hard_sigmoid": (lambda p, x, y: nnx.hard_sigmoid(x), [("relu", NEVER)]),
    "hard_swish": (lambda p, x, y: nnx.hard_swish(x), [("relu", NEVER)]),
    "maximum of two values": (lambda p, x, y: jnp.maximum(x, y), []),
    "maximum with another bound": (lambda p, x, y: jnp.maximum(x, 0.1), []),
    "of parameters": (
        lambda p, x, y: x @ (p["w"] * jax.nn.softplus(p["u"])),
        [("softplus", NEVER)],
    ),
    "unused": (lambda p, x, y: (jnp.tanh(x), x @ p["w"])[1], [("tanh", NEVER)]),
    "cross entropy": (
        lambda p, x, y: optax.softmax_cross_entropy_with_integer_labels(x, LABELS).mean(),
        [],
    ),
    "negative log-likelihood": (
        lambda p, x, y: -jnp.log(jax.nn.softmax(x)[jnp.arange(5), LABELS]).mean(),
        [("softmax", NEVER)],
    ),
    "log_softmax": (lambda p, x, y: jax.nn.log_softmax(x @ p["w"]), []),
    "logsumexp": (lambda p, x, y: jax.nn.logsumexp(x, -1), []),
    "binary cross entropy": (
        lambda p, x, y: optax.sigmoid_binary_cross_entropy(x, y).mean(),
        [("softplus", NEVER)] * 2,
    ),
    "binary cross entropy by hand": (
        lambda p, x, y: jnp.mean(jnp.maximum(x, 0) - x * y + jnp.log1p(jnp.exp(-jnp.abs(x)))),
        [("relu", NEVER), ("softplus", NEVER)],
    ),
    "binary cross entropy by softplus": (
        lambda p, x, y: jnp.mean(jax.nn.softplus(x @ p["w"]) - (x @ p["w"]) * y),
        [("softplus", NEVER)],
    ),
    "binary cross entropy by logarithms": (
        lambda p, x, y: (lambda q: -jnp.mean(y * jnp.log(q) + (1 - y) * jnp.log(1 - q)))(
            jnp.clip(jax.nn.sigmoid(x @ p["w"]), 1e-6, 1 - 1e-6)
        ),
        [("logistic", NEVER)],
    ),
    "hinge": (lambda p, x, y: optax.hinge_loss(x @ p["w"], y).mean(), [("relu", NEVER)]),
    "hinge, one each": (lambda p, x, y: optax.hinge_loss(x @ p["w"], y), [("relu", NEVER)]),
    "hinge, squared": (
        lambda p, x, y: jnp.mean(jax.nn.relu(1 - y * (x @ p["w"])) ** 2),
        [("relu", NEVER)],
    ),
    "perceptron": (
        lambda p, x, y: optax.losses.perceptron_loss(x @ p["w"], y).mean(),
        [("relu", NEVER)],
    ),
    "huber": (lambda p, x, y: optax.huber_loss(x @ p["w"], y).mean(), []),
    "log cosh": (
        lambda p, x, y: optax.log_cosh(x @ p["w"], y).mean(),
        [("softplus", NEVER)],
    ),
    "triplet": (
        lambda p, x, y: optax.losses.triplet_margin_loss(x, y, x @ p["w"]).mean(),
        [("relu", NEVER)],
    ),
    "epsilon-insensitive": (
        lambda p, x, y: jnp.mean(jax.nn.relu(jnp.abs(x @ p["w"] - y) - 0.1)),
        [("relu", NEVER)],
    ),
}


@pytest.mark.parametrize("name", NEGATIVES)
def test_not_lifted(name):
    net, expected = NEGATIVES[name]
    report = cg.lift(net).report(PARAMS, X, Y)
    assert not report.lifted, report
    assert sorted((e.function, e.optional) for e in report.skipped) == sorted(expected), report
    assert all(e.reason for e in report.skipped)


# ---- activations that stand near something that could be taken for a gate

NEAR_GATES = {
    "a gain after it": (lambda p, x, m: jnp.tanh(x @ p["w"]) * p["gain"][None] @ p["u"], ["Spin"]),
    "a gain, one example": (lambda p, x, m: (jnp.tanh(x @ p["w"]) * p["gain"][None])[0], ["Spin"]),
    "normalised after it": (lambda p, x, m: _layer_norm(p, jax.nn.relu(x @ p["w"])), ["ReLU"]),
    "normalised with a skip": (
        lambda p, x, m: _layer_norm_2(p, x + jax.nn.relu(x @ p["w"])),
        ["ReLU"],
    ),
    "squared": (lambda p, x, m: jax.nn.relu(x @ p["w"]) ** 2 @ p["u"], ["ReLU"]),
    "times itself": (lambda p, x, m: jnp.square(jnp.tanh(x @ p["w"])) @ p["u"], ["Spin"]),
    "a mask": (lambda p, x, m: (jax.nn.relu(x @ p["w"]) * m[:, None]) @ p["u"], ["ReLU"]),
    "a condition": (lambda p, x, m: (jax.nn.relu(x @ p["w"]) * (x > 1)) @ p["u"], ["ReLU"]),
    "noise": (
        lambda p, x, m: jax.nn.relu(x @ p["w"]) * jax.random.bernoulli(KEY, 0.5, (5, 4)) * 2,
        ["ReLU"],
    ),
    "squeeze and excite": (
        lambda p, x, m: (lambda h: h * jax.nn.sigmoid(jax.nn.relu(h @ p["u"]) @ p["v"]))(
            jax.nn.relu(x @ p["w"])
        ),
        ["ReLU", "ReLU"],
    ),
    "a residual that is returned": (lambda p, x, m: x + jax.nn.relu(x @ p["w"]), ["ReLU"]),
    "averaged over the batch": (lambda p, x, m: jax.nn.relu(x @ p["w"]).mean(0), ["ReLU"]),
    "additive attention": (
        lambda p, x, m: jax.nn.softmax(jnp.tanh(x @ p["w"]) @ p["gain"], 0) @ x,
        ["Spin"],
    ),
    "graph convolution": (
        lambda p, x, a: (
            (a[:, None] * a[None]) @ jax.nn.relu((a[:, None] * a[None]) @ x @ p["w"]) @ p["u"]
        ),
        ["ReLU"],
    ),
    "a generator": (
        lambda p, x, m: jnp.tanh(jax.nn.relu(jax.random.normal(KEY, (5, 4)) @ p["w"]) @ p["u"]),
        ["ReLU", "Spin"],
    ),
    "after max-pooling": (
        lambda p, x, m: jax.nn.relu((x @ p["w"]).reshape(5, 2, 2).max(-1)) @ p["u"][:2],
        ["ReLU"],
    ),
}


@pytest.mark.parametrize("name", NEAR_GATES)
def test_lifted_all_the_same(name):
    net, expected = NEAR_GATES[name]
    assert families(net, PARAMS, X, jnp.ones(5)) == expected


def _plain(w, b, u, x):
    return jax.nn.softmax(jax.nn.relu(x @ w + b[None]) @ u)


def test_any_way_to_hold_the_parameters():
    w, b, u = PARAMS["w"], PARAMS["gain"], PARAMS["u"]
    expected = ["ReLU", "Categorical"]
    assert families(_plain, w, b, u, X) == expected
    assert families(lambda x: _plain(w, b, u, x), X) == expected
    assert families(lambda p, x: _plain(p[0], p[1], p[2], x), (w, b, u), X) == expected
    assert families(lambda x, p: _plain(p[0], p[1], p[2], x), X, [w, b, u]) == expected
    by_name = cg.lift(lambda x, *, p: _plain(p[0], p[1], p[2], x)).report(X, p=(w, b, u))
    assert [e.family for e in by_name.lifted] == expected
    # A gate whose other factor depends on nothing that the gate depends on.
    assert skipped(lambda p, a, b: jax.nn.sigmoid(a @ p["w"]) * (b @ p["u"]), PARAMS, X, Y) == [
        ("logistic", GATE)
    ]
    # A container that holds data, in a function that closes over its parameters.
    assert skipped(lambda c, x: jax.nn.sigmoid(x @ w) * c[0], (Y, Y), X, parameters=()) == [
        ("logistic", GATE)
    ]


# ---- Flax's own layers

RNGS = nnx.Rngs(0)
LAYERS = {
    "BatchNorm": (lambda: nnx.BatchNorm(4, rngs=RNGS), (X,), [("relu", NEVER)]),
    "LayerNorm": (lambda: nnx.LayerNorm(4, rngs=RNGS), (X,), [("relu", NEVER)]),
    "GroupNorm": (lambda: nnx.GroupNorm(4, num_groups=2, rngs=RNGS), (X,), [("relu", NEVER)]),
    "InstanceNorm": (lambda: nnx.InstanceNorm(4, rngs=RNGS), (X[None],), [("relu", NEVER)]),
    "RMSNorm": (lambda: nnx.RMSNorm(4, rngs=RNGS), (X,), []),
    "Dropout": (lambda: nnx.Dropout(0.5, rngs=nnx.Rngs(0)), (X,), []),
    "MultiHeadAttention": (
        lambda: nnx.MultiHeadAttention(2, 4, 4, decode=False, rngs=RNGS),
        (X[None],),
        [("softmax", GATE)],
    ),
    "GRUCell": (
        lambda: nnx.GRUCell(4, 4, rngs=RNGS),
        (Y, X),
        [("logistic", GATE)] * 2 + [("tanh", GATE)],
    ),
    "RNN of GRUCell": (
        lambda: nnx.RNN(nnx.GRUCell(4, 3, rngs=RNGS)),
        (X[None],),
        [("logistic", GATE)] * 2 + [("tanh", GATE)],
    ),
    "LSTMCell": (
        lambda: nnx.LSTMCell(4, 4, rngs=RNGS),
        ((Y, Y), X),
        [("logistic", GATE)] * 3 + [("tanh", GATE)] * 2,
    ),
    "OptimizedLSTMCell": (
        lambda: nnx.OptimizedLSTMCell(4, 4, rngs=RNGS),
        ((Y, Y), X),
        [("logistic", GATE)] * 3 + [("tanh", GATE)] * 2,
    ),
    "RNN of LSTMCell": (
        lambda: nnx.RNN(nnx.LSTMCell(4, 3, rngs=RNGS)),
        (X[None],),
        [("logistic", GATE)] * 3 + [("tanh", GATE)] * 2,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_flax_stay_as_they_are(name):
    make, args, expected = LAYERS[name]
    report = cg.lift(make()).report(*args)
    assert not report.lifted, report
    assert sorted((e.function, e.optional) for e in report.skipped) == sorted(expected), report
    out, lifted = make()(*args), cg.lift(make())(*args)
    if name != "MultiHeadAttention":  # its weights are drawn anew each time
        if name in ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm", "Dropout"):
            assert jax.tree.all(jax.tree.map(np.array_equal, out, lifted))


def test_a_simple_recurrent_network():
    module = nnx.RNN(nnx.SimpleCell(4, 3, rngs=nnx.Rngs(0)))
    x = X[None]
    lifted = cg.lift(module)
    assert [e.family for e in lifted.report(x).lifted] == ["Spin"]
    assert np.array_equal(lifted(x), module(x))
    _, nodes = cg.with_nodes(cg.forward_sample(lifted))(KEY, x)
    assert nodes["spin_0"].shape == (5, 1, 3) and set(np.unique(nodes["spin_0"])) == {-1, 1}


class _Residual(nnx.Module):
    def __init__(self, channels, rngs):
        self.first = nnx.Conv(channels, channels, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(channels, rngs=rngs)
        self.second = nnx.Conv(channels, channels, (3, 3), rngs=rngs)
        self.last_norm = nnx.BatchNorm(channels, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.norm(self.first(x)))
        return nnx.relu(x + self.last_norm(self.second(h)))


class _ResNet(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.blocks = nnx.List([_Residual(4, rngs) for _ in range(2)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.output = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return nnx.softmax(self.output(self.dropout(x.mean((1, 2)))))


def test_a_residual_network_with_batch_norm():
    x = jax.random.normal(KEY, (2, 6, 6, 1))
    module, same = _ResNet(nnx.Rngs(0)), _ResNet(nnx.Rngs(0))
    report = cg.lift(module).report(x)
    assert [e.family for e in report.lifted] == ["ReLU"] * 5 + ["Categorical"]
    assert {e.function for e in report.skipped} == {"relu"}  # the variances of BatchNorm
    assert [e.node for e in report.lifted] == [*(f"relu_{k}" for k in range(5)), "categorical_0"]
    assert np.array_equal(cg.lift(module)(x), same(x))
    assert np.array_equal(module.norm.mean[...], same.norm.mean[...])  # updates are written back

    f, params, state = cg.functional(cg.lift(module))

    @jax.jit
    @jax.value_and_grad
    def loss(params, state, rate, key):
        out, _ = cg.pcff(f, rate)(key, params, state, x)
        return -jnp.log(out[:, 0] + 1e-3).mean()

    values = [loss(params, state, rate, KEY) for rate in (0.0, 0.4)]
    assert values[0][0] != values[1][0]
    for value, gradient in values:
        assert np.isfinite(value)
        leaves = jax.tree.leaves(gradient)
        assert all(np.isfinite(g).all() for g in leaves)
        assert all(np.abs(g).max() > 0 for g in leaves if g.ndim > 1)
    module.eval()
    assert [e.family for e in cg.lift(module).report(x).lifted] == ["ReLU"] * 5 + ["Categorical"]


class _Transformer(nnx.Module):
    def __init__(self, activation, rngs):
        self.embedding = nnx.Embed(10, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, 8, decode=False, dropout_rate=0.1, rngs=rngs)
        self.last_norm = nnx.LayerNorm(8, rngs=rngs)
        self.up = nnx.Linear(8, 16, rngs=rngs)
        self.down = nnx.Linear(16, 8, rngs=rngs)
        self.activation = activation

    def __call__(self, tokens):
        x = self.embedding(tokens)
        x = x + self.attention(self.norm(x), mask=nnx.make_causal_mask(tokens))
        x = x + self.down(self.activation(self.up(self.last_norm(x))))
        return self.embedding.attend(x)


def test_a_transformer():
    tokens = jnp.arange(12).reshape(2, 6) % 10
    module = _Transformer(nnx.relu, nnx.Rngs(0))
    module.eval()
    lifted = cg.lift(module)
    report = lifted.report(tokens)
    assert [e.family for e in report.lifted] == ["ReLU"]
    assert [(e.function, e.optional) for e in report.skipped if e.optional] == [("softmax", True)]
    assert np.array_equal(lifted(tokens), module(tokens))
    assert not np.array_equal(cg.pcff(lifted, 0.5)(KEY, tokens), module(tokens))

    gated = _Transformer(nnx.gelu, nnx.Rngs(0))
    gated.eval()
    assert not cg.lift(gated).report(tokens).lifted
    with_attention = cg.lift(module, include="softmax")
    assert [e.family for e in with_attention.report(tokens).lifted] == ["Categorical", "ReLU"]
    _, nodes = cg.with_nodes(cg.forward_sample(with_attention))(KEY, tokens)
    (choice,) = (v for k, v in nodes.items() if k.startswith("categorical"))
    assert np.array_equal(choice.sum(-1), np.ones(choice.shape[:-1]))  # each position looks at one


# ---- options


def _gated(p, x):
    h = jnp.tanh(x @ p["w"]) * jax.nn.sigmoid(x @ p["u"])
    return h * jax.nn.sigmoid(x @ p["v"])


def test_include_lifts_gates():
    assert not families(_gated, PARAMS, X)
    assert families(_gated, PARAMS, X, include="logistic") == ["Bernoulli"] * 2
    assert families(_gated, PARAMS, X, include=("tanh", "logistic_1")) == ["Spin", "Bernoulli"]
    assert families(_gated, PARAMS, X, include="*") == ["Spin", "Bernoulli", "Bernoulli"]
    report = cg.lift(_gated, include="logistic_1").report(PARAMS, X)
    assert [(e.label, e.node) for e in report.entries] == [
        ("tanh_0", None),
        ("logistic_0", None),
        ("logistic_1", "bernoulli_0"),
    ]
    lifted = cg.lift(_gated, include="*")
    assert np.array_equal(jax.jit(lifted)(PARAMS, X), jax.jit(_gated)(PARAMS, X))


def test_include_must_match_something_that_can_be_lifted():
    with pytest.raises(ValueError, match="'softmax' of `include` matches nothing.*logistic_0"):
        cg.lift(_gated, include="softmax")(PARAMS, X)
    with pytest.raises(ValueError, match="never lifted.*a clip"):
        cg.lift(lambda x: jnp.clip(x, 0, 1), include="relu").report(X)
    with pytest.raises(TypeError):
        cg.lift(_gated, include=(1,))  # pyright: ignore[reportArgumentType]


def test_output_makes_linear_results_nodes():
    def net(p, x):
        return jnp.tanh(x @ p["w"]) @ p["u"], jnp.arange(3)

    assert families(net, PARAMS, X) == ["Spin"]
    lifted = cg.lift(net, output=cg.nodes.Gaussian(0.5))
    report = lifted.report(PARAMS, X)
    assert [(e.label, e.node) for e in report.lifted] == [
        ("tanh", "spin_0"),
        ("output_0", "gaussian_0"),
    ]
    assert jax.tree.all(jax.tree.map(np.array_equal, lifted(PARAMS, X), jax.jit(net)(PARAMS, X)))
    # An output node: it stays collapsed under pcff, and forward sampling adds its noise.
    sampled = cg.pcff(lifted, {"spin_0": 0.0})(KEY, PARAMS, X)[0]
    np.testing.assert_allclose(sampled, net(PARAMS, X)[0], rtol=1e-5, atol=1e-6)  # compiled
    draws = jax.vmap(cg.pcff(lifted, {"gaussian_0": 1.0}), (0, None, None))(
        jax.random.split(KEY, 500), PARAMS, X
    )[0]
    # The standard error of a standard deviation from n draws is s / sqrt(2 n); 10,000 draws.
    deviation = (draws - net(PARAMS, X)[0][None]).std()
    assert abs(deviation - 0.5) < 5 * 0.5 / np.sqrt(2 * draws.size)

    chosen = cg.lift(net, output=cg.nodes.Categorical())
    np.testing.assert_allclose(
        chosen(PARAMS, X)[0], jax.nn.softmax(net(PARAMS, X)[0]), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="nodes already"):
        cg.lift(jnp.tanh, output=cg.nodes.Gaussian(1.0))(X)
    with pytest.raises(TypeError):
        cg.lift(net, output="gaussian")  # pyright: ignore[reportArgumentType]


def test_output_leaves_the_variables_of_a_module_alone():
    module = nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    report = cg.lift(module, output=cg.nodes.Gaussian(1.0)).report(X)
    assert [e.shape for e in report.lifted] == [(5, 3)]


# ---- names, nodes that are there already, procedures


def test_names_follow_the_walk_and_the_scopes():
    @jax.jit
    def layer(x):
        return jax.nn.relu(x)

    def net(p, x):
        x = layer(x @ p["w"])
        with cg.scope("block"):
            x = layer(x @ p["u"])
            x = layer(jnp.tanh(x @ p["w"]) @ p["v"])
        return layer(x @ p["w"]) @ p["u"]

    names = [e.node for e in cg.lift(net).report(PARAMS, X).lifted]
    assert names == ["relu_0", "block/relu_0", "block/spin_0", "block/relu_1", "relu_1"]
    out, nodes = cg.with_nodes(cg.feed_forward(cg.lift(net)))(PARAMS, X)
    assert list(nodes) == names
    clamped = cg.clamp(cg.lift(net), {"block/relu_1": jnp.zeros((5, 4))})
    assert np.array_equal(clamped(PARAMS, X), jnp.zeros((5, 4)))
    assert np.array_equal(cg.pcff(cg.lift(net), {"block/*": 0.0})(KEY, PARAMS, X), out)


def test_marked_nodes_stay():
    def net(p, x):
        x = cg.node(cg.nodes.ReLU(), x @ p["w"], name="mine")
        x = cg.node(cg.nodes.Softplus(), x @ p["u"], name="soft")
        x = cg.layers.Dropout(0.5)(x)
        return cg.node(cg.nodes.Categorical(), jax.nn.relu(x @ p["v"]))

    report = cg.lift(net).report(PARAMS, X)
    assert [e.node for e in report.lifted] == ["relu_0"] and not report.skipped
    nodes = cg.with_nodes(cg.forward_sample(cg.lift(net)))(KEY, PARAMS, X)[1]
    assert list(nodes) == ["mine", "soft", "dropout", "relu_0", "categorical_0"]
    twice = cg.lift(cg.lift(net))
    assert not twice.report(PARAMS, X).lifted
    assert list(cg.with_nodes(cg.forward_sample(twice))(KEY, PARAMS, X)[1]) == list(nodes)
    assert [e.node for e in cg.lift(cg.clamp(net, {"mine": 0.0})).report(PARAMS, X).lifted] == [
        "relu_0"
    ]


def test_lifting_is_the_same_as_marking():
    def net(p, x):
        return jax.nn.softplus(jnp.tanh(x @ p["w"]) @ p["u"]) @ p["v"]

    def marked(p, x):
        h = cg.node(cg.nodes.Spin(), x @ p["w"])
        return cg.node(cg.nodes.Softplus(), h @ p["u"]) @ p["v"]

    for rate in (0.3, {"spin_0": 1.0}, {"soft*": 1.0}):
        mine = cg.pcff(cg.lift(net), rate)(KEY, PARAMS, X)
        assert np.array_equal(mine, cg.pcff(marked, rate)(KEY, PARAMS, X))


def test_lifted_inside_a_larger_network():
    def net(p, x):
        return jnp.tanh(x @ p["w"])

    whole = lambda p, x: 2 * jax.jit(cg.lift(net))(p, x)  # noqa: E731
    whole(PARAMS, X)  # traced before outside a procedure
    assert set(np.unique(cg.forward_sample(whole)(KEY, PARAMS, X))) == {-2, 2}
    rows = jax.vmap(cg.pcff(cg.lift(net), {"*": 1.0, "spin_0": 1.0}), (None, None, 0))(
        KEY, PARAMS, X
    )
    assert set(np.unique(rows)) == {-1, 1}


def test_equal_requests_are_one_network_and_compile_once():
    traces = []

    def net(p, x):
        traces.append(None)
        return jnp.tanh(x @ p["w"]) @ p["u"]

    assert cg.lift(net) is cg.lift(net)
    assert hash(cg.lift(net)) == hash(cg.lift(net)) and cg.lift(net) != cg.lift(net, include="x")
    procedure = jax.jit(cg.pcff(cg.lift(net), 0.5))
    procedure(KEY, PARAMS, X)
    count = len(traces)
    jax.jit(cg.pcff(cg.lift(net), 0.5))(KEY, PARAMS, X)
    cg.pcff(cg.lift(net), 0.5)(KEY, PARAMS, X)
    assert len(traces) == count


def test_the_report_is_readable():
    text = str(cg.lift(_gated, include="tanh").report(PARAMS, X))
    lines = text.splitlines()
    assert lines[0].startswith("lifted   tanh_0 -> Spin 'spin_0'  [5, 4]  ")
    assert lines[1].startswith(
        "skipped  logistic_0: a gate: multiplied by other data at test_lift.py:"
    )
    assert "(lifted with include='logistic_0')" in lines[1]
    assert str(cg.lift(lambda x: x).report(X)) == "No activation was recognised."


def test_a_report_names_files_whose_path_has_spaces(tmp_path):
    file = tmp_path / "a folder" / "net.py"
    code = compile("def net(x):\n    return jnp.tanh(x) + 1\n", str(file), "exec")
    scope: dict[str, Any] = {"jnp": jnp}
    exec(code, scope)
    assert str(cg.lift(scope["net"]).report(X)).endswith("  a folder/net.py:2:11 (net)")


def test_a_deep_network_is_lifted_quickly():
    import time

    def net(p, x):
        for _ in range(100):
            x = x + jnp.tanh(x @ p["w"])
        return x

    start = time.perf_counter()
    assert len(cg.lift(net).report(PARAMS, X).lifted) == 100
    # About 0.5 s here; the bound leaves room for slow machines, not for quadratic work.
    assert time.perf_counter() - start < 20
