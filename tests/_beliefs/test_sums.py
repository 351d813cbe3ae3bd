"""Functions of sums get the same treatment however they are written, and in whichever layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax import Belief

X = Belief(jax.random.normal(jax.random.key(0), (3, 8)), jnp.full((3, 8), 0.04))


def centered(x):
    return {
        "keepdims": x - x.mean(1, keepdims=True),
        "dropped": x - x.mean(1)[:, None],
        "sum": x - (x.sum(1) / 8)[:, None],
        "dot": x - (x @ jnp.ones(8))[:, None] / 8,
        "einsum": x - jnp.einsum("ij->i", x)[:, None] / 8,
        "transposed": (x.T - x.T.mean(0)[None]).T,
        "repeated": x - jnp.repeat(x.mean(1), 8).reshape(3, 8),
        "tiled": x - jnp.tile(x.mean(1)[:, None], (1, 8)),
        "one by one": jax.vmap(lambda row: row - row.mean())(x),
        "mapped": jax.vmap(lambda c: c - lax.psum(c, "i") / 8, 1, 1, axis_name="i")(x),
    }


def softmaxes(x):
    total = jnp.exp(x).sum(1)
    return {
        "softmax": jax.nn.softmax(x),
        "by hand": jnp.exp(x) / jnp.exp(x).sum(1, keepdims=True),
        "dropped": jnp.exp(x) / total[:, None],
        "inverse": jnp.exp(x) * (1 / total)[:, None],
        "of a logarithm": jnp.exp(jax.nn.log_softmax(x)),
        "minus a logarithm": jnp.exp(x - jax.nn.logsumexp(x, 1)[:, None]),
        "shifted": jnp.exp(x - 1) / jnp.exp(x - 1).sum(1, keepdims=True),
        "transposed": jax.nn.softmax(x.T, 0).T,
        "one by one": jax.vmap(lambda row: jnp.exp(row) / jnp.exp(row).sum())(x),
    }


def masked_softmaxes(x):
    """Softmax of six of eight scores."""
    mask = jnp.arange(8) < 6
    low = jnp.where(mask, x, -jnp.inf)
    e = jnp.exp(x - jnp.max(x, 1, where=mask, initial=-jnp.inf, keepdims=True))
    return {
        "-inf": jax.nn.softmax(low),
        "-1e9": jax.nn.softmax(jnp.where(mask, x, -1e9)),
        "the lowest": jax.nn.softmax(jnp.where(mask, x, jnp.finfo(x.dtype).min)),
        "where": jax.nn.softmax(x, where=mask),
        "by hand": jnp.exp(low) / jnp.exp(low).sum(1, keepdims=True),
        "of a logarithm": jnp.exp(low - jax.nn.logsumexp(low, 1, keepdims=True)),
        "masked afterwards": jnp.where(mask, e, 0) / jnp.where(mask, e, 0).sum(1, keepdims=True),
        "masked at last": jnp.where(mask, e / e.sum(1, where=mask, keepdims=True), 0),
        "a part": jnp.pad(jax.nn.softmax(x[:, :6]), ((0, 0), (0, 2))),
    }


def in_groups(x):
    parts = x.reshape(3, 4, 2)
    mean, scale = parts.mean(2), lax.rsqrt(parts.var(2) + 0.1)

    def normalised(spread):
        return (x - spread(mean)) * spread(scale)

    return {
        "in parts": ((parts - mean[..., None]) * scale[..., None]).reshape(3, 8),
        "repeat": normalised(lambda a: jnp.repeat(a, 2, axis=1)),
        "broadcast": normalised(lambda a: jnp.broadcast_to(a[..., None], (3, 4, 2)).reshape(3, 8)),
        "concatenate": normalised(
            lambda a: jnp.concatenate([a[..., None]] * 2, axis=2).reshape(3, 8)
        ),
        "gather": normalised(lambda a: jnp.take(a, jnp.arange(8) // 2, axis=1)),
    }


def assert_all_alike(forms, rtol=1e-5):
    """All forms have the moments of the first; returns these."""
    found = jax.jit(cg.moments(forms))(X)
    first = next(iter(found.values()))
    for name, one in found.items():
        np.testing.assert_allclose(one.mean, first.mean, rtol=rtol, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(one.variance, first.variance, rtol=rtol, err_msg=name)
    return first


def assert_sampled(forms, got, number=200_000):
    """The first form's means within five standard errors, and its total variance."""
    draws = X.mean[None] + 0.2 * jax.random.normal(jax.random.key(1), (number, *X.mean.shape))
    values = jax.jit(jax.vmap(lambda x: next(iter(forms(x).values()))))(draws)
    values = np.asarray(values, np.float64)
    error = 5 * values.std(0) / np.sqrt(number)
    # Second order in the sums: a bias of some hundredths of a deviation.
    assert (np.abs(got.mean - values.mean(0)) <= error + 0.1 * values.std(0)).all()
    np.testing.assert_allclose(got.variance.sum(), values.var(0).sum(), rtol=0.1)


