"""Options of `lift`, its names and its report."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from tests._lift.parts import KEY, PARAMS, X, families


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
        "skipped  logistic_0: a gate: multiplied by other data at test_options.py:"
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


def test_the_report_lists_whatever_else_bends_data():
    def net(p, x):
        h = jax.nn.gelu(x @ p["w"])
        h = jax.nn.squareplus(h @ p["u"]) + jnp.exp(-(h**2)) + jnp.abs(h - 1)
        return jax.nn.log_softmax(jnp.where(h > 1, h, h * h) @ p["v"])

    report = cg.lift(net).report(PARAMS, X)
    assert [e.family for e in report.lifted] == ["GELU"] and not report.skipped
    assert [e.function for e in report.others] == [
        *("squareplus", "power", "exp", "abs", "square", "where", "log_softmax")
    ]
    assert all(e.reason and e.node is None for e in report.others)
    assert "other    exp: no node family has this function as its mean" in repr(report)
    # Nor are masks, products of different elements, and what keeps a softmax in range.
    mask = jnp.arange(4)[None] < 3

    def moved(x, m):
        return x[:, :2] * x[:, 2:], jnp.where(m, x, 0), jax.nn.softmax(x, where=mask)

    assert not cg.lift(moved).report(X, mask).others
    # A softmax over segments is one entry.
    ids = jnp.array([0, 0, 1, 1, 1])

    def shares(p, x):
        e = jnp.exp(x - jax.ops.segment_max(x, ids, 2)[ids])
        totals = jax.ops.segment_sum(e, ids, 2)
        return e / (totals[ids] + 1e-9), e * (1 / jnp.maximum(totals, 1e-9))[ids], jnp.exp(x)

    entry, *others = cg.lift(shares).report(PARAMS, X).others
    assert entry.function == "segment_softmax"
    assert [e.function for e in others] == ["max", "div", "exp"]
    assert "no node family" in entry.reason and "test_options.py" in entry.source
    # What is linear in data, or a function of parameters alone, is not listed.
    linear = cg.lift(
        lambda p, x: x @ jnp.exp(p["w"]) * p["gain"][None] + jnp.where(p["w"][:1] > 0, x, 0)
    )
    assert not linear.report(PARAMS, X).others
