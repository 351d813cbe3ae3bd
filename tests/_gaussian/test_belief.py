"""A belief's variance is one: an error where it is known, NaN where it is traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax._gaussian.belief import Belief, Normal, checked


@pytest.mark.parametrize("wrong", [-1.0, np.inf, np.nan, -1e-30])
def test_a_known_variance_that_is_none_raises(wrong):
    variance = jnp.array([0.0, wrong, 1.0])
    with pytest.raises(ValueError, match=r"at least 0 and finite, got .*such values: 1 of 3"):
        checked(Belief(jnp.zeros(3), variance))
    with pytest.raises(ValueError, match="at least 0 and finite"):
        checked(Belief(jnp.zeros(3), variance[1]))


def test_what_the_dtype_of_the_mean_cannot_hold_raises():
    with pytest.raises(ValueError, match="dtype float16"):
        checked(Belief(jnp.zeros(2, jnp.float16), jnp.full(2, 1e6)))


def test_a_traced_variance_that_is_none_is_nan():
    variance = jnp.array([-1.0, np.inf, np.nan, 0.0, 2.0])

    def checked_variance(variance):
        return checked(Belief(jnp.zeros(5), variance)).variance

    expected = [np.nan] * 3 + [0, 2]
    np.testing.assert_array_equal(jax.jit(checked_variance)(variance), expected)
    mapped = jax.vmap(lambda v: checked(Belief(jnp.zeros(()), v)).variance)(variance)
    np.testing.assert_array_equal(mapped, expected)
    slope = jax.grad(lambda v: checked_variance(v)[3:].sum())(variance)
    np.testing.assert_array_equal(slope[3:], 1)


def test_what_is_right_comes_back():
    mean = jnp.arange(3.0)
    belief = checked(Belief(mean, jnp.asarray(2)))
    np.testing.assert_array_equal(belief.variance, [2.0, 2.0, 2.0])
    assert belief.variance.dtype == mean.dtype
    normal = checked(Normal(mean, jnp.array([-1e9, 0.0, 1e9])))
    assert (normal.variance > 0).all() and np.isfinite(normal.variance).all()
    assert checked(Belief(mean[:0], mean[:0])).mean.shape == (0,)
    with pytest.raises(TypeError, match="must be floating point, got int32"):
        checked(Belief(jnp.arange(3), jnp.ones(3)))  # pyright: ignore
    with pytest.raises(ValueError, match=r"shape of its mean, \(3,\).*got shape \(2,\)"):
        checked(Belief(mean, jnp.ones(2)))


def test_a_known_belief_is_checked_while_a_caller_traces():
    known = cg.Belief(jnp.zeros(2), jnp.array([1.0, 2.0]))
    wrong = cg.Belief(jnp.zeros(2), jnp.array([1.0, -2.0]))
    procedure = cg.moments(lambda x: 2 * x)
    got = jax.jit(lambda: procedure(known))()
    assert (got.variance == 4 * known.variance).all()
    with pytest.raises(ValueError, match=r"at least 0 and finite, got -2.0"):
        jax.jit(lambda: procedure(wrong))()
