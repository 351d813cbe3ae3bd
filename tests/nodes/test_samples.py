"""What a sample is where a parameter is NaN, or where a state has no probability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax import nodes
from cgjax.kernels.random_bits import open_uniform, uniform

DTYPES = ["float16", "bfloat16", "float32", "float64"]
LAST = 2**32 - 1


def sampled(family, words, e):
    words = jnp.asarray(np.asarray(words, np.uint32))
    return np.asarray(jax.jit(family.from_words)(words, e), np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_class_of_probability_zero(dtype):
    logits = np.array(
        [[-np.inf, 0, -np.inf], [-200, 0, -300], [-60000, 0, -60000], [-30, -30, 0]], np.float64
    )
    winners = [1, 1, 1, 2]
    words = np.full((4, 3), LAST)
    words[np.arange(4), winners] = 0
    with jax.enable_x64(dtype == "float64"):
        got = sampled(nodes.Categorical(), words, jnp.asarray(logits, dtype))
    np.testing.assert_array_equal(got, np.eye(3)[winners])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "family",
    [nodes.Bernoulli(), nodes.Spin(), nodes.Binary(0.0, 3.0), nodes.Binary(-2.0, 1.0)],
    ids=repr,
)
def test_no_state_of_probability_zero(family, dtype):
    low, high = np.asarray(family.states()).ravel()
    with jax.enable_x64(dtype == "float64"):
        e = jnp.asarray([-50.0, -200.0, -np.inf, 50.0, np.inf], dtype)
        for word in (0, 1, 255, LAST):
            got = sampled(family, [word] * 5, e)
            np.testing.assert_array_equal(got, [low, low, low, high, high])
        # Possible ones still happen.
        np.testing.assert_array_equal(sampled(family, [0, LAST], jnp.zeros(2, dtype)), [high, low])


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_mask_of_probability_zero(dtype):
    with jax.enable_x64(dtype == "float64"):
        keep = jnp.asarray([0.0, 1e-30, 1.0, 0.5], "float32").astype(dtype)
        for word, last in ((0, 1), (LAST, 0)):
            got = sampled(nodes.BernoulliMask(), [word] * 4, keep)
            np.testing.assert_array_equal(got, [0, 0, 1, last])


def test_a_row_of_many_that_drew_an_impossible_class():
    # Once in 2^24 a word is made the number 0.
    logits = jnp.broadcast_to(jnp.array([-jnp.inf, 0.0]), (2**22, 2))
    net = lambda e: cg.node(nodes.Categorical(), e)  # noqa: E731
    drawn = cg.forward_sample(net)(jax.random.key(2), logits)
    assert not bool(drawn[:, 0].any())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "family",
    [
        nodes.Bernoulli(),
        nodes.Spin(),
        nodes.Binary(-2.0, 1.0),
        nodes.ReLU(),
        nodes.LeakyReLU(),
        nodes.Gaussian(1.0),
    ],
    ids=repr,
)
def test_nan_stays_nan(family, dtype):
    with jax.enable_x64(dtype == "float64"):
        e = jnp.asarray([np.nan, 0.5, np.nan], dtype)
        got = sampled(family, [0, 7, LAST], e)
    np.testing.assert_array_equal(np.isnan(got), [True, False, True])


@pytest.mark.parametrize("axis", [-1, -2])
def test_a_slice_with_a_nan_logit_is_nan(axis):
    e = np.array([[np.nan, 0, 0], [1, 0, 2], [-np.inf] * 3, [np.inf, 0, 0]], np.float32)
    e = jnp.asarray(e if axis == -1 else e.T)
    got = sampled(nodes.Categorical(axis), np.full(e.shape, 5), e)
    got = got if axis == -1 else got.T
    # As their softmax is.
    np.testing.assert_array_equal(np.isnan(got), np.array([[1], [0], [1], [1]]) * np.ones(3))


@pytest.mark.parametrize(
    "family", [nodes.BernoulliMask(), nodes.GaussianMask(), nodes.SoftClamp(0.0, 1.0)], ids=repr
)
def test_masks_of_what_is_no_probability_are_nan_where_it_is_traced(family):
    e = jnp.array([np.nan, -1.0, 1.5, 0.5, 1.0])
    nan = [True] * 3 + [False] * 2
    np.testing.assert_array_equal(np.isnan(sampled(family, [9] * 5, e)), nan)

    @jax.jit
    def others(e):
        return family.variance(e), family.log_prob(jnp.ones(5), e), family.moments(e, 0 * e)[0]

    for values in jax.tree.leaves(others(e)[:2]):
        np.testing.assert_array_equal(np.isnan(values), nan)


def test_log_prob_of_nan_is_nan_and_of_the_impossible_minus_infinity():
    discrete = [nodes.Bernoulli(), nodes.Spin(), nodes.Binary(-2.0, 1.0)]
    for family in [*discrete, nodes.BernoulliMask(), nodes.SoftClamp(-1.0, 1.0)]:
        x, e = jnp.array([np.nan, 0.25]), jnp.full(2, 0.5)
        value, slope = jax.vmap(jax.value_and_grad(family.log_prob, 1))(x, e)
        np.testing.assert_array_equal(value, [np.nan, -np.inf])
        assert slope[1] == 0
    x = jnp.array([[1.0, 0, np.nan], [1, 1, 0]])
    value = nodes.Categorical().log_prob(x, jnp.zeros((2, 3)))
    np.testing.assert_array_equal(value[:, 0], [np.nan, -np.inf])


def test_log_joint_of_nan_is_nan():
    def net(x):
        spins = cg.node(nodes.Spin(), x, name="spins")
        return cg.node(nodes.Categorical(), spins, name="class")

    def log_joint(spins, one_hot):
        values = {"spins": jnp.asarray(spins, jnp.float32), "class": jnp.asarray(one_hot)}
        return float(cg.log_joint(net)(values, jnp.zeros(2)))

    assert np.isnan(log_joint([np.nan, 1], [1.0, 0.0]))
    assert np.isnan(log_joint([1, 1], [np.nan, 0.0]))
    # Also beside a value that is impossible, which alone is minus infinity.
    assert np.isnan(log_joint([np.nan, 0], [1.0, 0.0]))
    assert log_joint([0, 1], [1.0, 0.0]) == -np.inf


def test_the_gradient_of_log_joint_where_relu_nodes_are_zero():
    def log_joint(w):
        net = lambda x: cg.node(nodes.RectifiedGaussian(1.0), w * x, name="h")  # noqa: E731
        return cg.log_joint(net)({"h": jnp.zeros(3)}, jnp.ones(3))

    np.testing.assert_allclose(jax.grad(log_joint)(0.0), -3 * (2 / np.pi) ** 0.5, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_open_uniform_is_uniform_but_for_zero(dtype):
    words = jnp.asarray(np.array([0, 1, 2**8, 2**24, 2**31, LAST], np.uint32))
    with jax.enable_x64(dtype == "float64"):
        plain, opened = uniform(words, dtype), open_uniform(words, dtype)
        assert opened.dtype == plain.dtype
        plain, opened = np.asarray(plain, np.float64), np.asarray(opened, np.float64)
        bits = min(32, jnp.finfo(dtype).nmant + 1)
    np.testing.assert_array_equal(opened, np.where(plain == 0, 2.0 ** -(bits + 1), plain))


def test_families_say_which_marks_they_may_carry():
    assert nodes.BernoulliMask().kinds == nodes.GaussianMask().kinds == {"noise"}
    assert nodes.SoftClamp(0.0, 1.0).kinds == {"observe"}
    assert "noise" not in nodes.Spin().kinds | nodes.Categorical().kinds | nodes.ReLU().kinds
    assert nodes.Gaussian(1.0).kinds == {"node", "noise"}