def test_mean_subtraction_is_exact():
    got = assert_all_alike(centered)
    np.testing.assert_allclose(got.variance, 0.04 * 7 / 8, rtol=1e-5)


def test_softmax():
    assert_sampled(softmaxes, assert_all_alike(softmaxes))


@pytest.mark.parametrize("scores", [lambda x: x, lambda x: 2 * jnp.tanh(x / 2)])
def test_softmax_of_functions_of_some_scores(scores):
    """Whatever the scores are a function of, and whichever of them a mask leaves out."""
    got = assert_all_alike(lambda x: masked_softmaxes(scores(x)))
    np.testing.assert_allclose(got.mean.sum(1), 1, rtol=1e-6)
    assert_sampled(lambda x: masked_softmaxes(scores(x)), got, 20_000)


def test_what_a_sum_of_exponentials_leaves_out():
    """Beside the sum, exp(x_i) is independent of it; a mask may hold other numbers than 0."""
    x, mask = X.mean[:1, :4], jnp.arange(4) < 3

    def ratios(x):
        e = jnp.exp(jnp.tanh(x))
        return e / e.sum(1, where=mask, keepdims=True), e / jnp.where(mask, e, 1).sum(1)[:, None]

    found = cg.moments(ratios)(Belief(x, jnp.full_like(x, 0.04)))
    draws = x[None] + 0.2 * jax.random.normal(jax.random.key(1), (20_000, *x.shape))
    for got, values in zip(found, jax.vmap(ratios)(draws), strict=True):
        # As in `assert_sampled`, whose error is that of 20,000 draws here.
        np.testing.assert_allclose(got.mean, values.mean(0), atol=0.01)
        np.testing.assert_allclose(got.variance.sum(), values.var(0).sum(), rtol=0.1)


def test_statistics_keep_their_link_however_they_are_spread():
    assert_all_alike(in_groups, rtol=1e-4)


def test_both_ways_centered():
    got = cg.moments(lambda x: x - x.mean(0)[None] - x.mean(1, keepdims=True) + x.mean())(X)
    np.testing.assert_allclose(got.variance, 0.04 * (2 / 3) * (7 / 8), rtol=1e-5)


def normalised(x):
    mean = x.mean(-1)
    variance = jnp.maximum(0, (x * x).mean(-1) - mean * mean)
    return (x - mean[..., None]) * lax.rsqrt(variance + 1e-6)[..., None]


def cut(x):
    """A normalisation in which every other axis is cut afterwards, and the same of rows."""
    ones = jnp.eye(4)
    rows = jnp.stack([normalised(x)[:, k : k + 4] @ ones for k in (0, 4)], 1)
    return {"cut": normalised(x).reshape(3, 2, 4) @ ones, "sliced": rows}


def test_an_axis_is_cut_after_a_sum_along_it():
    found = jax.jit(cg.moments(cut))(X)
    for one in found.values():
        np.testing.assert_allclose(one.mean, found["sliced"].mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.variance, found["sliced"].variance, rtol=1e-5)


def test_a_normalisation_of_sums():
    """As that of the sums, which are independent variables with known moments."""

    def of_sums(x):
        return normalised(x.sum(1))

    x = Belief(jnp.stack([X.mean, X.mean**2], 1), jnp.stack([X.variance, 2 * X.variance], 1))
    got = jax.jit(cg.moments(of_sums))(x)
    expected = jax.jit(cg.moments(normalised))(Belief(x.mean.sum(1), x.variance.sum(1)))
    np.testing.assert_allclose(got.mean, expected.mean, rtol=0.02, atol=0.01)
    np.testing.assert_allclose(got.variance, expected.variance, rtol=0.05)


def test_far_from_zero():
    """Normalised values that lie close together far from 0 have the moments that they have at 0."""

    def normalised(x):
        return (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)

    far = cg.moments(lambda x: normalised(x + 0))(Belief(X.mean + 1e4, X.variance))
    near = cg.moments(normalised)(X)
    # float32 numbers around 1e4 are 1e-3 apart.
    np.testing.assert_allclose(far.variance.sum(), near.variance.sum(), rtol=5e-3)


def test_what_fills_places_outside_is_no_element():
    """Only the last of three places is outside, where 0 is not the first element's number."""

    def filled(x):
        return jnp.take(x, jnp.arange(7, 10) - 1, axis=1, mode="fill", fill_value=0)

    got = jax.jit(cg.moments(filled))(X)
    np.testing.assert_allclose(got.mean, filled(X.mean), rtol=1e-6)
    np.testing.assert_allclose(got.variance, filled(X.variance), rtol=1e-6)


