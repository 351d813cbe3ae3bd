"""Moment rules of users: which calls they are for, and that a correction counts at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax._beliefs import registry

X = cg.Belief(jnp.array([1.0, 2.0]), jnp.array([0.5, 0.25]))


def answers(number):
    """A rule whose results no network has."""

    def rule(x, **_):
        return cg.Belief(jnp.full_like(x.mean, number), x.variance)

    return rule


def mean(function, x=X):
    return np.asarray(cg.moments(lambda x: function(x))(x).mean)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Rules of one test are unknown to the next."""
    for table in (registry._of_primitives, registry._of_functions):
        monkeypatch.setattr(table, "_values", dict(table._values))


class TestCorrections:
    def test_of_a_function_count_in_what_is_compiled(self):
        @jax.jit
        def doubled(x):
            return 2 * x

        procedure = cg.moments(lambda x: doubled(x) + 1)
        compiled = jax.jit(procedure)
        rows = jax.jit(jax.vmap(procedure))
        stacked = jax.tree.map(lambda a: a[None], X)
        for number in (None, 7.0, 8.0):
            if number is not None:
                cg.moment_rule(doubled)(answers(number))
            right = 2 * X.mean + 1 if number is None else jnp.full(2, number + 1)
            np.testing.assert_array_equal(procedure(X).mean, right)
            np.testing.assert_array_equal(compiled(X).mean, right)
            np.testing.assert_array_equal(rows(stacked).mean[0], right)

    def test_of_a_primitive_count_in_what_is_compiled(self):
        procedure = cg.moments(lambda x: jnp.sinh(x))
        compiled = jax.jit(procedure)
        before = procedure(X).mean
        np.testing.assert_allclose(compiled(X).mean, before, 1e-6)
        for target, number in (("sinh", 7.0), (jax.lax.sinh_p, 8.0), ("sinh", 9.0)):
            cg.moment_rule(target)(answers(number))
            np.testing.assert_array_equal(procedure(X).mean, number)
            np.testing.assert_array_equal(compiled(X).mean, number)

    def test_procedures_for_weights_see_them(self):
        f = lambda w, x: jnp.cosh(w * x)  # noqa: E731
        posterior = cg.weights.mean_field(jnp.ones(2), 0.5)
        procedure = jax.jit(cg.weights.deterministic(f))
        procedure(None, posterior, jnp.ones(2))
        cg.moment_rule("cosh")(answers(7.0))
        np.testing.assert_array_equal(procedure(None, posterior, jnp.ones(2)).mean, 7)


