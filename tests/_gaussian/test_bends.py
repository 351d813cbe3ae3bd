"""Moments of functions with a bend: of many elements, which are integrated in blocks."""

import jax
import jax.numpy as jnp
import numpy as np

from cgjax import nodes

FAMILIES = nodes.Spin(), nodes.GELU(), nodes.SiLU(1.3)
# Of three blocks: all Gaussians narrow, some wide, some far out.
BLOCKS = (([-2.0, -0.3, 0.0, 1.1], [0.01, 0.4, 2.0, 0.02]), ([-4.0, 3.0], [400.0, 1.0]))
FAR = [-1e5, 0.5, 1e30, 0.2], [1.0, 0.5, 3.0, 0.1]


def test_many_elements_have_the_moments_and_derivatives_of_few():
    size = 8192  # of a block
    columns = (*BLOCKS, FAR)
    few = [jnp.array(sum((list(c[k]) for c in columns), [])) for k in (0, 1)]
    many = [
        jnp.concatenate([jnp.resize(jnp.array(c[k]), (size,)) for c in columns]) for k in (0, 1)
    ]
    at = np.concatenate([np.arange(len(c[0])) + size * k for k, c in enumerate(columns)])

    @jax.jit
    def all_of(mean, variance):
        def moments(mean, variance):
            return [tuple(b) for f in FAMILIES for b in f.moments(mean, variance)]

        values, pull = jax.vjp(moments, mean, variance)
        return values, pull([(jnp.ones_like(mean), jnp.full_like(mean, 0.5))] * len(values))

    expected, found = (jax.tree.leaves(all_of(*arrays)) for arrays in (few, many))
    for value, other in zip(expected, found, strict=True):
        # The accuracy of either quadrature, and digits that plain differences lose.
        np.testing.assert_allclose(np.asarray(other)[at], value, rtol=1e-4, atol=1e-4)


def test_slopes_where_the_bend_is_at_the_mean():
    """f(x) - f(-x) = x, so that E[f'] is a half at a mean of 0, whatever the variance."""
    variance = jnp.array([0.0, 0.5, 9.0])

    def mean(mean):
        return nodes.GELU().moments(mean, variance)[0].mean

    slope = jax.jit(lambda e: jax.jvp(mean, (e,), (jnp.ones(3),))[1])(jnp.zeros(3))
    np.testing.assert_allclose(slope, 0.5, rtol=2e-4)
