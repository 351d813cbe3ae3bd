"""In groups of two or three, what an element adds to a sum is not small."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import cgjax as cg
from cgjax import Belief

X = Belief(
    jnp.array([[0.2, -0.4], [0.5, 0.1], [1.0, 0.7]]),
    jnp.array([[0.3, 0.1], [0.2, 0.4], [0.1, 0.2]]),
)


def forms(x):
    total, square = x.sum(1, keepdims=True), (x**2).mean(1, keepdims=True)
    centered = x - x.mean(1, keepdims=True)
    return {
        "normalised": centered * lax.rsqrt(x.var(1, keepdims=True) + 0.01),
        "times a function of the sum": x * jnp.tanh(total),
        "divided by the root mean square": x * lax.rsqrt(square + 0.1),
        "variance": x.var(1),
        "sum of those times a function of the sum": (x * jnp.tanh(total)).sum(1),
        "log softmax": jax.nn.log_softmax(x),
        "of three": x.T * jnp.tanh(x.T.sum(1, keepdims=True)),
    }


def test_sampled():
    draws = jax.random.normal(jax.random.key(0), (400_000, *X.mean.shape))

    def both(x, draws):
        def one(z):
            return forms(x.mean + jnp.sqrt(x.variance) * z)

        return cg.moments(forms)(x), jax.vmap(one)(draws)

    got, values = jax.jit(both)(X, draws)
    for name, belief in got.items():
        sampled = np.asarray(values[name], np.float64)
        # Five standard errors of 400,000 draws are .008 deviations, and about 1 % of a variance;
        # the points resolve a step of two elements to some hundredths.
        error = 0.05 * sampled.std(0)
        assert (np.abs(belief.mean - sampled.mean(0)) <= error).all(), name
        np.testing.assert_allclose(belief.variance, sampled.var(0), rtol=0.05, err_msg=name)


def test_known_elements_have_finite_derivatives():
    def variances(x):
        certain = x.variance.at[:, 0].set(0)
        return sum(b.variance.sum() for b in cg.moments(forms)(Belief(x.mean, certain)).values())

    slopes = jax.jit(jax.grad(variances))(X)
    assert jnp.isfinite(slopes.mean).all() and jnp.isfinite(slopes.variance).all()


def test_the_sum_of_one_element_is_that_element():
    belief = Belief(jnp.ones(1), jnp.full(1, 2.0))

    def differences(x):
        return x - x.sum(), x[0] - x, 2 * x - x.max() - x.mean(), x + x.sum()

    *nothing, double = jax.jit(cg.moments(differences))(belief)
    for out in nothing:
        np.testing.assert_allclose(out.variance, [0.0], atol=1e-6)
    np.testing.assert_allclose(double.variance, [8.0], rtol=1e-6)
