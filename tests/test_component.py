"""Fused components: a procedure uses its implementation, or walks the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax._program import trace
from tests.helpers import assert_identical, relu, spin, weighted

KEY = jax.random.key(5)
X = jnp.array([0.5, -1.0, 2.0])


def reference(x, w):
    return spin(x * w, "first"), relu(spin(x, "second") + 1)


def fused(**implementations):
    return cg.component(reference, **implementations)


def marker(value):
    """An implementation whose result shows that it was called."""
    return lambda *args: (jnp.full(args[-2].shape, value), args[-2] * args[-1] * value)


ALL = {
    "feed_forward": marker(10.0),
    "forward_sample": lambda key, x, w: marker(20.0)(x, w),
    "pcff": lambda key, rates, x, w: marker(30.0)(x, w),
}


def net(component):
    def f(x, w):
        a, b = component(x, w)
        return weighted(2, a, x), weighted(2, b, x)

    return f


def test_without_implementations_it_is_its_reference():
    component, plain = net(fused()), net(reference)
    args = (X, jnp.float32(2.0))
    assert_identical(component(*args), plain(*args))
    for build in (cg.forward_sample, lambda f: cg.pcff(f, 0.5), lambda f: cg.pcff(f, {"*": 1.0})):
        assert_identical(build(component)(KEY, *args), build(plain)(KEY, *args))
    assert_identical(
        cg.with_nodes(cg.pcff(component, 0.5))(KEY, *args),
        cg.with_nodes(cg.pcff(plain, 0.5))(KEY, *args),
    )
    loss = lambda f: jax.grad(lambda x, w: sum(map(jnp.sum, f(x, w))), (0, 1))(*args)  # noqa: E731
    assert_identical(loss(component), loss(plain))
    assert [s.name for s in trace(component, args).sites] == ["first", "second", "relu_0"]


def test_each_procedure_calls_its_own_implementation():
    f = net(fused(**ALL))
    args = (X, jnp.ones(3))
    for result, value in (
        (f(*args), 10.0),
        (jax.jit(f)(*args), 10.0),
        (cg.feed_forward(f)(*args), 10.0),
        (cg.forward_sample(f)(KEY, *args), 20.0),
        (cg.pcff(f, 0.5)(KEY, *args), 30.0),
        (cg.pcff(f, {"first": 0.5})(KEY, *args), 30.0),
        (cg.pcff(f, 0.0)(KEY, *args), 10.0),  # nothing is sampled inside
    ):
        assert_identical(result, (jnp.full(3, 2 * value), 2 * X * value))
    # Values of inner nodes are asked for: the reference is walked.
    captured = cg.with_nodes(cg.feed_forward(f))(*args)
    assert_identical(captured, cg.with_nodes(cg.feed_forward(net(reference)))(*args))
    clamped = cg.clamp(f, {"first": 0.25})(*args)[0]
    assert_identical(clamped, jnp.full(3, 0.5))


def test_rates_arrive_one_for_each_node_in_walking_order():
    seen = []

    def pcff(key, rates, x, w):
        seen.append(rates)
        return x + 0 * jax.random.uniform(key), x * w

    f = net(fused(pcff=pcff))
    cg.pcff(f, {"second": 0.25, "*": 0.5})(KEY, X, X)
    assert seen.pop() == (0.5, 0.25, 0.5)
    cg.pcff(f, {"first": jnp.array([0.0, 0.5, 1.0]), "sec*": jnp.float32(0.1)})(KEY, X, X)
    first, second, third = seen.pop()
    assert first.shape == (3,) and second.shape == () and third == 0.0


def test_mapped_implementations_have_a_key_for_each_row_and_scalar_rates():
    def pcff(key, rates, x, w):
        draws = jax.random.uniform(key, x.shape)
        return jnp.where(draws < rates[0], draws, x), x * w

    f = lambda x, w: jax.vmap(jax.vmap(fused(pcff=pcff), (0, None)), (0, None))(x, w)  # noqa: E731
    x = jnp.zeros((2, 4, 3))
    out = cg.pcff(lambda *a: jax.tree.map(jnp.square, f(*a)), 1.0)(KEY, x, X)[0]
    assert out.shape == (2, 4, 3)
    assert len(np.unique(out)) == 24
    traced = jax.jit(lambda r: cg.pcff(lambda *a: jax.tree.map(jnp.square, f(*a)), r)(KEY, x, X))
    assert_identical(traced(1.0)[0], out)
    assert_identical(traced(0.0)[0], x)


@pytest.mark.parametrize("shape", [(4, 1), (4, 3), (1, 3)])
def test_rates_of_single_nodes_reach_the_nodes_of_a_mapped_component(shape):
    wrong = lambda key, rates, x, w: (x, x)  # noqa: E731  (is not called)
    rate = jnp.linspace(0.0, 1.0, shape[0] * shape[1]).reshape(shape)
    x = jnp.ones((4, 3))
    mapped = lambda c: lambda x, w: jax.vmap(net(c), (0, None))(x, w)  # noqa: E731
    run = lambda c: cg.pcff(mapped(c), {"first": rate})(KEY, x, X)  # noqa: E731
    assert_identical(run(fused(pcff=wrong)), run(fused()))


def test_a_part_of_which_nothing_is_sampled_or_clamped_is_evaluated_as_a_whole():
    def f(x):
        h = spin(x, "outside")
        return h, fused(feed_forward=marker(10.0))(x, x)[0]

    fed = jnp.full(3, 10.0)
    assert_identical(cg.pcff(f, {"outside": 1.0})(KEY, X)[1], fed)
    assert_identical(cg.pcff(f, 0.0)(KEY, X)[1], fed)
    clamped = cg.clamp(f, {"outside": 0.5})
    assert_identical(clamped(X), (jnp.full(3, 0.5), fed))
    # It is still made of nodes, under the names they had.
    assert [s.name for s in trace(clamped, (X,)).sites] == ["first", "second", "relu_0"]
    assert set(np.unique(cg.forward_sample(clamped)(KEY, X)[1])) <= {-1.0, 1.0}
    inside = cg.clamp(f, {"first": 0.25})(X)[1]
    assert_identical(inside, jnp.full(3, 0.25))


def test_moments_call_their_implementation():
    def moments(nodes, x, w):
        assert nodes in ("collapsed", "random")
        belief = cg.Belief(10 * x.mean, (3.0 if nodes == "random" else 2.0) * x.variance)
        return belief, w

    f = net(fused(moments=moments))
    x, w = cg.Belief(X, jnp.ones(3)), 2 * jnp.ones(3)
    for procedure, factor in ((cg.moments(f), 2.0), (cg.moments(f, nodes="random"), 3.0)):
        first, second = procedure(x, w)
        assert_identical(first, cg.Belief(20 * X, 4 * factor * jnp.ones(3)))
        assert_identical(second, cg.Belief(2 * w, jnp.zeros(3)))  # known
    # Rows of a map, each with its own belief.
    rows = lambda x, w: jax.vmap(f, (0, None))(x, w)  # noqa: E731
    many = cg.Belief(jnp.stack([X, -X]), jnp.ones((2, 3)))
    assert_identical(cg.moments(rows)(many, w)[0].mean, jnp.stack([20 * X, -20 * X]))
    # First-order moments, and beliefs about inner nodes, come from the reference.
    for build in (lambda f: cg.moments(f, order=1), lambda f: cg.with_nodes(cg.moments(f))):
        assert_identical(build(f)(x, w), build(net(reference))(x, w))
    wrong = net(fused(moments=lambda nodes, x, w: (cg.Belief(x.mean[:2], x.mean[:2]), w)))
    with pytest.raises(TypeError, match="shapes .* where the result has shape"):
        cg.moments(wrong)(x, w)


def test_loops_give_a_component_a_new_key_at_each_step():
    draw = lambda key, x, w: (jax.random.normal(key, x.shape), x)  # noqa: E731
    f = lambda x: lax.scan(lambda c, _: (c, fused(forward_sample=draw)(c, c)[0]), x, None, length=4)  # noqa: E731, E501
    ys = cg.forward_sample(f)(KEY, X)[1]
    assert len(np.unique(ys)) == 12


def test_gradients_of_plain_evaluation_and_procedures_use_the_implementations():
    @jax.custom_vjp
    def kernel(x, w):
        return jnp.tanh(x * w), x * w

    kernel.defvjp(lambda x, w: (kernel(x, w), x), lambda x, g: (7 * x, jnp.ones_like(x)))
    f = net(fused(feed_forward=kernel))
    loss = lambda f: jax.grad(lambda x: sum(map(jnp.sum, f(x, X))))(X)  # noqa: E731
    assert_identical(loss(f), 7 * X)
    assert_identical(loss(cg.feed_forward(f)), 7 * X)
    sampled = lambda x, w: cg.forward_sample(f)(KEY, x, w)  # noqa: E731
    expected = lambda x, w: cg.forward_sample(net(reference))(KEY, x, w)  # noqa: E731
    assert_identical(loss(sampled), loss(expected))


def test_a_derivative_inside_the_network_shows_the_nodes_of_a_component():
    # Whatever was traced before, outside: JAX caches derivatives of jitted functions.
    component = cg.component(lambda x: spin(x, "h"), feed_forward=jnp.tanh)
    inner = jax.jit(lambda x: component(x).sum())
    f = lambda x: 2 * jax.grad(inner)(x)  # noqa: E731
    outside = f(X)
    with pytest.raises(TypeError, match="differentiates through its node 'h'"):
        cg.forward_sample(f)(KEY, X)
    np.testing.assert_allclose(cg.feed_forward(f)(X), outside, rtol=1e-6)  # two ways to compute it
    assert_identical(f(X), outside)


def test_static_mistakes_raise():
    captured = jnp.ones(3)
    with pytest.raises(ValueError, match="closes over 1 arrays"):
        cg.component(lambda x: spin(x * captured))(X)
    with pytest.raises(TypeError, match="feed_forward implementation returned"):
        fused(feed_forward=lambda x, w: x)(X, X)
    with pytest.raises(TypeError, match=r"float32\[1, 3\] from its forward_sample"):
        wrong = fused(forward_sample=lambda key, x, w: (x[None], x))
        cg.forward_sample(net(wrong))(KEY, X, X)
