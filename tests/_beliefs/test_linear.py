"""Linear maps have exact moments: their matrix says them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax import Belief

X = Belief(
    jax.random.normal(jax.random.key(0), (2, 6)),
    jax.random.uniform(jax.random.key(1), (2, 6)),
)
SQUARE = jnp.tril(jax.random.normal(jax.random.key(2), (6, 6))) + 3 * jnp.eye(6)
COMPLEX = jax.random.normal(jax.random.key(3), (4, 6, 2)) @ jnp.array([1, 1j])


def maps(x):
    z = x.astype(jnp.complex64) @ COMPLEX.T
    return {
        "fft": jnp.real(jnp.fft.fft(x)),
        "circular convolution": jnp.fft.irfft(jnp.fft.rfft(x) * jnp.array([[1.0, 2, 0, 1]]), 6),
        "complex product": jnp.imag(z),
        "conjugate": jnp.real(jnp.conj(z) * 1j),
        "triangular solve": jax.scipy.linalg.solve_triangular(SQUARE, x.T, lower=True),
        "solve": jnp.linalg.solve(SQUARE, x.T),
    }


def test_variances_are_those_of_the_matrix():
    got = jax.jit(cg.moments(maps))(X)
    matrices = jax.jit(jax.jacobian(maps))(X.mean)
    for name, matrix in matrices.items():
        expected = (matrix**2 * X.variance[(None,) * (matrix.ndim - 2)]).sum((-2, -1))
        np.testing.assert_allclose(got[name].variance, expected, rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(got[name].mean, maps(X.mean)[name], atol=1e-4, err_msg=name)


def test_square_of_the_absolute_value():
    """|z|^2 as a product with the conjugate, with the variance of a quadratic form."""

    def power(x):
        z = jnp.fft.rfft(x)
        return jnp.real(z * jnp.conj(z))

    got = jax.jit(cg.moments(power))(X)
    slopes = jax.jacobian(power)(X.mean)
    bends = jax.hessian(power)(X.mean)
    v = X.variance
    mean = power(X.mean) + jnp.einsum("abijij,ij->ab", bends, v) / 2
    variance = (slopes**2 * v[None, None]).sum((-2, -1))
    variance = variance + jnp.einsum("abijkl,ij,kl->ab", bends**2, v, v) / 2
    np.testing.assert_allclose(got.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(got.variance, variance, rtol=1e-4)


def test_a_complex_state_is_carried_with_both_its_parts():
    turn = 0.9 * jnp.exp(1j * jnp.arange(6.0))

    def last(x):
        def step(state, row):
            return turn * state + row, None

        return jnp.real(jax.lax.scan(step, jnp.zeros(6, jnp.complex64), x)[0])

    got = cg.moments(last)(X)
    expected = jnp.real(turn) ** 2 * X.variance[0] + X.variance[1]
    np.testing.assert_allclose(got.variance, expected, rtol=1e-4)


def test_the_cost_of_a_large_map_is_said():
    x = Belief(jnp.zeros(5000), jnp.ones(5000))
    procedure = cg.moments(lambda x: jnp.fft.rfft(x).real)
    with pytest.warns(UserWarning, match="5,000 uncertain numbers takes as many evaluations"):
        jax.eval_shape(procedure, x)
