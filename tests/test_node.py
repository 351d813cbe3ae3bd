"""A node outside procedures *is* its activation; names, scopes, observed nodes and their errors."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import cgjax as cg
from cgjax._program import trace
from tests.helpers import assert_identical, optimised_hlo, relu, spin, weights

# Families whose activation is a function of the library, and that function.
PLAIN = {
    "bernoulli": (cg.nodes.Bernoulli(), jax.nn.sigmoid),
    "spin": (cg.nodes.Spin(), jnp.tanh),
    "relu": (cg.nodes.ReLU(), jax.nn.relu),
    "leaky_relu": (
        cg.nodes.LeakyReLU(0.2),
        functools.partial(jax.nn.leaky_relu, negative_slope=0.2),
    ),
    "softplus": (cg.nodes.Softplus(), jax.nn.softplus),
    "categorical": (cg.nodes.Categorical(), jax.nn.softmax),
    "gaussian": (cg.nodes.Gaussian(0.5), lambda e: e),
}


def network(activation, parameters, x):
    for w in parameters:
        x = activation(x @ w)
    return x.sum()


def _scanned(f):
    def loss(parameters, x):
        stacked = jnp.stack(parameters)
        return lax.scan(lambda x, w: (f([w], x) * x, None), x, stacked)[0].sum()

    return loss


TRANSFORMS = {
    "value": lambda f: f,
    "grad": lambda f: jax.grad(f, (0, 1)),
    "jvp": lambda f: lambda p, x: jax.jvp(lambda x: f(p, x), (x,), (jnp.ones_like(x),)),
    "vjp": lambda f: lambda p, x: jax.vjp(f, p, x)[1](jnp.float32(2.0)),
    "vmap": lambda f: lambda p, x: jax.vmap(f, (None, 0))(p, x),
    "vmap of grad": lambda f: lambda p, x: jax.vmap(jax.grad(f), (None, 0))(p, x),
    "remat": lambda f: jax.grad(jax.checkpoint(f), (0, 1)),
    "hessian": lambda f: lambda p, x: jax.hessian(lambda x: f(p, x))(x[0]),
    "scan": _scanned,
    "grad of scan": lambda f: jax.grad(_scanned(f), (0, 1)),
    "linearize": lambda f: lambda p, x: jax.linearize(f, p, x)[1](p, x),
}


@pytest.mark.parametrize("family", PLAIN)
def test_is_bit_for_bit_the_plain_activation_under_every_transformation(family):
    node, activation = PLAIN[family]
    parameters, x = weights(3, 3, 3, 3), jax.random.normal(jax.random.key(1), (4, 3))

    def everything(f):
        return lambda p, x: {name: t(f)(p, x) for name, t in TRANSFORMS.items()}

    marked = functools.partial(network, lambda e: cg.node(node, e))
    plain = functools.partial(network, activation)
    got = jax.jit(everything(marked))(parameters, x)
    assert_identical(got, jax.jit(everything(plain))(parameters, x))
    assert all(np.abs(v).sum() > 0 for v in jax.tree.leaves(got["grad"]) if family != "categorical")


@pytest.mark.parametrize("transform", ["grad", "jvp", "vmap", "remat", "hessian", "scan"])
def test_eager_transformations_are_bit_for_bit_the_plain_activation_too(transform):
    parameters, x = weights(3, 3, 3, 3), jax.random.normal(jax.random.key(1), (4, 3))
    t = TRANSFORMS[transform]
    got = t(functools.partial(network, spin))(parameters, x)
    assert_identical(got, t(functools.partial(network, jnp.tanh))(parameters, x))


@pytest.mark.parametrize("family", ["spin", "relu", "bernoulli", "softplus"])
@pytest.mark.parametrize("transform", ["value", "grad", "vmap", "scan"])
def test_compiles_to_the_program_of_the_plain_activation(family, transform):
    node, activation = PLAIN[family]
    parameters, x = weights(3, 3, 3, 3), jnp.ones((4, 3))
    t = TRANSFORMS[transform]
    marked = t(functools.partial(network, lambda e: cg.node(node, e, name=None)))
    plain = t(functools.partial(network, activation))
    assert optimised_hlo(marked, parameters, x) == optimised_hlo(plain, parameters, x)


def test_the_comparison_of_programs_sees_a_difference():
    x = jnp.ones(3)
    assert optimised_hlo(jnp.tanh, x) != optimised_hlo(lambda x: jnp.tanh(x) + 1, x)


def test_sharded_values_and_gradients_are_those_of_the_plain_activation():
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("batch"))
    x = jax.device_put(jax.random.normal(jax.random.key(1), (8, 3)), sharding)
    parameters = weights(3, 3, 3)

    def run(activation):
        f = jax.jit(jax.value_and_grad(functools.partial(network, activation), (0, 1)))
        return f(parameters, x)

    got = run(spin)
    assert_identical(got, run(jnp.tanh))
    assert got[1][1].sharding.is_equivalent_to(sharding, 2)


def test_works_inside_shard_map():
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    x = jnp.arange(8.0) - 4
    spec = PartitionSpec("batch")
    f = jax.shard_map(relu, mesh=mesh, in_specs=spec, out_specs=spec)
    assert_identical(jax.jit(f)(x), jax.nn.relu(x))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_keeps_the_dtype(dtype):
    e = jnp.linspace(-2, 2, 5, dtype=dtype)
    assert_identical(spin(e), jnp.tanh(e))
    assert_identical(jax.grad(lambda e: spin(e).sum())(e), jax.grad(lambda e: jnp.tanh(e).sum())(e))


def test_family_parameters_may_be_traced_mapped_and_differentiated():
    def f(low, e):
        return cg.node(cg.nodes.Binary(low, 2.0), e).sum()

    low, e = jnp.array([-1.0, 0.5]), jnp.array([[0.1, 0.2, 0.3], [1.0, -1.0, 0.0]])
    mapped = jax.vmap(jax.value_and_grad(f))(low, e)
    for row in range(2):
        one = jax.value_and_grad(f)(low[row], e[row])
        # The two programs may round differently: 4 operations of 1 ulp each.
        for a, b in zip(mapped, one, strict=True):
            np.testing.assert_allclose(a[row], b, rtol=5e-7)


def test_mapped_family_parameters_keep_their_place_beside_the_features():
    # One leak for each feature, mapped over rows of an e with one more axis.
    def f(leak, e):
        return cg.node(cg.nodes.LeakyReLU(leak), e, name="h")

    leak = jnp.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    e = -jnp.ones((2, 4, 3))
    sampled = cg.forward_sample(lambda leak, e: jax.vmap(f)(leak, e))(jax.random.key(0), leak, e)
    assert sampled.shape == e.shape
    assert_identical(jax.vmap(f)(leak, e), -jnp.broadcast_to(leak[:, None], e.shape))


# -- names


def names(net, *args):
    return [site.name for site in trace(net, args).sites]


def test_unnamed_nodes_are_numbered_by_family_and_repeats_in_walking_order():
    def net(x):
        x = relu(spin(x) * relu(x))
        for _ in range(3):
            x = relu(x, name="h") * 2
        return x

    expected = ["spin_0", "relu_0", "relu_1", "h", "h#1", "h#2"]
    assert names(net, jnp.ones(2)) == expected


def test_scopes_prefix_and_nest_through_every_kind_of_nested_function():
    @jax.custom_jvp
    def custom(x):
        return relu(x, "h")

    custom.defjvp(lambda p, t: (custom(*p), t[0]))
    nested = {
        "plain": lambda x: relu(x, "h"),
        "jit": jax.jit(lambda x: relu(x, "h")),
        "scan": lambda x: lax.scan(lambda c, _: (relu(c, "h"), None), x, None, length=2)[0],
        "while": lambda x: lax.while_loop(lambda c: c.sum() < 0, lambda c: relu(c, "h"), x),
        "cond": lambda x: lax.cond(x.sum() > 0, lambda c: relu(c, "h"), lambda c: c, x),
        "remat": jax.checkpoint(lambda x: relu(x, "h")),
        "custom": custom,
        "vmap": jax.vmap(lambda x: relu(x, "h")),
        "grad": jax.grad(lambda x: relu(x, "h").sum()),
    }

    def net(x):
        with cg.scope("outer"):
            for name, f in nested.items():
                with cg.scope(name):
                    x = f(x)
        return x

    assert names(net, jnp.ones(2)) == [f"outer/{name}/h" for name in nested]


def test_a_function_traced_once_is_named_in_each_scope_that_uses_it():
    @jax.jit
    def block(x):
        with cg.scope("block"):
            return relu(relu(x, "h"))

    def body(c, _):
        return block(c), None

    def net(x):
        for name in "ab":
            with cg.scope(name):
                x = lax.scan(body, block(x), None, length=2)[0]
        return x

    one = ["block/h", "block/relu_0", "block/h#1", "block/relu_1"]
    block(jnp.ones(2))  # traced before, outside
    assert names(net, jnp.ones(2)) == [f"a/{n}" for n in one] + [f"b/{n}" for n in one]


def test_a_scope_that_raises_is_left():
    def net(x):
        with pytest.raises(RuntimeError), cg.scope("s"):
            raise RuntimeError
        return relu(x, "h")

    assert names(net, jnp.ones(2)) == ["h"]


@pytest.mark.parametrize("name", ["", "a/b", "a#1", "*", "a?", "[a]"])
def test_bad_names_raise(name):
    with pytest.raises(ValueError, match="name"):
        relu(jnp.ones(2), name)
    with pytest.raises(ValueError, match="scope"), cg.scope(name):
        pass


# -- errors of `node`


# As users call them: the tests' run-time check of annotations would raise first.
unchecked_node, unchecked_observe = inspect.unwrap(cg.node), inspect.unwrap(cg.observe)


def test_the_family_must_be_an_instance():
    with pytest.raises(TypeError, match=r"Did you mean `ReLU\(\)`"):
        unchecked_node(cg.nodes.ReLU, jnp.ones(2))
    with pytest.raises(TypeError, match="node family"):
        unchecked_node(jax.nn.relu, jnp.ones(2))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_, jnp.complex64])
def test_the_natural_parameter_must_be_floating_point(dtype):
    with pytest.raises(TypeError, match="floating"):
        unchecked_node(cg.nodes.Bernoulli(), jnp.zeros(2, dtype))


def test_a_family_that_does_not_fit_the_shape_raises_at_trace_time():
    with pytest.raises(ValueError, match="axis"):
        jax.jit(lambda x: cg.node(cg.nodes.Categorical(axis=-2), x))(jnp.ones(3))
    with pytest.raises(ValueError, match="broadcast"):
        jax.jit(lambda x: cg.node(cg.nodes.Gaussian(jnp.ones(4)), x))(jnp.ones(3))


# -- observe


def test_observe_is_the_identity_and_checks_what_it_knows():
    x = jnp.array([0.0, 0.25, 1.0])
    assert_identical(cg.observe(x), x)
    assert_identical(jax.grad(lambda x: cg.observe(x).sum())(x), jnp.ones(3))
    assert_identical(cg.observe(x * 2 - 1, -1.0, 1.0), x * 2 - 1)
    assert_identical(cg.observe(jnp.zeros((0, 2))), jnp.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"\[0.0, 1.0\], got values in \[0.0, 2.0\]"):
        cg.observe(2 * x)
    with pytest.raises(ValueError, match="low"):
        cg.observe(x, 1.0, 1.0)
    with pytest.raises(ValueError):
        cg.observe(jnp.array([jnp.nan, 0.5]))
    # The range of a traced value is not known.
    assert_identical(jax.jit(cg.observe)(2 * x), 2 * x)
    with pytest.raises(TypeError, match="floating"):
        unchecked_observe(jnp.array([0, 1]))


def test_observed_nodes_are_sampled_only_when_named():
    def net(x):
        return 2 * cg.observe(x, -1.0, 1.0, name="pixels")

    x, key = jnp.full((200,), 0.5), jax.random.key(3)
    for procedure in (cg.forward_sample(net), cg.pcff(net, 1.0), cg.pcff(net, {"*": 1.0})):
        assert_identical(procedure(key, x), 2 * x)
    sampled = cg.pcff(net, {"pix*": 1.0})(key, x)
    assert set(np.unique(sampled)) == {-2.0, 2.0}
    # P(high) = 3/4: the number of highs is binomial, standard deviation sqrt(200 * 3/16) = 6.1.
    assert abs((sampled > 0).sum() - 150) < 5 * 6.13


def test_float64_nodes_are_exact_too():
    def net(e):
        return spin(e, "a") * cg.node(cg.nodes.Softplus(), e, name="b")

    def plain(e):
        return jnp.tanh(e) * jax.nn.softplus(e)

    def scanned(e):
        step = lambda c, x: (cg.node(cg.nodes.Bernoulli(), c + x), c)  # noqa: E731
        return lax.scan(step, e, jnp.ones((3, 7)))

    key = jax.random.key(0)
    narrow = cg.forward_sample(net)(key, jnp.ones(7))
    assert narrow.dtype == jnp.float32
    with jax.enable_x64(True):
        e = jnp.linspace(-3, 3, 7)
        assert e.dtype == jnp.float64
        assert_identical(net(e), plain(e))
        gradients = [jax.grad(lambda e, f=f: f(e).sum())(e) for f in (net, plain)]
        assert_identical(*gradients)
        assert_identical(cg.pcff(net, 0.0)(key, e), jax.jit(plain)(e))
        full = cg.pcff(net, {"*": 1.0})(key, e)
        assert_identical(full, cg.forward_sample(net)(key, e))
        half = cg.pcff(net, jnp.full(7, 0.5))(key, e)
        assert full.dtype == half.dtype == jnp.float64
        assert cg.monte_carlo(cg.pcff(net, 0.5), 4)(key, e).standard_error.dtype == jnp.float64
        assert cg.pcff(scanned, 1.0)(key, e)[0].dtype == jnp.float64
    # A program of one precision is not used in the other.
    assert_identical(cg.forward_sample(net)(key, jnp.ones(7)), narrow)
