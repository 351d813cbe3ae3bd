"""Monte Carlo of complex results: the error of an average is a real number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg

KEY = jax.random.key(0)


@pytest.mark.parametrize("batch_size", [1000, 64])  # 64: 15 batches and a rest
def test_the_error_of_complex_samples_is_that_of_their_absolute_values(batch_size):
    def net(e):
        return jnp.array([1, 1j, 3 - 4j]) * cg.node(cg.nodes.Bernoulli(), e)

    sampler = cg.forward_sample(net)
    mean, error = cg.monte_carlo(sampler, 1000, batch_size=batch_size)(KEY, jnp.zeros(3))
    assert mean.dtype == jnp.complex64 and error.dtype == jnp.float32
    # A Bernoulli variable at 0 has the deviation 1/2; that of 1,000 is known to about 1e-3 of it.
    np.testing.assert_allclose(error, np.array([1, 1, 5]) * 0.5 / np.sqrt(1000), rtol=0.01)
    assert (np.abs(mean - jnp.array([0.5, 0.5j, 1.5 - 2j])) < 5 * error).all()