class TestFunctions:
    def test_of_one_name_are_told_apart(self):
        @jax.jit
        def softplus(x):
            return 5 * x

        before = mean(jax.nn.softplus)
        cg.moment_rule(softplus)(answers(7.0))
        np.testing.assert_array_equal(mean(softplus), 7)
        np.testing.assert_array_equal(mean(jax.nn.softplus), before)

    def test_a_function_called_softplus_keeps_its_kink(self):
        @jax.jit
        def softplus(x):
            return jnp.maximum(x, 0)

        plain = cg.moments(lambda x: jnp.maximum(x, 0) - x)(X)
        named = cg.moments(lambda x: softplus(x) - x)(X)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6), named, plain)

    @pytest.mark.parametrize("kind", ["jit", "custom_jvp", "custom_vjp", "lambda", "partial"])
    def test_of_one_place_are_told_apart(self, kind):
        def scaled(scale, x):
            return scale * x

        def make(scale):
            def act(x):
                return scale * x

            if kind == "custom_jvp":
                act = jax.custom_jvp(act)
                act.defjvp(lambda x, t: (scale * x[0], scale * t[0]))
            elif kind == "custom_vjp":
                act = jax.custom_vjp(act)
                act.defvjp(lambda x: (scale * x, None), lambda _, g: (scale * g,))
            elif kind == "lambda":
                act = jax.jit(lambda x: scale * x)
            elif kind == "partial":
                act = jax.jit(functools.partial(scaled, scale))
            else:
                act = jax.jit(act)
            return act

        one, other, again = make(2.0), make(3.0), make(2.0)
        cg.moment_rule(one)(answers(7.0))
        np.testing.assert_array_equal(mean(one), 7)
        np.testing.assert_array_equal(mean(other), 3 * X.mean)
        np.testing.assert_array_equal(mean(again), 7)  # the same function

    def test_methods_of_two_objects_are_told_apart(self):
        class Model:
            def __init__(self, scale):
                self.scale = scale

            def __call__(self, x):
                return self.scale * x

            def act(self, x):
                return self.scale * x

            @functools.partial(jax.jit, static_argnums=0)
            def compiled(self, x):
                return self.scale * x

        a, b = Model(2.0), Model(3.0)
        one, other = jax.jit(a.act), jax.jit(b.act)
        cg.moment_rule(one)(answers(7.0))
        cg.moment_rule(a.compiled)(answers(8.0))
        np.testing.assert_array_equal(mean(one), 7)
        np.testing.assert_array_equal(mean(other), 3 * X.mean)
        np.testing.assert_array_equal(mean(a.compiled), 8)
        np.testing.assert_array_equal(mean(b.compiled), 3 * X.mean)

    def test_a_rule_is_not_for_derivatives_or_rows_of_its_function(self):
        @jax.jit
        def first(x):
            return x[0] * x[0]

        rows = cg.Belief(jnp.ones((3, 2)), jnp.ones((3, 2)))
        right = mean(jax.vmap(first), rows), mean(jax.grad(first))
        cg.moment_rule(first)(lambda x: cg.Belief(jnp.float32(7), x.variance[0]))
        assert mean(first) == 7
        np.testing.assert_array_equal(mean(jax.vmap(first), rows), right[0])
        np.testing.assert_array_equal(mean(jax.grad(first)), right[1])

    def test_an_element_wise_rule_is_for_rows_too(self):
        @jax.jit
        def act(x):
            return jnp.where(x > 1, x, 0.5 * x)

        cg.moment_rule(act)(answers(7.0))
        rows = cg.Belief(jnp.ones((3, 2)), jnp.ones((3, 2)))
        np.testing.assert_array_equal(mean(jax.vmap(act), rows), 7)

    def test_static_arguments_may_be_given(self):
        cg.moment_rule(_static_power)(answers(7.0))
        np.testing.assert_array_equal(mean(lambda x: _static_power(x, power=3)), 7)

    def test_arrays_that_a_custom_derivative_closes_over_are_no_operands(self):
        cg.moment_rule(_closing)(answers(7.0))
        np.testing.assert_array_equal(mean(_closing), 7)

    def test_what_cannot_be_told_apart_is_refused(self):
        def make(scale):
            @functools.partial(jax.jit, static_argnames="power")
            def act(x, power):
                return scale * x**power

            return act

        one, other = make(2.0), make(3.0)
        cg.moment_rule(one)(answers(7.0))
        with pytest.raises(TypeError, match=r"^act at .*test_registry.py.*top level of a module"):
            mean(lambda x: other(x, power=3))


@functools.partial(jax.jit, static_argnames="power")
def _static_power(x, power):
    return x**power


_SCALE = jnp.array([2.0, 3.0])


@jax.custom_jvp
def _closing(x):
    return x * _SCALE


_closing.defjvp(lambda x, t: (x[0] * _SCALE, t[0] * _SCALE))


def test_two_primitives_of_one_name_are_told_apart():
    from jax.extend.core import Primitive

    own = Primitive("sinh")
    own.def_impl(lambda x: x)
    own.def_abstract_eval(lambda x: x)
    cg.moment_rule(own)(answers(7.0))
    np.testing.assert_array_equal(mean(own.bind), 7)
    assert not (mean(jnp.sinh) == 7).any()


@pytest.mark.parametrize("nodes", ["random", "collapsed"])
def test_what_has_no_rule_is_said_at_nodes_too(nodes):
    x = cg.Belief(jnp.eye(2) + 1, jnp.full((2, 2), 0.1))

    def below(x):
        return cg.node(cg.nodes.Spin(), jnp.linalg.cholesky(x), name="h")

    def beside(x):
        return cg.node(cg.nodes.RectifiedGaussian(jnp.linalg.cholesky(x)), x, name="h")

    for net in (below, beside):
        with pytest.raises(TypeError, match="mean and variance of `cholesky`"):
            cg.moments(net, nodes=nodes)(x)
