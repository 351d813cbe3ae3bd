"""Derivatives of networks whose nodes or derivative rules stand inside others."""

import pathlib

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import lax
from jax._src import source_info_util

import cgjax as cg
from cgjax._program import trace
from tests._walk.networks import (
    CUSTOM,
    KEY,
    X,
)
from tests.helpers import (
    as_users,
    assert_identical,
    relu,
    spin,
    weighted,
)

# The run-time check of annotations puts its own lines between the user's and the library's.
source_info_util.register_exclusion(str(pathlib.Path(jaxtyping.__file__).parent))


def test_a_custom_derivative_without_nodes_survives():
    @jax.custom_vjp
    def reversed_gradient(x):
        return x

    reversed_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))

    @jax.custom_jvp
    def doubled_gradient(x):
        return x

    doubled_gradient.defjvp(lambda p, t: (doubled_gradient(*p), 2 * t[0]))

    def net(x):
        h = relu(doubled_gradient(jax.jit(reversed_gradient)(x)), "h")
        step = lambda c, _: (doubled_gradient(relu(c, "s")), None)  # noqa: E731
        return lax.scan(step, h, None, length=2)[0]

    x = jnp.array([1.0, 2.0])
    for procedure in (cg.feed_forward(net), lambda x: cg.pcff(net, 0.0)(KEY, x)):
        got = jax.vjp(procedure, x)[1](jnp.ones(2))[0]
        assert_identical(got, jnp.full(2, -8.0))
    certain = cg.nodes.RectifiedGaussian(0.0)
    sampled = lambda x: 3 * cg.node(certain, reversed_gradient(x), name="h")  # noqa: E731
    got = jax.grad(lambda x: cg.forward_sample(sampled)(KEY, x).sum())(x)
    assert_identical(got, jnp.full(2, -3.0))


@pytest.mark.parametrize("net", CUSTOM)
def test_a_custom_derivative_with_nodes_raises_unless_inlined(net):
    affine = lambda x: weighted(2, net(x), x)  # noqa: E731
    names = [s.name for s in trace(affine, (X,)).sites]
    for procedure in (
        cg.forward_sample(affine),
        cg.pcff(affine, 0.5),
        cg.pcff(affine, jnp.ones(4)),
    ):
        with pytest.raises(TypeError, match=f"'{names[0]}'.*networks.py.*inline=True"):
            procedure(KEY, X)
    with pytest.raises(TypeError, match="inline=True"):
        cg.log_joint(affine)(dict.fromkeys(names, 1.0), X)
    with pytest.raises(TypeError, match="inline=True"):
        cg.clamp(affine, {names[0]: 1.0})(X)
    # Collapsed nodes keep the rule, which passes the gradient unchanged.
    for procedure in (cg.feed_forward(affine), lambda x: cg.pcff(affine, 0.0)(KEY, x)):
        assert_identical(jax.vjp(procedure, X)[1](jnp.ones(4))[0], jnp.full(4, 2.0))
    captured, nodes = as_users(cg.with_nodes(cg.feed_forward(affine)))(X)
    assert_identical(captured, as_users(affine)(X))
    assert list(nodes) == names
    out = lambda x: cg.with_nodes(cg.feed_forward(affine))(x)[0].sum()  # noqa: E731
    assert_identical(jax.grad(out)(X), jnp.full(4, 2.0))
    inlined = cg.clamp(affine, {names[0]: 1.0}, inline=True)
    assert inlined(X).shape == (4,)


def test_inlined_custom_derivatives_are_differentiated_as_plain_functions():
    @jax.custom_jvp
    def f(x):
        return cg.node(cg.nodes.RectifiedGaussian(0.0), 3 * x, name="h")

    f.defjvp(lambda p, t: (f(*p), 100 * t[0]))
    net = lambda x: 2 * f(x)  # noqa: E731
    got = jax.grad(lambda x: cg.forward_sample(net, inline=True)(KEY, x).sum())(jnp.ones(3))
    assert_identical(got, jnp.full(3, 6.0))


def test_differentiating_through_nodes_inside_the_network_raises_unless_collapsed():
    def net(x):
        a = spin(x, "a")
        inner = jax.jit(lambda x: (spin(x, "h") * 3).sum())
        return jax.grad(inner)(a) * 2, jax.jvp(lambda x: spin(x, "g"), (x,), (x,))[1]

    plain = as_users(net)(X)
    for collapsed in (
        cg.feed_forward(net),
        lambda x: cg.with_nodes(cg.feed_forward(net))(x)[0],
        lambda x: cg.pcff(net, 0.0)(KEY, x),
        lambda x: cg.pcff(net, {"h": 0.0})(KEY, x),
    ):
        assert_identical(as_users(collapsed)(X), plain)
    for sampling in (
        cg.forward_sample(net),
        cg.pcff(net, 0.5),
        cg.pcff(net, {"h": 1.0}),
        cg.pcff(net, {"g": jnp.ones(4)}),
        cg.pcff(cg.clamp(net, {"a": 1.0}), {"h": 1.0}),
    ):
        with pytest.raises(TypeError, match="differentiates through its node '[gh]'"):
            sampling(KEY, X)
    # Nodes that no derivative passes through may be sampled.
    cg.pcff(net, {"a": 1.0})(KEY, X)


def test_hessians_and_gradients_of_procedures_pass_through():
    net = lambda x: 2 * relu(x, "h") ** 2  # noqa: E731
    sample = lambda x: cg.forward_sample(net)(KEY, x).sum()  # noqa: E731
    x = jnp.array([0.5, 1.5, -0.2])
    hessian = jax.jit(jax.hessian(sample))(x)
    assert np.isfinite(hessian).all() and np.abs(hessian - np.diag(np.diag(hessian))).max() == 0
    eps = 1e-3
    slope = jax.grad(sample)
    shifted = [
        (slope(x.at[i].add(eps)) - slope(x.at[i].add(-eps)))[i] / (2 * eps) for i in range(3)
    ]
    # Central differences in float32: rounding 1e-7 * 10 / 1e-3, truncation 1e-6.
    np.testing.assert_allclose(np.diag(hessian), shifted, rtol=5e-3, atol=5e-3)
