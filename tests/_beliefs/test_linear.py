"""Linear maps have exact moments: their matrix says them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

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


REAL, IMAGINARY, ANGLE = (
    Belief(jax.random.normal(jax.random.key(k), (3, 4)), jnp.full((3, 4), 0.1 * k))
    for k in (4, 5, 6)
)


def parts(z):
    return jnp.stack([jnp.real(z), jnp.imag(z)])


def test_an_exponential_of_complex_values():
    """E[exp(z)] and E[exp(z)^2], E[|exp(z)|^2] are those of Gaussian numbers in the exponent."""
    m, a, b = REAL.mean + 1j * ANGLE.mean, REAL.variance, ANGLE.variance
    mean, square = jnp.exp(m + (a - b) / 2), jnp.exp(2 * m + 2 * (a - b))
    size, pseudo = jnp.exp(2 * m.real + 2 * a) - jnp.abs(mean) ** 2, square - mean**2
    variance = jnp.stack([size + pseudo.real, size - pseudo.real]) / 2
    got = jax.jit(cg.moments(lambda x, y: parts(jnp.exp(x + 1j * y))))(REAL, ANGLE)
    np.testing.assert_allclose(got.mean, parts(mean), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.variance, variance, rtol=1e-3)

    # A function of one variable is the same, by quadrature.
    mean = jnp.exp(1j * ANGLE.mean - b / 2)
    size, pseudo = 1 - jnp.abs(mean) ** 2, jnp.exp(2j * ANGLE.mean - 2 * b) - mean**2
    variance = jnp.stack([size + pseudo.real, size - pseudo.real]) / 2
    got = jax.jit(cg.moments(lambda x: parts(jnp.exp(1j * x).T.T)))(ANGLE)
    np.testing.assert_allclose(got.mean, parts(mean), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got.variance, variance, rtol=1e-3)


@pytest.mark.parametrize("large", [False, True])
def test_products_of_complex_arrays(large, monkeypatch):
    """As their real and imaginary parts in real arithmetic."""
    if large:
        monkeypatch.setattr("cgjax._beliefs.complex_values.LARGEST_MAP", 1)

    def known(a, b):
        return (X.mean[:, :3] + 1j * X.mean[:, 3:]) @ (a + 1j * b)

    def real(a, b, c):
        product = jnp.stack([a @ c.T, b @ c.T])
        return product, product, jnp.stack([a * c, b * c])

    def both(a, b, c):
        z = a + 1j * b
        mixed = lax.dot_general(z, c, (((1,), (1,)), ((), ())))
        return parts(mixed), parts(z @ (c + 0j).T), parts(z * jnp.conj(c + 0j))

    got = jax.jit(cg.moments(known))(REAL, IMAGINARY)
    x = jnp.abs(X.mean[:, :3] + 1j * X.mean[:, 3:]) ** 2
    np.testing.assert_allclose(got.variance, x @ (REAL.variance + IMAGINARY.variance), rtol=1e-4)
    ours, theirs = (jax.jit(cg.moments(f))(REAL, IMAGINARY, ANGLE) for f in (both, real))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one.variance, other.variance, rtol=1e-4)


def test_a_product_of_complex_values_is_one_variable_wherever_it_goes():
    def twice(a, b, c):
        w = (a + 1j * b) * c
        return jnp.real(w + jnp.conj(w)), jnp.imag(w + jnp.conj(w)), 2 * jnp.real(w)

    real, nothing, expected = jax.jit(cg.moments(twice))(REAL, IMAGINARY, ANGLE)
    np.testing.assert_allclose(real.variance, expected.variance, rtol=1e-4)
    assert np.abs(nothing.variance).max() < 1e-6


def test_to_first_order_complex_functions_are_linear():
    def last(a, b):
        return jnp.real(jnp.exp(1j * a) * jnp.exp(b))

    got = jax.jit(cg.moments(last, order=1))(REAL, IMAGINARY)
    slopes = jax.grad(lambda a, b: last(a, b).sum(), (0, 1))(REAL.mean, IMAGINARY.mean)
    expected = slopes[0] ** 2 * REAL.variance + slopes[1] ** 2 * IMAGINARY.variance
    np.testing.assert_allclose(got.mean, last(REAL.mean, IMAGINARY.mean), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.variance, expected, rtol=1e-4)


def test_the_cost_of_a_large_map_is_said():
    x = Belief(jnp.zeros(5000), jnp.ones(5000))
    procedure = cg.moments(lambda x: jnp.fft.rfft(x).real)
    with pytest.warns(UserWarning, match="5,000 uncertain numbers takes as many evaluations"):
        jax.eval_shape(procedure, x)
