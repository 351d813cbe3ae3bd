"""Values and gradients of every family stay finite where parameters are extreme (float32)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgjax import nodes
from cgjax.kernels.random_bits import random_words
from tests.nodes.table import believed, compiled_believed, compiled_given, given

pytestmark = pytest.mark.numerics

LARGE = 1e4
POSITIVE = (0.0, 1e-30, 1e-8, 1e-3, 1.0, 1e3, 1e8)  # scales and variances
E = (-LARGE, -100.0, -20.0, -1.0, -1e-4, -1e-30, 0.0, 1e-30, 1e-4, 1.0, 20.0, 100.0, LARGE)
PROBABILITIES = (0.0, 1e-30, 1e-6, 0.5, 1 - 2**-24, 1.0)
LEAKS = (0.0, 1e-3, 1.0)


def _product(*values):
    return [
        np.array(column, np.float32) for column in zip(*itertools.product(*values), strict=True)
    ]


def _cases():
    """Name, family, natural parameters and variances; all combinations along one axis."""
    e, variance = _product(E, POSITIVE)
    for family in (
        nodes.Binary(-1.0, 3.0),
        nodes.Binary(100.0, 101.0),
        nodes.Bernoulli(),
        nodes.Spin(),
        nodes.ContinuousBernoulli(),
        nodes.ReLU(),
        nodes.Softplus(),
        nodes.NairHinton(),
        nodes.GELU(),
        nodes.GELU(approximate=False),
        nodes.SiLU(),
        nodes.Mish(),
        nodes.HardSiLU(),
        nodes.ELU(),
        nodes.SELU(),
        nodes.HardTanh(),
        nodes.ReLU6(),
        nodes.SoftSign(),
        nodes.Arctan(),
        nodes.Sine(),
        nodes.SparsePlus(),
    ):
        yield family, e, variance
    e, variance, leak = _product(E, POSITIVE, LEAKS)
    yield nodes.LeakyReLU(leak), e, variance
    yield nodes.RectifiedGaussian(jax.nn.relu, leak), e, variance
    e, variance, scale, leak = _product(E, POSITIVE, POSITIVE, LEAKS)
    yield nodes.RectifiedGaussian(scale, leak), e, variance
    e, variance, scale = _product(E, POSITIVE, POSITIVE)
    yield nodes.Gaussian(scale), e, variance
    e, variance = _product(PROBABILITIES, (0.0, 0.1))
    yield nodes.BernoulliMask(), e, variance
    yield nodes.GaussianMask(), e, variance
    yield nodes.SoftClamp(-1.0, 2.0), 3 * e - 1, variance
    e, variance, degrees = _product(POSITIVE[1:], POSITIVE, (2.1, 31.0, 1e6))
    yield nodes.InverseChi(degrees), e, variance
    logits = _product(*[(-LARGE, -1.0, 0.0, LARGE)] * 3, (0.0, 1e-8, 1.0, 1e8), (0.0, 1e8))
    e, first, others = np.stack(logits[:3], -1), logits[3], logits[4]
    yield nodes.Categorical(), e, np.stack([first, others, others], -1)


CASES = tuple(_cases())


def _name(case):
    return repr(case[0]).partition("(")[0]


def _weights(value):
    return jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)


@jax.jit
def values_and_gradients(family, words, e, variance):
    sample = family.from_words(words, e)
    values, pullback = jax.vjp(
        lambda f, e, v: given(f, words, sample, e) | believed(f, e, v), family, e, variance
    )
    # One row for each value. Unequal weights: those of a softmax sum to a constant.
    cotangents = {
        name: jnp.stack([(name == row) * _weights(value) for row in values])
        for name, value in values.items()
    }
    return values, jax.vmap(pullback)(cotangents)


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_values_and_gradients_are_finite(case):
    family, e, variance = case
    words = random_words(jax.random.key(0), e.shape)[1]
    values, gradients = values_and_gradients(family, words, e, variance)
    for row, (name, value) in enumerate(values.items()):
        # A sample is always possible, so its log-probability is finite too.
        assert np.all(np.isfinite(value)), name
        assert all(np.all(np.isfinite(leaf[row])) for leaf in jax.tree.leaves(gradients)), name
        if name.endswith("variance"):
            assert np.all(value >= 0), name


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_log_prob_of_any_value_is_finite_or_minus_infinity(case):
    family, e, _ = case
    xs = (0.0, 1e-30, -1e-30, 1.0, -1.0, 0.5, 3.0, LARGE, -LARGE, 1e8, -1e8)

    @jax.jit
    def log_prob_and_gradient(family, x, e):
        value, pullback = jax.vjp(family.log_prob, x, e)
        return value, pullback(jnp.ones_like(value))

    if any(field == "leak" for field in vars(family)):
        xs = xs[:-2]  # divided by a leak of 1e-3 these are further away than 1e8
    for x in xs:
        value, gradient = log_prob_and_gradient(family, jnp.full_like(e, x), e)
        assert not np.any(np.isnan(value)) and not np.any(value == np.inf)
        impossible = np.broadcast_to(value == -np.inf, e.shape)
        for leaf in gradient:
            assert np.all(np.isfinite(leaf))
            assert np.all(np.asarray(leaf)[impossible] == 0)
        if isinstance(family, nodes.Gaussian | nodes.GaussianMask):
            assert not np.any(impossible)


@pytest.mark.parametrize(
    ("family", "impossible"),
    [
        (nodes.Bernoulli(), 0.5),
        (nodes.Spin(), 0.0),
        (nodes.Binary(-1.0, 3.0), 1.0),
        (nodes.BernoulliMask(), 2.0),
        (nodes.SoftClamp(0.0, 1.0), -1.0),
        (nodes.ReLU(), -0.5),
        (nodes.Softplus(), -0.5),
        (nodes.GELU(), 0.3),
        (nodes.ELU(), 0.3),
        (nodes.SparsePlus(), 1.6),
        (nodes.ReLU6(), 3.0),
    ],
    ids=repr,
)
def test_impossible_values(family, impossible):
    e = jnp.array([0.25, 0.5])
    log_prob = jax.jit(jax.vmap(jax.value_and_grad(family.log_prob, 1)))
    value, gradient = log_prob(jnp.full(2, impossible), e)
    np.testing.assert_array_equal(value, [-np.inf, -np.inf])
    np.testing.assert_array_equal(gradient, [0, 0])


@jax.jit
def log_prob_and_sum_of_gradients(family, x, e):
    value, pullback = jax.vjp(lambda e: family.log_prob(x, e), e)
    return value, pullback(jnp.ones_like(value))[0]


@pytest.mark.parametrize(
    "x", [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, 0.5, 0.0], [2.0, -1.0, 0.0], [1.0, 0.0, 1e-3]]
)
def test_impossible_one_hot_vectors(x):
    value, pulled = log_prob_and_sum_of_gradients(
        nodes.Categorical(), np.asarray(x, np.float32), np.asarray([0.1, 0.2, 0.3], np.float32)
    )
    np.testing.assert_array_equal(value, [-np.inf])
    np.testing.assert_array_equal(pulled, np.zeros(3))


def test_classes_that_are_masked_out():
    family = nodes.Categorical()
    e = np.asarray(
        [[0.5, -np.inf, -1.0], [-np.inf, -np.inf, 2.0], [0.5, -np.inf, -1.0]], np.float32
    )
    x = np.asarray([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]], np.float32)
    variance = np.asarray([[1.0, 2.0, 3.0]] * 3, np.float32)
    kept = np.array([0, 2])
    value, pulled = log_prob_and_sum_of_gradients(family, x, e)
    np.testing.assert_array_equal(value[1:, 0], [0, -np.inf])
    np.testing.assert_array_equal(pulled[1:], np.zeros((2, 3)))
    alone, _ = log_prob_and_sum_of_gradients(family, x[0, kept], e[0, kept])
    np.testing.assert_allclose(value[0], alone, rtol=1e-6)
    got = compiled_believed(family, e, variance)
    without = compiled_believed(family, e[0, kept], variance[0, kept])
    for name in got:
        # The same up to rounding, with or without the class.
        np.testing.assert_allclose(got[name][0, kept], without[name], rtol=1e-5, err_msg=name)
        np.testing.assert_array_equal(got[name][0, 1], 0, err_msg=name)
        np.testing.assert_array_equal(got[name][1], [0, 0, "mean" in name], err_msg=name)


@pytest.mark.parametrize("family", [nodes.BernoulliMask(), nodes.SoftClamp(0.0, 1.0)], ids=repr)
def test_states_of_probability_zero(family):
    x, e = (
        np.asarray([0.0, 1.0, 1.0, 0.0], np.float32),
        np.asarray([1.0, 0.0, 1.0, 0.0], np.float32),
    )
    value, pulled = log_prob_and_sum_of_gradients(family, x, e)
    np.testing.assert_array_equal(value, [-np.inf, -np.inf, 0, 0])
    np.testing.assert_array_equal(pulled, [0, 0, 1, -1])


@pytest.mark.parametrize("family", [nodes.ReLU(), nodes.Gaussian(1.0)], ids=repr)
def test_nan_is_not_hidden(family):
    e, one = np.asarray([np.nan], np.float32), np.ones(1, np.float32)
    results = compiled_given(family, np.asarray([1], np.uint32), one, e) | compiled_believed(
        family, e, one
    )
    for name in ("activation", "mean", "sample", "log_prob", "statistic_mean", "activation_mean"):
        assert np.isnan(results[name][0]), name
    other = compiled_given(family, np.asarray([1], np.uint32), e, one)
    assert np.isnan(other["log_prob"][0])
