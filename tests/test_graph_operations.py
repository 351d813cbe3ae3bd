"""Chain graphs with parameters hidden, and with what is computed between nodes."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen, nnx

import cgjax as cg

KEY, X = jax.random.key(0), jnp.ones((2, 3))
WEIGHTS = {"w": jnp.eye(3), "b": jnp.ones((1, 3))}


def layer(weights, x):
    return cg.node(cg.nodes.ReLU(), x @ weights["w"] + weights["b"], name="hidden") * 2


def edges(graph):
    """What each vertex is drawn to be computed from."""
    ends = (*graph.components, *graph.operations, *graph.results)
    return {v.name: [(p.name, p.through_time) for p in v.operands] for v in ends}


def inputs(net, *args, **options):
    return [given.name for given in cg.chain_graph(net, **options)(*args).inputs]


def test_parameters_are_hidden_as_lift_knows_them():
    assert inputs(layer, WEIGHTS, X) == ["x"]
    assert inputs(layer, WEIGHTS, X, parameters=()) == ["weights", "x"]
    assert inputs(layer, WEIGHTS, X, parameters=("weights", 1)) == []
    assert inputs(lambda x, w: layer(w, x), X, WEIGHTS) == ["x"]
    dense = linen.Dense(3)
    assert inputs(
        cg.lift(lambda p, x: jnp.tanh(jnp.asarray(dense.apply(p, x)))), dense.init(KEY, X), X
    ) == ["x"]
    module = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
    assert inputs(lambda x, module: jnp.tanh(module(x)), X, module) == ["x"]
    pair = lambda x, gain: jnp.tanh(x) * gain  # noqa: E731
    assert inputs(pair, X, X) == ["x", "gain"]
    assert inputs(cg.lift(pair, parameters="gain"), X, X) == ["x"]
    assert inputs(cg.clamp(cg.lift(pair, parameters="gain"), {}), X, X) == ["x"]
    assert inputs(cg.lift(pair, parameters="gain"), X, X, parameters="x") == ["gain"]


def test_of_a_module_no_input_is_a_parameter():
    class Two(nnx.Module):
        def __call__(self, batch, x):
            return jnp.tanh(batch["a"] + x)

    assert inputs(Two(), {"a": X}, X) == ["batch", "x"]
    with pytest.raises(ValueError, match="the parameters of a .*module are its variables"):
        cg.chain_graph(Two(), parameters=0)
    with pytest.raises(ValueError, match="names the argument 'gain', which the network does not"):
        cg.chain_graph(layer, parameters="gain")


def test_equinox_modules_are_parameters_wherever_they_are_passed():
    eqx = pytest.importorskip("equinox")
    linear = eqx.nn.Linear(3, 3, key=KEY)
    assert inputs(lambda model, x: jnp.tanh(jax.vmap(model)(x)), linear, X) == ["x"]
    assert inputs(lambda x: jnp.tanh(jax.vmap(linear)(x)), X) == ["x"]


def test_operations_of_a_plain_function():
    def net(weights, x):
        hidden = x @ weights["w"] + weights["b"]
        hidden = jax.nn.gelu(hidden) / jnp.sqrt(jnp.mean(hidden**2) + 1)
        return jax.nn.softmax(hidden.reshape(6) + 0 * x.reshape(6))

    graph = cg.chain_graph(net, operations=True)(WEIGHTS, X)
    assert not graph.components
    assert [(o.name, o.functions, o.shape) for o in graph.operations] == [
        ("dot_0", ("dot", "add"), (2, 3)),
        ("gelu_0", ("gelu",), (2, 3)),
        ("add_0", ("power", "mean", "add", "sqrt", "div", "mul"), (6,)),
        ("softmax_0", ("softmax",), (6,)),
    ]
    assert edges(graph) == {
        "dot_0": [("x", False)],
        "gelu_0": [("dot_0", False)],
        "add_0": [("x", False), ("dot_0", False), ("gelu_0", False)],
        "softmax_0": [("add_0", False)],
        "result": [("softmax_0", False)],
    }
    # What the graph says of parents is not changed by them.
    plain = cg.chain_graph(net)(WEIGHTS, X)
    assert plain.results[0].parents == graph.results[0].parents
    assert not plain.operations and not plain.results[0].operands


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(3, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(1, 3, decode=False, rngs=rngs)
        self.output = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        return x + nnx.relu(self.output(x))


def test_operations_of_modules():
    block = Block(nnx.Rngs(0))
    graph = cg.chain_graph(cg.lift(block), operations=True)(X)
    found = {name: [n for n, _ in origin] for name, origin in edges(graph).items()}
    assert found == {
        "norm": ["x"],
        "attention/query": ["norm"],
        "attention/key": ["norm"],
        "attention/value": ["norm"],
        "attention/dot_product_attention_0": [
            "attention/query",
            "attention/key",
            "attention/value",
        ],
        "attention/out": ["attention/dot_product_attention_0"],
        "add_0": ["x", "attention/out"],
        "output": ["add_0"],
        "relu_0": ["output"],
        "add_1": ["relu_0", "add_0"],
        "result": ["add_1"],
    }
    assert [p.name for p in graph["relu_0"].parents] == ["x"]
    assert graph.implicit == graph.results
    table = str(graph).splitlines()
    assert table[0] == "Chain graph of 1 components, 9 operations; inputs: x (2, 3)"
    assert ["add_1", "(operation)", "add", "(2,", "3)", "relu_0,", "add_0"] in map(str.split, table)
    text = graph.to_mermaid()
    assert text.count(":::operation") == 9 and "classDef operation" in text
    picture = graph.to_svg()
    assert picture.count('fill="#ffffff" stroke="#b0b0b0"') == 9 and "attention/query" in picture
    bare = cg.chain_graph(block, operations=True)(X)
    assert [o.name for o in bare.operations][-2:] == ["relu_0", "add_1"] and not bare.components


def test_operations_in_loops_have_edges_through_time():
    def net(weights, xs):
        def step(h, x):
            h = cg.node(cg.nodes.Spin(), h @ weights["w"] + x, name="hidden")
            return h, h

        return jax.lax.scan(step, jnp.zeros(3), xs)[1].sum(0)

    graph = cg.chain_graph(net, operations=True)(WEIGHTS, X)
    assert edges(graph) == {
        "hidden": [("add_0", False)],
        "dot_0": [("hidden", True)],
        "add_0": [("xs", False), ("dot_0", False)],
        "sum_0": [("hidden", False)],
        "result": [("sum_0", False)],
    }
    assert graph["hidden"].lengths == (2,)


def test_operations_have_names_of_their_own():
    def net(weights, x):
        with jax.named_scope("hidden"):
            return layer(weights, x)

    graph = cg.chain_graph(net, operations=True)(WEIGHTS, X)
    assert [o.name for o in graph.operations] == ["hidden#1", "hidden#2"]
    assert edges(graph)["hidden"] == [("hidden#1", False)]


def test_a_picture_says_which_module_computes_a_natural_parameter():
    class Branches(nnx.Module):
        def __init__(self, rngs):
            self.stem = nnx.Linear(3, 3, rngs=rngs)
            self.one = nnx.Linear(3, 3, rngs=rngs)
            self.other = nnx.Linear(3, 3, rngs=rngs)
            self.norm = nnx.LayerNorm(3, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.stem(x))
            both = nnx.tanh(self.norm(self.one(x))) + nnx.tanh(self.other(x))
            return cg.node(cg.nodes.Spin(), self.one(both) + self.other(both), name="last")

    graph = cg.chain_graph(cg.lift(Branches(nnx.Rngs(0))))(X)
    modules = {c.name: c.module for c in graph}
    assert modules == {"relu_0": "stem", "spin_0": "norm", "spin_1": "other", "last": ""}
    assert ">norm → Spin (2, 3)</text>" in graph.to_svg()
    assert "norm → Spin (2, 3)" in graph.to_mermaid() and "→" not in str(graph)

    class Outer(nnx.Module):
        def __init__(self, rngs):
            self.inner = Branches(rngs)
            self.final = nnx.Linear(3, 3, rngs=rngs)
            self.last = nnx.Linear(3, 3, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.final(self.inner(x)))
            return cg.node(cg.nodes.Spin(), self.last(x), name="last")

    graph = cg.chain_graph(cg.lift(Outer(nnx.Rngs(0))))(X)
    assert graph["inner/relu_0"].module == "inner/stem" and graph["last#1"].module == "last"
    texts = [box.text for box in graph._drawing()[0] if box.kind == "node"]
    assert texts[0] == "stem → ReLU (2, 3)" and texts[-1] == "Spin (2, 3)"
