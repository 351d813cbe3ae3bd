"""What is handed to `moments` as a variance and is none."""

import jax
import jax.numpy as jnp
import pytest

import cgjax as cg


@pytest.mark.parametrize("variance", [-1.0, jnp.nan, jnp.inf])
def test_no_variance_is_an_error_where_known_and_nan_where_traced(variance):
    x, variances = jnp.array([1.0, 2.0]), jnp.array([0.5, variance])
    procedure = cg.moments(lambda x: 2 * x)
    with pytest.raises(ValueError, match=r"variance of a Belief must be at least 0 and finite"):
        procedure(cg.Belief(x, variances))
    got = jax.jit(lambda v: procedure(cg.Belief(x, v)))(variances)
    assert got.variance[0] == 2 and jnp.isnan(got.variance[1])
