"""Modules of Linen, Equinox and Haiku as networks: one network in each, and one battery."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cgjax as cg
from tests.helpers import assert_identical

KEY = jax.random.key(7)
X = jax.random.normal(jax.random.key(1), (6, 3))
KEYS = jax.random.split(KEY, len(X))


@dataclass(frozen=True)
class Call:
    """A module split in one mode, called, and what the library itself makes of the same call."""

    f: Callable[..., Any]
    params: Any
    state: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    expected: tuple[Any, Any]

    @property
    def inputs(self) -> tuple[Any, ...]:
        return self.params, self.state, *self.args


class Linen(linen.Module):
    """Linear, tanh, normalisation, linear, relu, dropout, linear; so are the other two."""

    @linen.compact
    def __call__(self, x, train):
        h = linen.tanh(linen.Dense(4)(x))
        h = linen.BatchNorm(use_running_average=not train)(h)
        h = linen.relu(linen.Dense(4)(h))
        return linen.Dense(2)(linen.Dropout(0.5, deterministic=not train)(h))


LINEN = Linen()
VARIABLES = LINEN.init(KEY, X, False)


def of_linen(train: bool) -> Call:
    kwargs: dict[str, Any] = {"rngs": {"dropout": KEY}} if train else {}
    expected = LINEN.apply(VARIABLES, X, train, mutable=["batch_stats"], **kwargs)
    return Call(*cg.functional(LINEN, VARIABLES), (X, train), kwargs, expected)


@functools.cache
def equinox_model():
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")

    class Model(eqx.Module):
        first: Any
        second: Any
        last: Any
        norm: Any
        drop: Any
        order: jax.Array  # no parameter, and no state

        def __init__(self, key):
            a, b, c = jax.random.split(key, 3)
            self.first = eqx.nn.Linear(3, 4, key=a)
            self.second = eqx.nn.Linear(4, 4, key=b)
            self.last = eqx.nn.Linear(4, 2, key=c)
            self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
            self.drop = eqx.nn.Dropout(0.5)
            self.order = jnp.array([2, 0, 1])

        def __call__(self, x, state, key=None):
            h, state = self.norm(jnp.tanh(self.first(x[self.order])), state)
            h = self.drop(jax.nn.relu(self.second(h)), key=key)
            return self.last(h), state

    return eqx, *eqx.nn.make_with_state(Model)(KEY)


def of_equinox(train: bool) -> Call:
    eqx, model, state = equinox_model()
    model = model if train else eqx.nn.inference_mode(model)
    axes = {"in_axes": (0, None, 0)[: 2 + train], "out_axes": (0, None), "axis_name": "batch"}
    batched = eqx.filter_vmap(model, **axes)
    keys = (KEYS,) if train else ()
    # Its layers make a state useless that they have changed.
    expected = batched(X, jax.tree.map(lambda a: a, state), *keys)
    return Call(*cg.functional(batched, state), (X, *keys), {}, expected)


@functools.cache
def haiku_network():
    hk = pytest.importorskip("haiku", reason="Haiku is not installed")

    def net(x, train):
        h = hk.BatchNorm(True, True, 0.9)(jnp.tanh(hk.Linear(4)(x)), train)
        h = jax.nn.relu(hk.Linear(4)(h))
        return hk.Linear(2)(hk.dropout(hk.next_rng_key(), 0.5, h) if train else h)

    transformed = hk.transform_with_state(net)
    return transformed, *transformed.init(KEY, X, True)


def of_haiku(train: bool) -> Call:
    transformed, params, state = haiku_network()
    kwargs = {"rng": KEY} if train else {}
    expected = transformed.apply(params, state, KEY, X, train)
    return Call(*cg.functional(transformed, params, state), (X, train), kwargs, expected)


LIBRARIES = {"linen": of_linen, "equinox": of_equinox, "haiku": of_haiku}
in_each = pytest.mark.parametrize("library", LIBRARIES)


@in_each
def test_the_function_is_the_module(library):
    for train in (True, False):
        call = LIBRARIES[library](train)
        out, state = call.f(*call.inputs, **call.kwargs)
        assert_identical(out, call.expected[0])
        assert_identical(jax.tree.leaves(state), jax.tree.leaves(call.expected[1]))
        assert jax.tree.structure(state) == jax.tree.structure(call.state)
        changed = [
            bool((a != b).any())
            for a, b in zip(*map(jax.tree.leaves, (state, call.state)), strict=True)
        ]
        assert any(changed) == train
        # An equal module has the same function: nothing is compiled anew for it.
        assert LIBRARIES[library](train).f is call.f


@in_each
def test_activations_are_nodes_whatever_the_parameters_and_the_state_are_made_of(library):
    """The tanh is followed by a normalisation with the state, which is no gate."""
    for train in (True, False):
        call = LIBRARIES[library](train)
        report = cg.lift(call.f).report(*call.inputs, **call.kwargs)
        assert [entry.family for entry in report.lifted] == ["Spin", "ReLU"]
    lifted = cg.lift(call.f, output=cg.nodes.Gaussian(0.1))
    families = [entry.family for entry in lifted.report(*call.inputs).lifted]
    assert families == ["Spin", "ReLU", "Gaussian"]  # the new state is no output
    f, settings = call.f, call.args[1:]  # within a function, arguments are told by their types
    within = lambda params, state, x: jnp.exp(f(params, state, x, *settings)[0])  # noqa: E731
    report = cg.lift(within).report(call.params, call.state, X)
    assert [entry.family for entry in report.lifted] == ["Spin", "ReLU"]
    graph = cg.chain_graph(cg.lift(f))(*call.inputs)
    assert [c.name for c in graph] == ["spin_0", "relu_0"] and len(graph.inputs) == 1
    with pytest.raises(ValueError, match="parameters of a module are its variables"):
        cg.lift(f, parameters=0)


@in_each
def test_procedures_carry_the_state(library):
    call = LIBRARIES[library](True)
    lifted = cg.lift(call.f)
    positions = tuple(k for k, arg in enumerate(call.inputs) if isinstance(arg, bool))

    def sampled(rate, capture):
        procedure = cg.pcff(lifted, rate)
        procedure = cg.with_nodes(procedure) if capture else procedure
        jitted = jax.jit(procedure, static_argnums=tuple(k + 1 for k in positions))
        return jitted(KEY, *call.inputs, **call.kwargs)

    out, state = sampled(0.0, False)
    # Another program than the library's own call: rounding.
    np.testing.assert_allclose(out, call.expected[0], rtol=1e-5, atol=1e-6)
    for got, expected in zip(*map(jax.tree.leaves, (state, call.expected[1])), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    (_, state), nodes = sampled(1.0, True)
    assert set(np.unique(nodes["spin_0"])) == {-1.0, 1.0}
    assert jax.tree.structure(state) == jax.tree.structure(call.state)

    call = LIBRARIES[library](False)
    belief, state = cg.moments(cg.lift(call.f))(*call.inputs)
    np.testing.assert_allclose(belief.mean, call.expected[0], rtol=1e-5, atol=1e-6)
    assert not belief.variance.any()
    assert_identical(jax.tree.leaves(state), jax.tree.leaves(call.state))

    def loss(params):
        return (call.f(params, *call.inputs[1:])[0] ** 2).sum()

    gradients = jax.grad(loss)(call.params)
    assert jax.tree.structure(gradients) == jax.tree.structure(call.params)
    # A bias of the last layer goes into the output as it is.
    twice = (2 * call.expected[0]).sum(0)
    assert any(
        g.shape == (2,) and np.allclose(g, twice, rtol=1e-5) for g in jax.tree.leaves(gradients)
    )


def layer_of_equinox():
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")
    return cg.functional(eqx.filter_vmap(eqx.nn.Linear(3, 2, key=KEY)))


def layer_of_haiku():
    hk = pytest.importorskip("haiku", reason="Haiku is not installed")
    transformed = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(2)(x)))
    return cg.functional(transformed, transformed.init(KEY, X))


LAYERS = {
    "linen": lambda: cg.functional(linen.Dense(2), linen.Dense(2).init(KEY, X)),
    "equinox": layer_of_equinox,
    "haiku": layer_of_haiku,
}


@in_each
def test_parameters_may_have_distributions(library):
    f, params, state = LAYERS[library]()
    posterior = cg.weights.mean_field(params, 0.5)
    belief, _ = cg.weights.deterministic(f)(None, posterior, state, X)
    np.testing.assert_allclose(belief.mean, f(params, state, X)[0], rtol=1e-5, atol=1e-6)
    # Var[sum of w x + b] = v (1 + sum of x^2), where all have the variance v.
    expected = 0.5 * (1 + (X**2).sum(-1, keepdims=True))
    np.testing.assert_allclose(belief.variance, jnp.tile(expected, 2), rtol=1e-5)
    for procedure in (cg.weights.weight_sample, cg.weights.flipout):
        sample, new_state = procedure(f)(KEY, posterior, state, X)
        assert sample.mean.shape == (6, 2) and not np.allclose(sample.mean, belief.mean)
        assert jax.tree.structure(new_state) == jax.tree.structure(state)


# -- Linen


def test_linen_bound_modules_methods_and_frozen_variables():
    from flax.core import freeze

    f, params, state = cg.functional(LINEN, VARIABLES)
    assert cg.functional(LINEN.bind(VARIABLES))[0] is f
    assert params is VARIABLES["params"] and dict(state) == {
        "batch_stats": VARIABLES["batch_stats"]
    }
    g, frozen, rest = cg.functional(LINEN, freeze(VARIABLES))
    _, new = g(frozen, rest, X, False)
    assert jax.tree.structure(new) == jax.tree.structure(rest) == jax.tree.structure(state)

    class Coder(linen.Module):
        def setup(self):
            self.inner = linen.Dense(2)

        def __call__(self, x):
            return self.encode(x) + 1

        def encode(self, x):
            return self.inner(x)

    variables = Coder().init(KEY, X)
    whole, *parts = cg.functional(Coder(), variables)
    for method in ("encode", Coder.encode):
        encode, *_ = cg.functional(Coder(), variables, method=method)
        assert_identical(encode(*parts, X)[0] + 1, whole(*parts, X)[0])
    with pytest.raises(TypeError, match="Coder has no method `decode`"):
        cg.functional(Coder(), variables, method="decode")


def test_linen_says_what_is_missing():
    f, params, state = cg.functional(LINEN, VARIABLES)
    with pytest.raises(TypeError, match=r"does not hold its variables.*module\.init.*got nothing"):
        cg.functional(LINEN)
    with pytest.raises(TypeError, match="a dict of collections.*got 3"):
        cg.functional(LINEN, 3)
    with pytest.raises(ValueError, match=r"no key.*rngs=\{'dropout': key\}"):
        f(params, state, X, True)
    with pytest.raises(TypeError, match="needs a variable.*collections are 'params';.*batch_stats"):
        f(params, {}, X, False)
    with pytest.raises(TypeError, match="needs a variable.*collections are 'params', 'Dense_0'"):
        g, *wrong = cg.functional(LINEN, params)
        g(*wrong, X, False)
    with pytest.raises(TypeError, match="dict of its collections, got an array"):
        f(params, X, state)
    with pytest.raises(TypeError, match="the Linen module Linen.*cgjax.functional"):
        cg.pcff(cg.lift(LINEN), 0.5)


# -- Equinox


def test_equinox_modules_are_networks_themselves():
    """A module without a state, and one whose state is an argument, as it is in Equinox."""
    eqx, model, state = equinox_model()
    mlp = eqx.nn.MLP(3, 2, 4, 1, key=KEY)
    batched = eqx.filter_vmap(mlp)
    np.testing.assert_allclose(cg.feed_forward(batched)(X), batched(X), rtol=1e-5, atol=1e-6)
    lifted = cg.lift(batched)
    assert [entry.family for entry in lifted.report(X).lifted] == ["ReLU"]
    assert cg.chain_graph(cg.lift(mlp))(X[0]).inputs[0].name == "x"
    f, *parts = cg.functional(lifted)
    assert_identical(cg.pcff(f, 1.0)(KEY, *parts, X)[0], cg.pcff(lifted, 1.0)(KEY, X))
    inside = eqx.filter_jit(lambda model, x: cg.pcff(cg.lift(model), 1.0)(KEY, x))(batched, X)
    np.testing.assert_allclose(inside, cg.pcff(lifted, 1.0)(KEY, X), rtol=1e-5, atol=1e-6)

    evaluated = eqx.filter_vmap(
        eqx.nn.inference_mode(model), in_axes=(0, None), out_axes=(0, None), axis_name="batch"
    )
    out, new_state = cg.feed_forward(evaluated)(X, state)
    np.testing.assert_allclose(out, evaluated(X, state)[0], rtol=1e-5, atol=1e-6)
    assert eqx.tree_equal(new_state, state)
    # One without arrays is a function: it has no parameters to replace.
    function = eqx.filter_jit(lambda w, x: jnp.tanh(x @ w))
    weight = cg.weights.mean_field(jnp.ones((3, 2)), 0.1)
    assert cg.weights.deterministic(function)(None, weight, X).mean.shape == (6, 2)


def test_equinox_modules_are_not_traced_again_for_other_parameters():
    eqx, *_ = equinox_model()
    traces = 0

    class Counting(eqx.Module):
        linear: Any

        def __call__(self, x):
            nonlocal traces
            traces += 1
            return jnp.tanh(self.linear(x))

        def double(self, x):
            return 2 * self(x)

    modules = [Counting(eqx.nn.Linear(3, 2, key=key)) for key in KEYS[:3]]
    for module in modules:
        cg.pcff(cg.lift(module), {"spin_0": 0.5})(KEY, X[0])
    assert traces == 1
    module = modules[-1]
    f, params, rest = cg.functional(module, method="double")
    assert_identical(f(params, rest, X[0])[0], 2 * module(X[0]))
    assert_identical(
        cg.functional(module.double)[0](params_of(module.double), rest, X[0])[0], 2 * module(X[0])
    )


def params_of(module):
    return cg.functional(module)[1]


def test_equinox_says_what_is_missing():
    eqx, model, state = equinox_model()
    f, params, state = cg.functional(model, state)
    one = jax.vmap(f, (None, None, 0), (0, None), axis_name="batch")
    with pytest.raises(TypeError, match=r"layers with a state.*make_with_state.*functional"):
        cg.functional(model)
    with pytest.raises(TypeError, match="the `eqx.nn.State` that.*got 3"):
        cg.functional(model, 3)
    with pytest.raises(ValueError, match="no key.*key=key.*inference_mode"):
        one(params, state, X)
    with pytest.raises(TypeError, match=r"f\(params, state, \*args\).*params is a dict"):
        f({}, state, X[0])
    with pytest.raises(TypeError, match="`eqx.nn.State` that.*got a dict"):
        f(params, {}, X[0])
    linear = eqx.nn.Linear(3, 2, key=KEY)
    with pytest.raises(TypeError, match="argument `state` of its call.*x, key"):
        g, inner, _ = cg.functional(linear, state)
        g(inner, state, X[0])
    with pytest.raises(TypeError, match="holds its parameters.*cgjax.functional"):
        cg.weights.flipout(linear)
    with pytest.raises(TypeError, match="takes a sampling procedure.*the module Linear"):
        cg.monte_carlo(linear, 3)


def test_a_library_that_is_too_old_is_named(monkeypatch):
    eqx, model, state = equinox_model()
    monkeypatch.delattr(eqx.nn, "StateIndex")
    with pytest.raises(ImportError, match=r"newer versions of equinox: equinox \d.*nn.StateIndex"):
        cg.functional(model, state)


# -- Haiku


def test_haiku_says_what_is_missing():
    hk = pytest.importorskip("haiku", reason="Haiku is not installed")
    call = of_haiku(True)
    with pytest.raises(ValueError, match="no key.*rng=key"):
        call.f(*call.inputs)
    plain = hk.transform(lambda x: hk.dropout(hk.next_rng_key(), 0.5, hk.Linear(2)(x)))
    params = plain.init(KEY, X)
    keyless, *parts = cg.functional(hk.without_apply_rng(plain), params)
    with pytest.raises(ValueError, match="no key.*Leave `hk.without_apply_rng` out"):
        keyless(*parts, X)
    with pytest.raises(TypeError, match="made by `hk.without_apply_rng`"):
        keyless(*parts, X, rng=KEY)
    f, *parts = cg.functional(plain, params)
    assert_identical(f(*parts, X, rng=KEY)[0], plain.apply(params, KEY, X))
    with pytest.raises(TypeError, match="Transformed does not hold its params.*got nothing"):
        cg.functional(plain)
    with pytest.raises(TypeError, match="The params of a function of Haiku is a dict.*got 3"):
        cg.functional(plain, 3)
    with pytest.raises(TypeError, match="one function"):
        cg.functional(plain, params, method="encode")
    multi = hk.MultiTransformed(plain.init, (plain.apply,))
    with pytest.raises(TypeError, match=r"hk.Transformed\(multi.init, multi.apply"):
        cg.functional(multi, params)
    with pytest.raises(TypeError, match="Haiku's Transformed.*cgjax.functional"):
        cg.pcff(plain, 0.5)
