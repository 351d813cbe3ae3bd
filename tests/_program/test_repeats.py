"""What is computed twice is one value, unless it may not be the same."""

import jax
import jax.numpy as jnp
import numpy as np

import cgjax as cg
from cgjax import Belief
from cgjax._program.repeats import without_repeats

X = Belief(jnp.array([0.3, -0.5]), jnp.array([0.3, 0.5]))
W = jnp.array([[1.0, 2.0], [3.0, -1.0]])


def names(function, *arguments, kept=lambda eqn: False):
    return [e.primitive.name for e in without(function, *arguments, kept=kept).eqns]


def without(function, *arguments, kept=lambda eqn: False):
    return without_repeats(jax.make_jaxpr(function)(*arguments).jaxpr, kept)


def test_equal_operations_are_one():
    x = jnp.ones(2)
    assert names(lambda x: jnp.sin(x) + jnp.sin(x), x) == ["sin", "add"]
    # Also what follows from them, and results that are the same.
    assert names(lambda x: jnp.cos(jnp.sin(x)) + jnp.cos(jnp.sin(x)), x) == ["sin", "cos", "add"]
    both = without(lambda x: (jnp.sin(x), jnp.sin(x)), x)
    assert len(both.eqns) == 1 and both.outvars[0] is both.outvars[1]


def test_others_stay():
    x = jnp.ones(2)
    # Other operands, other numbers, other parameters, and what the caller keeps.
    assert names(lambda x: jnp.sin(x) + jnp.sin(2 * x), x).count("sin") == 2
    assert names(lambda x: (x + 1) * (x + 2), x).count("add") == 2
    assert names(lambda x: x**2 + x**3, x).count("integer_pow") + 1 >= 2
    assert names(lambda x: jnp.sin(x) + jnp.sin(x), x, kept=lambda eqn: True).count("sin") == 2
    untouched = jax.make_jaxpr(lambda x: jnp.sin(x) * 2)(x).jaxpr
    assert without_repeats(untouched, lambda eqn: False) is untouched


def test_other_results_of_a_repeated_operation():
    """Of the first only one result is used, of the second only the other."""

    def f(x):
        (first, _), (_, second) = jnp.split(x, 2), jnp.split(x, 2)
        return first * second

    got = jax.jit(cg.moments(f))(X)
    np.testing.assert_allclose(got.mean, X.mean[:1] * X.mean[1:], rtol=1e-6)


def test_what_is_computed_twice_is_one_variable():
    got = jax.jit(cg.moments(lambda x: (x @ W) - (x @ W)))(X)
    np.testing.assert_array_equal(got.variance, jnp.zeros(2))
    doubled = jax.jit(cg.moments(lambda x: (x @ W) + (x @ W)))(X)
    np.testing.assert_allclose(doubled.variance, 4 * X.variance @ W**2, rtol=1e-6)


def test_nodes_are_variables_of_their_own():
    def net(x):
        one, other = (cg.node(cg.nodes.Spin(), x) for _ in range(2))
        return one - other

    got = jax.jit(cg.moments(net, nodes="random"))(jnp.zeros(2))
    np.testing.assert_allclose(got.variance, 2 * jnp.ones(2), rtol=1e-6)
