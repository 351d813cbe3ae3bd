"""The benchmark's reference and figures, where the answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from benchmarks import moments_accuracy as benchmark

pytestmark = pytest.mark.numerics


@pytest.fixture(autouse=True)
def promotion():
    """A network adds its biases as such programs do."""
    with jax.numpy_rank_promotion("allow"):
        yield


def averaged(activation, params, x):
    """One layer at each position, and the average over positions."""
    kernel, bias = params[0]
    return (x @ kernel).mean((1, 2)) + bias


@pytest.mark.parametrize(
    "architecture",
    [
        benchmark.dense(5, 4)._replace(uncertain_inputs=True),
        benchmark.Architecture(averaged, [(3, 4)], (8, 8, 3), convolutional=True),
    ],
    ids=["dense", "positions"],
)
def test_the_reference_samples_the_beliefs_and_the_figures_compare_it_with_them(architecture):
    """On linear networks of one layer, whose moments are exact."""
    name, draws = "linear", 4000
    cell = benchmark.accuracy(name, architecture, ["ReLU"], range(1), draws)[1]
    assert cell["network"] == name and cell["share"] == 0.1
    # Eight outputs whose means have a standard error of 4000^-0.5 deviations each: the root mean
    # square is below 2.2 of them but for 1 in 10^5, if independent (chi-squared).
    assert cell["mean_error"][0] < 2.2 * draws**-0.5
    assert 0 < cell["reference_error"][0] < 0.05
    assert abs(cell["variance_ratio"][0] - 1) < 5 * cell["reference_error"][0]
    if architecture.convolutional:
        assert cell["diagonal_ratio"][0] < 0.5


def test_figures_of_given_moments():
    reference = benchmark.Sampled(np.array([[1.0, 2.0]]), np.array([[4.0, 1.0]]), 0.0)
    belief = cg.Belief(jnp.array([[1.6, 2.0]]), jnp.array([[4.0, 2.0]]))
    found = benchmark.errors(belief, reference)
    assert found["mean_error"] == pytest.approx(0.3 / 2**0.5, rel=1e-6)  # float32
    assert found["variance_ratio"] == pytest.approx(6 / 5, rel=1e-6)
    assert found["output_error"] == pytest.approx(1 / 2**0.5, rel=1e-6)


def test_moments_from_an_average():
    draws = np.asarray(jax.random.normal(jax.random.key(0), (600, 3, 2, 4)), np.float64) + 3
    centres = np.full((3, 2, 4), 2.5)
    off = draws - centres
    samples = off, (off**2).sum((2, 3))
    estimate = tuple(zip(*((s.mean(0), s.std(0, ddof=1) / 600**0.5) for s in samples), strict=True))
    got = benchmark.summarised(estimate, centres, 600)[1]
    # In float64.
    np.testing.assert_allclose(got.mean, draws[:, 1].mean(0), rtol=1e-12)
    np.testing.assert_allclose(got.variance, draws[:, 1].var(0, ddof=1), rtol=1e-12)
    # Of a chi-squared variable with 8 degrees of freedom, about 0.5 from the mean; a standard
    # deviation of 600 values has a relative error of 0.05 or so.
    assert got.relative_error == pytest.approx((2 / 8 + 4 * 0.25 / 8) ** 0.5 / 600**0.5, rel=0.25)


def test_uncertainty_is_a_share_of_the_mean_square():
    params, x = benchmark.random_network(benchmark.dense(3, 2), seed=1)
    assert x.shape == (benchmark.INPUTS, 3)
    for activation, gain in (("tanh", 1), ("ReLU", 2)):
        beliefs = benchmark.uncertain(params, benchmark.gain(activation), 0.1)
        for belief, plain in zip(beliefs[0], params[0], strict=True):
            square = gain * np.mean(np.square(plain))
            np.testing.assert_allclose(belief.variance, np.full(plain.shape, 0.1 * square), 1e-6)
            np.testing.assert_allclose(np.mean(np.square(belief.mean)), square, 1e-6)
