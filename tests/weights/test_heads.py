"""Likelihoods where the network is far from the optimum: gradients point towards it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from cgjax import Belief, weights

pytestmark = pytest.mark.numerics

# Log-variances far below the smallest noise, near it, at the optimum for a residual of 1, above.
LOGS = np.array([-90.0, -60.0, -41.0, -39.0, -14.0, -13.0, -2.0, 2.0, 39.0, 41.0, 89.0, 1e4])


def losses(s, variance, residual=1.0):
    """Both losses of a heteroscedastic head, and their derivatives by s."""
    head = weights.HeteroscedasticHead()

    def of_one(method, s):
        output = Belief(jnp.stack([jnp.float32(residual), s]), jnp.array([0.0, variance]))
        return method(output, jnp.float32(0))

    both = head.expected_nll, head.marginal_nll
    return [jax.vmap(jax.value_and_grad(lambda s, m=m: of_one(m, s)))(s) for m in both]


@pytest.mark.parametrize("variance", [0.0, 0.5, 9.0])
def test_never_away_from_the_optimum_and_no_dead_zone(variance):
    s = jnp.asarray(LOGS, jnp.float32)
    # Where the exact derivative changes its sign: r(k) = 1, with k = s -+ variance / 2.
    for sign, (loss, slope) in zip((-1, 1), losses(s, variance), strict=True):
        wanted = np.sign(LOGS + sign * variance / 2)
        np.testing.assert_array_equal(np.sign(slope), wanted)
        assert np.isfinite(loss).all() and loss[:8].max() < 1e6


def test_the_same_noise_in_training_and_prediction():
    for residual in (0.0, 1e-4, 1.0):
        s = jnp.asarray(LOGS[:9], jnp.float32)
        output = Belief(jnp.stack([jnp.full(9, residual), s], -1), jnp.zeros((9, 2)))
        predicted = weights.HeteroscedasticHead().predict(output)
        deviation = np.sqrt(np.asarray(predicted.variance, np.float64))
        wanted = -scipy.stats.norm.logpdf(residual, 0, deviation)
        for loss, _ in losses(s, 0.0, residual):
            np.testing.assert_allclose(loss, wanted, rtol=1e-5, atol=1e-5)
    smallest = weights.HeteroscedasticHead(smallest_noise=0.25)
    output = Belief(jnp.array([1.0, -50.0]), jnp.zeros(2))
    assert smallest.predict(output).variance == 0.25
    for loss in (smallest.expected_nll, smallest.marginal_nll):
        wanted = -scipy.stats.norm.logpdf(1, 0, 0.5)
        np.testing.assert_allclose(loss(output, jnp.float32(0)), wanted, rtol=1e-6)
    for wrong in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="smallest_noise is .* at least 0 and finite"):
            weights.HeteroscedasticHead(wrong)


def test_the_expected_loss_is_an_upper_bound_that_is_close():
    head = weights.HeteroscedasticHead(smallest_noise=0.1)
    mean, variance = jnp.array([0.3, -1.5]), jnp.array([0.2, 1.2])
    points, weight = np.polynomial.hermite_e.hermegauss(60)
    r = np.exp(-1.5 + 1.2**0.5 * points) + 0.1
    exact = weight / weight.sum() @ ((0.3**2 + 0.2) / r + np.log(2 * np.pi * r)) / 2
    got = head.expected_nll(Belief(mean, variance), jnp.float32(0))
    assert exact < got < exact + 0.3


def test_the_information_is_that_of_the_noise():
    head = weights.HeteroscedasticHead(smallest_noise=0.1)
    f = jnp.array([[0.5, -1.0], [2.0, -60.0], [0.0, 3.0]])

    def log_likelihood(f, y):
        output = Belief(f, jnp.zeros(2))
        return -head.expected_nll(output, y)

    def information(f):
        # E[-Hessian], with the moments of y in place of y: the log-likelihood is quadratic in it.
        noise = jnp.sqrt(jnp.exp(f[1]) + 0.1)
        hessians = [jax.hessian(log_likelihood)(f, f[0] + sign * noise) for sign in (-1, 1)]
        return -(hessians[0] + hessians[1]) / 2

    got = jax.vmap(jax.vmap(head.half_information, (None, 0)), (0, None))(f, jnp.eye(2))
    product = jnp.einsum("nij,nkj->nik", got, got)
    np.testing.assert_allclose(product, jax.vmap(information)(f), rtol=1e-4, atol=1e-4)


def test_a_label_whose_probability_vanishes_still_has_a_gradient():
    head = weights.CategoricalHead()

    def loss(mean, variance):
        return head.marginal_nll(Belief(mean, jnp.full(3, variance)), jnp.asarray(0))

    mean = jnp.array([0.0, 200.0, 3.0])
    value, slope = jax.value_and_grad(loss)(mean, 0.0)
    np.testing.assert_allclose(value, 200, rtol=1e-6)
    np.testing.assert_allclose(slope, [-1, 1, 0], atol=1e-6)
    assert np.isfinite(loss(mean, 1.0))
