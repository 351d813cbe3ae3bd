"""`lift` of layers and networks of Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from tests._lift.parts import GATE, KEY, NEVER, X, Y

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
    assert nodes["cell/spin_0"].shape == (5, 1, 3)
    assert set(np.unique(nodes["cell/spin_0"])) == {-1, 1}


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
    inner = [f"blocks/{block}/relu_{k}" for block in (0, 1) for k in (0, 1)]
    assert [e.node for e in report.lifted] == ["relu_0", *inner, "categorical_0"]
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
    assert [e.family for e in cg.lift(gated).report(tokens).lifted] == ["GELU"]
    assert not np.array_equal(cg.pcff(cg.lift(gated), 0.5)(KEY, tokens), gated(tokens))
    with_attention = cg.lift(module, include="softmax")
    assert [e.family for e in with_attention.report(tokens).lifted] == ["Categorical", "ReLU"]
    _, nodes = cg.with_nodes(cg.forward_sample(with_attention))(KEY, tokens)
    choice = nodes["attention/categorical_0"]
    assert np.array_equal(choice.sum(-1), np.ones(choice.shape[:-1]))  # each position looks at one
