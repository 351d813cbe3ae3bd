"""Lifted nodes have the names of the modules and scopes that made them."""

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import cgjax as cg

KEY, X = jax.random.key(0), jnp.ones((2, 3))


def names(net, *args):
    return [entry.node for entry in cg.lift(net).report(*args).lifted]


# ---- Flax NNX


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.sequence = nnx.Sequential(nnx.Linear(3, 3, rngs=rngs), nnx.relu)

    def half(self, x):
        return jnp.tanh(self.linear(x))

    def __call__(self, x):
        return nnx.relu(self.sequence(self.half(x)))


class Tower(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([Block(rngs), Block(rngs)])
        self.last = self.blocks[0]  # shared: its first place counts

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        with jax.named_scope("left"), cg.scope("mine"):
            x = jax.checkpoint(self.last.half)(x)
        x = cg.node(cg.nodes.ReLU(), x)
        x = cg.node(cg.nodes.ReLU(), x, name="named")
        return 2 * nnx.softplus(x)


TOWER = Tower(nnx.Rngs(0))
LIFTED = [
    "blocks/0/spin_0",
    "blocks/0/sequence/relu_0",
    "blocks/0/relu_0",
    "blocks/1/spin_0",
    "blocks/1/sequence/relu_0",
    "blocks/1/relu_0",
    "left/mine/blocks/0/spin_0",
    "softplus_0",
]


def test_modules_of_nnx_name_their_nodes():
    methods = Block.__dict__["half"], Block.__call__, nnx.Sequential.__call__
    assert names(TOWER, X) == LIFTED
    f, params, state = cg.functional(TOWER)
    lifted = cg.lift(f)
    sampled = cg.with_nodes(cg.pcff(lifted, {"blocks/1/*": 1.0}))
    with jax.named_scope("outside"):
        nodes = sampled(KEY, params, state, X)[1]
    every = [*LIFTED[:-1], "relu_0", "named", "softplus_0"]
    assert list(nodes) == every
    assert set(jax.eval_shape(sampled, KEY, params, state, X)[1]) == set(every)
    clamped = cg.clamp(lifted, {"left/mine/blocks/0/spin_0": jnp.ones((2, 3))})
    rest = [name for name in every if name != "left/mine/blocks/0/spin_0"]
    assert [component.name for component in cg.chain_graph(clamped)(params, state, X)] == rest
    values = nodes["blocks/1/spin_0"], nodes["blocks/0/spin_0"]
    assert set(np.unique(values[0])) <= {-1.0, 1.0} and not set(np.unique(values[1])) <= {-1, 1}
    # Nothing is left of the trace in the classes.
    assert methods == (Block.__dict__["half"], Block.__call__, nnx.Sequential.__call__)
    assert "__call__" not in vars(nnx.List)


def test_modules_among_the_arguments_have_names():
    first = lambda module, x: module(x)  # noqa: E731
    assert names(first, TOWER.blocks[0], X) == ["spin_0", "sequence/relu_0", "relu_0"]
    both = lambda modules, x: modules["b"](modules["a"](x))  # noqa: E731
    found = names(both, {"a": TOWER.blocks[0], "b": nnx.Sequential(nnx.tanh)}, X)
    assert found == ["a/spin_0", "a/sequence/relu_0", "a/relu_0", "b/spin_0"]


def test_several_arguments_that_are_modules_are_named_by_the_function():
    block, last = TOWER.blocks[0], nnx.Sequential(nnx.tanh)
    inner = ["spin_0", "sequence/relu_0", "relu_0"]
    expected = [*(f"encoder/{name}" for name in inner), "decoder/spin_0"]

    def net(encoder, decoder, x):
        return decoder(encoder(x))

    assert names(net, block, last, X) == expected
    assert names(jax.jit(net), block, last, X) == expected
    assert names(functools.partial(net, block), last, X) == expected
    report = cg.lift(functools.partial(net, decoder=last)).report(block, x=X)
    assert [entry.node for entry in report.lifted] == expected
    several = lambda x, *blocks: blocks[1](blocks[0](x))  # noqa: E731
    found = [*(f"blocks/0/{name}" for name in inner), "blocks/1/spin_0"]
    assert names(several, X, block, last) == found
    # A module that is called has none before its own.
    assert names(Pair(block), last, X) == [*(f"first/{name}" for name in inner), "second/spin_0"]


class Pair(nnx.Module):
    def __init__(self, first):
        self.first = first

    def __call__(self, second, x):
        return second(self.first(x))


def test_a_trace_that_fails_leaves_no_trace_and_other_threads_see_none():
    seen = []

    class Fails(nnx.Module):
        def __init__(self, block):
            self.block = block

        def __call__(self, x):
            thread = threading.Thread(target=lambda: seen.append(TOWER.blocks[1].half(np.ones(3))))
            thread.start()
            thread.join()
            seen.append(vars(Block)["half"])
            raise RuntimeError("on purpose")

    half = vars(Block)["half"]
    with pytest.raises(RuntimeError, match="on purpose"):
        cg.lift(Fails(TOWER.blocks[0])).report(X)
    assert np.array_equal(seen[0], TOWER.blocks[1].half(np.ones(3)))
    assert seen[1] is not half and vars(Block)["half"] is half


def test_modules_that_a_transformation_takes_apart():
    class Stack(nnx.Module):
        def __init__(self, rngs):
            make = nnx.split_rngs(splits=2)(nnx.vmap(lambda rngs: Block(rngs)))
            self.layers, self.pair = make(rngs), nnx.List([nnx.Sequential(nnx.tanh)] * 2)
            self.other = nnx.Sequential(nnx.tanh)
            self.whole = self  # a module may hold one that it is in

        def __call__(self, x):
            scan = nnx.scan(lambda layer, x: layer(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
            x = nnx.remat(lambda layer, x: layer(x))(self.pair[0], scan(self.layers, x))
            return self.pair[1](x)

    found = ["layers/spin_0", "layers/sequence/relu_0", "layers/relu_0"]
    # Of several modules of one structure nobody knows which it was.
    assert names(Stack(nnx.Rngs(0)), X) == [*found, "spin_0", "pair/0/spin_0"]


# ---- other libraries


class Inner(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.relu(linen.Dense(3)(x))


class Outer(linen.Module):
    def setup(self):
        self.cells = [Inner(), Inner()]

    def halfway(self, x):
        return jnp.tanh(self.cells[0](x))

    @linen.compact
    def __call__(self, x):
        x = linen.remat(Inner)(name="remade")(self.halfway(x))
        step = linen.scan(
            lambda cell, x, _: (cell(x), None),
            variable_broadcast="params",
            split_rngs={"params": False},
            length=2,
        )
        return jnp.tanh(step(self.cells[1], x, None)[0])


def test_modules_of_linen_name_their_nodes_as_their_parameters():
    net = Outer()
    variables = net.init(KEY, X)
    assert set(variables["params"]) == {"cells_0", "cells_1", "remade"}
    found = ["cells_0/relu_0", "spin_0", "remade/relu_0", "cells_1/relu_0", "spin_1"]
    assert names(net.apply, variables, X) == found
    named = Outer(name="critic")
    assert names(lambda v, x: 2 * named.apply(v, x), variables, X)[:2] == [
        "critic/cells_0/relu_0",
        "critic/spin_0",
    ]
    lifted = cg.lift(lambda v, x: net.apply(v, x, method="halfway"))
    assert [site.name for site in cg.chain_graph(lifted)(variables, X)] == found[:2]


def test_modules_of_haiku_name_their_nodes():
    hk = pytest.importorskip("haiku")

    class Halves(hk.Module):
        def first(self, x):
            return jnp.tanh(hk.Linear(3)(x))

        def __call__(self, x):
            return jnp.tanh(self.first(x))

    def net(x):
        return hk.nets.MLP([3], activate_final=True)(Halves("middle")(Halves("start").first(x)))

    transformed = hk.without_apply_rng(hk.transform(net))
    params = transformed.init(KEY, X)
    found = ["start/spin_0", "middle/spin_0", "middle/spin_1", "mlp/relu_0"]
    assert names(transformed.apply, params, X) == found


def test_modules_of_equinox_name_their_nodes():
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        blocks: list
        head: object

        def __call__(self, x):
            for block in self.blocks:
                x = jax.nn.relu(jax.vmap(block)(x))
            return jnp.tanh(jax.vmap(self.head)(x))  # pyright: ignore[reportArgumentType]

    sequence = eqx.nn.Sequential([eqx.nn.Linear(3, 3, key=KEY), eqx.nn.Lambda(jnp.tanh)])
    net = Net([sequence], eqx.nn.MLP(3, 3, 3, 1, key=KEY))
    found = ["blocks/0/layers/1/spin_0", "relu_0", "head/relu_0", "spin_0"]
    assert names(net, X) == found
    assert names(lambda model, x: model(x), net, X) == found
    # Taken apart and put together again, it is the only one of its structure.
    assert names(lambda model, x: eqx.filter_jit(model)(x), net, X) == found
    checkpointed = eqx.filter_checkpoint(lambda model, x: model(x))
    assert names(lambda model, x: checkpointed(model, x), net, X) == found
    # Nobody knows the modules that a function closes over: Equinox names classes of its layers.
    assert names(lambda x: net(x), X)[2] == "eqx.nn.MLP/relu_0"


# ---- scopes of JAX


def test_scopes_of_users_name_nodes_under_all_transformations():
    def net(weights, x):
        with jax.named_scope("encoder"):
            x = jax.checkpoint(lambda x: jnp.tanh(x @ weights["w"]))(x)
            with jax.named_scope("a/b[0]"):
                x = jax.jit(jnp.tanh)(x @ weights["w"])

        def step(x, _):
            with jax.named_scope("cell"):
                return jax.vmap(jnp.tanh)(x @ weights["w"]), None

        return jax.lax.scan(step, x, None, length=3)[0] @ weights["w"]

    weights = {"w": jnp.eye(3) / 2}
    found = ["encoder/spin_0", "encoder/a/b_0_/spin_0", "cell/spin_0"]
    assert names(net, weights, X) == found
    sampled = cg.with_nodes(cg.pcff(cg.lift(net), {"encoder/*": 1.0}))
    with jax.named_scope("outside"):
        assert list(sampled(KEY, weights, X)[1]) == found

    def inner(weights):
        out, nodes = sampled(KEY, weights, X)
        assert list(nodes) == found
        return out.sum()

    jax.make_jaxpr(jax.vmap(jax.grad(inner)))(jax.tree.map(lambda w: w[None], weights))

    def larger(weights, x):
        with jax.named_scope("part"):
            return cg.lift(net)(weights, x)

    graph = cg.chain_graph(larger)(weights, X)
    assert [component.name for component in graph] == [f"part/{name}" for name in found]
