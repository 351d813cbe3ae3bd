"""Softmax of what a mask leaves, or weighs: however it is written, one treatment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax import Belief
from cgjax._program import ranges

X = Belief(jax.random.normal(jax.random.key(0), (2, 5)), jnp.full((2, 5), 0.2))
MASK = np.array([True, True, False, True, True])
FLOATS = MASK.astype(np.float32)
WEIGHTS = np.array([1.0, 0.5, 0.0, 2.0, 1.0], np.float32)


def divided(e):
    return e / e.sum(1, keepdims=True)


def masked(x):
    left_out = jnp.where(MASK, 0.0, -jnp.inf)
    e = jnp.exp(x - x.max(1, keepdims=True))
    return {
        "of scores": jax.nn.softmax(jnp.where(MASK, x, -jnp.inf)),
        "added": jax.nn.softmax(x + left_out[None]),
        "a large number added": jax.nn.softmax(x - 1e9 * (1 - FLOATS)[None]),
        "a factor": divided(jnp.exp(x) * FLOATS[None]),
        "a factor in front": divided(FLOATS[None] * e),
        "a decision as a factor": divided(e * (jnp.arange(5) != 2)[None]),
        "what is left of 1": divided(e * (1 - (jnp.arange(5) == 2).astype(x.dtype))[None]),
        "of a product": jnp.exp(x) * FLOATS[None] / (jnp.exp(x) @ FLOATS)[:, None],
        "twice": divided(jnp.where(jnp.arange(5) < 5, jnp.where(MASK, e, 0), 0)),
        "shares again": divided(jax.nn.softmax(x) * FLOATS[None]),
        "shares chosen": divided(jnp.where(MASK, jax.nn.softmax(x), 0)),
        "turned": divided((jax.nn.softmax(x).T * FLOATS[:, None]).T),
        "one by one": jax.vmap(lambda r: jnp.exp(r) * FLOATS / (jnp.exp(r) * FLOATS).sum())(x),
    }


def weighted(x):
    e, weights = jnp.exp(x), jnp.asarray(WEIGHTS)[None]
    return {
        "logarithms": jax.nn.softmax(x + jnp.log(weights)),
        "factors": divided(e * weights),
        "divisors": divided(jnp.where(MASK, e / jnp.where(MASK, weights, 1), 0) * weights**2),
        "shares again": divided(jax.nn.softmax(x) * weights),
        "a number too": divided(3 * e * weights),
    }


def logarithms(x):
    return {
        "of scores": jax.nn.logsumexp(x + jnp.log(WEIGHTS)[None], 1),
        "of factors": jnp.log((jnp.exp(x) * WEIGHTS[None]).sum(1)),
        "b": jax.nn.logsumexp(x, 1, b=WEIGHTS[None]),
    }


def with_more(x):
    """A further class of score 0, as of attention to nothing."""
    zero = jnp.zeros((2, 1), x.dtype)
    return {
        "a class": jax.nn.softmax(jnp.concatenate([x, zero], 1))[:, :5],
        "a number": jnp.exp(x) / (1 + jnp.exp(x).sum(1, keepdims=True)),
    }


def filled(x):
    """Numbers below 0, where nothing is known but first moments."""
    e = jnp.exp(x)
    return {
        "numbers below 0": divided(jnp.where(MASK, e, -0.1)),
        "in the sum alone": e / jnp.where(MASK, e, -0.1).sum(1, keepdims=True),
        "factors below 0": divided(e * (FLOATS - 0.01)[None]),
        "squared": divided(jnp.where(MASK, e, 0.5) ** 2),
    }


@pytest.fixture(scope="module")
def found():
    forms = (masked, weighted, logarithms, with_more, filled)
    return jax.jit(cg.moments(lambda x: [f(x) for f in forms]))(X)


@pytest.mark.parametrize("k", range(3))
def test_masks_and_weights_are_shifts_of_scores(found, k):
    first = next(iter(found[k].values()))
    for name, one in found[k].items():
        # Sums of other orders.
        np.testing.assert_allclose(one.mean, first.mean, rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(one.variance, first.variance, rtol=1e-4, err_msg=name)


def test_other_numbers_beside_exponentials(found):
    draws = X.mean[None] + 0.2**0.5 * jax.random.normal(jax.random.key(1), (20_000, *X.mean.shape))
    sampled = jax.jit(jax.vmap(lambda x: (with_more(x)["a number"], filled(x))))(draws)
    number, others = found[3]["a number"], found[4]
    # As in `test_sums`: 20,000 draws, and what is of second order in the sums.
    np.testing.assert_allclose(number.mean, sampled[0].mean(0), atol=0.005)
    np.testing.assert_allclose(number.variance.sum(), sampled[0].var(0).sum(), rtol=0.05)
    for name, values in sampled[1].items():
        assert np.isfinite(others[name].variance).all(), name
        np.testing.assert_allclose(others[name].mean, values.mean(0), atol=0.05, err_msg=name)


def test_what_is_closed_over_and_what_is_given():
    """A constant is looked at, called at once or compiled; an argument may be anything."""
    net = cg.moments(lambda x, m: divided(jnp.exp(x) * m[None]))

    def closed_over(m):
        return cg.moments(lambda x: divided(jnp.exp(x) * m[None]))

    at_once, compiled = closed_over(jnp.asarray(FLOATS))(X), jax.jit(closed_over(FLOATS))(X)
    np.testing.assert_allclose(at_once.variance, compiled.variance, rtol=1e-5)
    np.testing.assert_allclose(at_once.mean.sum(1), 1, rtol=1e-6)
    given = net(X, jnp.asarray(FLOATS))
    assert (given.mean.sum(1) > 1.01).all()  # the expansion, which it says is one
    below = closed_over(jnp.asarray(FLOATS - 0.01))(X)
    np.testing.assert_allclose(below.mean, given.mean, atol=0.02)


def test_ranges():
    """Each holds what it may, and what is said of a result is so for any operands in range."""

    def f(x, m):
        y = jnp.where(m > 0, 0.0, -jnp.inf)
        s = jnp.sign(jnp.abs(x).sum())
        return {
            "mask": (m > 0).astype(jnp.float32),
            "left": 1 - (m > 0).astype(jnp.float32),
            "filled": y,
            "below 0": s < 0,
            "clipped": jnp.clip(x, -1.0, 2.0),
            "square": (3 * jax.nn.sigmoid(x) - 2) ** 2,
            "quotient": jnp.exp(x) / (1 + jnp.tanh(x) ** 2),
            "difference": jnp.exp(x) - 1,
            "index": lax.iota(jnp.int32, 4).astype(jnp.float32),
            "whole": (lax.iota(jnp.int32, 4) - 2).astype(jnp.uint8),
        }

    out = jax.make_jaxpr(f)(jnp.zeros(4), jnp.zeros(4))
    names = sorted(f(jnp.zeros(4), jnp.zeros(4)))
    known = ranges.ranges(out.jaxpr, [ranges.ANY] * 2, [ranges.ANY] * len(out.consts))
    got = dict(zip(names, (tuple(ranges.of(v, known)) for v in out.jaxpr.outvars), strict=True))
    assert got == {
        "mask": (0, 1),
        "left": (0, 1),
        "filled": (-np.inf, 0),
        "below 0": (0, 0),
        "clipped": (-1, 2),
        "square": (0, 4),
        "quotient": (0, np.inf),
        "difference": (-1, np.inf),
        "index": (0, 3),
        "whole": (0, np.inf),
    }
