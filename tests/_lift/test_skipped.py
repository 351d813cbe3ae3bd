"""What `lift` leaves as it is, and what its report says of it."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from jax import lax

import cgjax as cg
from tests._lift.parts import GATE, KEY, LABELS, NEVER, PARAMS, X, Y, families, skipped


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


def _rg_lru(p, x, y):
    """The recurrence of Griffin: gates of the input and, in an exponential, of the decay."""
    log_a = -8 * jax.nn.sigmoid(x @ p["w"]) * jax.nn.softplus(p["gain"])[None]
    gated = x * jax.nn.sigmoid(x @ p["u"]) * jnp.sqrt(1 - jnp.exp(2 * log_a))
    return lax.scan(lambda h, row: (row[0] * h + row[1],) * 2, y[0], (jnp.exp(log_a), gated))[1]


def _graph_attention(p, x, y):
    ids = jnp.array([0, 0, 1, 1, 1])
    scores = jax.nn.leaky_relu(x @ p["gain"])
    e = jnp.exp(scores - jax.ops.segment_max(scores, ids, 2)[ids])
    shares = e / jax.ops.segment_sum(e, ids, 2)[ids]
    return jax.ops.segment_sum(shares[:, None] * (x @ p["v"]), ids, 2)


NEGATIVES = {
    "rg-lru": (_rg_lru, [("logistic", GATE)] * 2 + [("softplus", NEVER)]),
    "a decay": (
        lambda p, x, y: y * jnp.exp(-jax.nn.softplus(x @ p["w"]) * jnp.exp(p["u"][:1])),
        [("softplus", GATE)],
    ),
    "a decay, divided": (
        lambda p, x, y: y / jnp.exp2(jnp.tanh(x @ p["w"])),
        [("tanh", GATE)],
    ),
    "graph attention": (_graph_attention, [("leaky_relu", GATE)]),
    "gelu by hand": (
        lambda p, x, y: 0.5 * x * (1 + jnp.tanh(0.8 * (x + 0.04 * x**3))),
        [("tanh", GATE)],
    ),
    "swish of its own": (lambda p, x, y: x * jax.nn.sigmoid(x - 1), [("logistic", GATE)]),
    "swiglu": (
        lambda p, x, y: jax.nn.silu(x @ p["w"]) * (x @ p["u"]) @ p["v"],
        [("silu", GATE)],
    ),
    "geglu": (lambda p, x, y: jax.nn.gelu(x @ p["w"]) * (x @ p["u"]), [("gelu", GATE)]),
    "clip to one": (lambda p, x, y: jnp.clip(x @ p["w"], -1, 1), [("hard_tanh", GATE)]),
    "clip to one by hand": (
        lambda p, x, y: jnp.minimum(jnp.maximum(x @ p["w"], -1), 1),
        [("hard_tanh", GATE)],
    ),
    "fourier features": (
        lambda p, x, y: jnp.concatenate([jnp.sin(x @ p["w"]), jnp.cos(x @ p["w"])], -1),
        [("sine", GATE)],
    ),
    "falling swish": (lambda p, x, y: x * jax.nn.sigmoid(-x), [("swish", NEVER)]),
    "glu": (lambda p, x, y: nnx.glu(x @ p["w"]), [("logistic", GATE)]),
    "glu by hand": (
        lambda p, x, y: (x @ p["w"]) * jax.nn.sigmoid(x @ p["u"]) @ p["v"],
        [("logistic", GATE)],
    ),
    "reglu": (lambda p, x, y: (x @ p["w"]) * jax.nn.relu(x @ p["u"]), [("relu", GATE)]),
    "a gate of a residual": (
        lambda p, x, y: (lambda z: z * jax.nn.sigmoid(z @ p["u"]))(x + jnp.tanh(x @ p["w"])),
        [("tanh", GATE), ("logistic", GATE)],
    ),
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
    "squared, by a float": (
        lambda p, x, m: jnp.power(jax.nn.relu(x @ p["w"]), 2.0) @ p["u"],
        ["ReLU"],
    ),
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
    "in a function of a residual": (
        lambda p, x, m: (lambda u: u * jnp.exp(-jnp.abs(u)))(x + jnp.tanh(x @ p["w"])) @ p["u"],
        ["Spin"],
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
    "in a residual that gelu is applied to": (
        lambda p, x, m: jax.nn.gelu(x + jax.nn.relu(x @ p["w"])) @ p["u"],
        ["ReLU", "GELU"],
    ),
    "in a residual that silu is applied to, with a gain": (
        lambda p, x, m: jax.nn.silu(p["gain"][None] * (x + jax.nn.gelu(x @ p["w"]))) @ p["u"],
        ["GELU", "SiLU"],
    ),
    "in a residual that silu by hand is applied to": (
        lambda p, x, m: (lambda y: y / (1 + jnp.exp(-y)))(x + jnp.tanh(x @ p["w"])) @ p["u"],
        ["Spin", "SiLU"],
    ),
    "in a residual that hard silu is applied to": (
        lambda p, x, m: jax.nn.hard_silu(x + jax.nn.hard_silu(x @ p["w"])) @ p["u"],
        ["HardSiLU", "HardSiLU"],
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


def test_a_softmax_over_several_axes_is_reported_as_one():
    def net(p, x):
        scores = (x @ p["w"])[:, :, None] * (x @ p["u"])[:, None, :]
        return jax.nn.softmax(scores, axis=(1, 2)).sum(2) @ p["v"]

    (other,) = (o for o in cg.lift(net).report(PARAMS, X).others if "axes" in o.reason)
    assert other.function == "softmax"