def larger(x, y):
    """The larger of two variables and what is subtracted, in the forms that users write."""
    z = jnp.maximum(x, y)
    chosen = jnp.where(x > y, x, y)
    return {
        "maximum": (z.sum(), z - z.mean(), z * z.sum()),
        "chosen": (chosen.sum(), chosen - chosen.mean(), chosen * chosen.sum()),
        "by a rectifier": tuple(
            f(y + jax.nn.relu(x - y))
            for f in (jnp.sum, lambda v: v - v.mean(), lambda v: v * v.sum())
        ),
        "one by one": (
            jax.vmap(jnp.maximum)(x, y).sum(),
            z - z.sum() / z.size,
            jnp.stack([z[k] * z.sum() for k in range(4)]),
        ),
    }


def test_sums_of_the_larger_of_two_keep_their_link():
    x = Belief(jnp.array([0.3, -0.2, 0.5, 0.0]), jnp.array([0.5, 1.0, 0.2, 0.7]))
    y = Belief(jnp.array([0.1, 0.2, 0.6, 0.0]), jnp.array([0.3, 0.4, 0.2, 0.1]))
    found = jax.jit(cg.moments(larger))(x, y)
    for name, one in found.items():
        for a, b in zip(one[:2], found["maximum"][:2], strict=True):
            np.testing.assert_allclose(a.mean, b.mean, rtol=1e-4, atol=1e-5, err_msg=name)
            np.testing.assert_allclose(a.variance, b.variance, rtol=1e-4, err_msg=name)
    # Clark's moments of one larger value, by samples; the four are independent.
    a, b = (
        np.random.default_rng(k).normal(z.mean, np.sqrt(z.variance), (400_000, 4))
        for k, z in enumerate((x, y))
    )
    own = np.maximum(a, b)
    mean, variance = own.mean(0), own.var(0)
    total, centred, product = found["maximum"]
    np.testing.assert_allclose(total.mean, mean.sum(), atol=0.01)
    np.testing.assert_allclose(total.variance, variance.sum(), rtol=0.02)
    np.testing.assert_allclose(
        centred.variance, variance * (1 - 2 / 4) + variance.sum() / 16, rtol=0.02
    )
    # E[z_i sum_j z_j] = m_i sum_j m_j + v_i: without the link the variance is missing.
    np.testing.assert_allclose(product.mean, mean * mean.sum() + variance, atol=0.02)


@pytest.mark.parametrize("decides", [lambda x: x > 0, lambda x: jnp.tanh(x) > 0])
def test_a_choice_of_a_larger_value_that_shares_what_decides_is_said(decides):
    x, y = (Belief(jnp.zeros(3), jnp.ones(3)) for _ in range(2))
    with pytest.warns(UserWarning, match="a decision that depends on several variables"):
        cg.moments(lambda x, y: jnp.where(decides(x), jnp.maximum(x, y), y).sum())(x, y)


def test_a_choice_by_several_decisions_may_be_of_a_larger_value():
    x, y, z = (Belief(jnp.zeros(3), jnp.ones(3)) for _ in range(3))

    def net(x, y, z):
        return jnp.where((x > 0) & (y > 0), jnp.maximum(x, z), z)

    with pytest.warns(UserWarning, match="independent of what is chosen"):
        got = cg.moments(net)(x, y, z)
    assert np.isfinite(got.mean).all() and (got.variance > 0).all()


@pytest.mark.parametrize(
    "scores",
    [
        lambda x: x,
        lambda x: 50 * jnp.tanh(x / 50),
        lambda x: jax.nn.softmax(x) * 3,
        jax.nn.gelu,
        jax.nn.relu,
    ],
    ids=["plain", "capped", "softmax", "gelu", "relu"],
)
def test_masks_of_attention_may_be_infinite(scores):
    """-inf is what a very low number is, with its derivative: also in a row with one place left."""
    x = jax.random.normal(jax.random.key(3), (2, 3, 3))
    mask = jnp.tril(jnp.ones((3, 3), bool))[None]

    def total(filling, variance):
        def attention(x):
            masked = jnp.where(mask, scores(x), filling)
            masked = masked - masked.max(-1, keepdims=True)
            return jax.nn.softmax(masked) @ jnp.arange(3.0)

        known = jnp.full_like(x, variance).at[0, 1].set(0)  # a row of what is certain
        found = cg.moments(attention)(cg.Belief(x, known))
        return (found.mean + found.variance).sum(), found

    with_slopes = jax.jit(jax.value_and_grad(total, 1, has_aux=True))
    (_, infinite), slope = with_slopes(-jnp.inf, 0.05)
    (_, low), expected = with_slopes(-1e4, 0.05)
    np.testing.assert_allclose(infinite.mean, low.mean, rtol=1e-5)
    np.testing.assert_allclose(infinite.variance, low.variance, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(slope, expected, rtol=1e-4)
