"""Components of which some positions are known, against the law of the rest given these."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg

GENERATOR = np.random.default_rng(3)
LENGTH, TAGS = 4, 3
E = GENERATOR.normal(size=(LENGTH, TAGS)).astype(np.float32)
CHAIN = cg.nodes.LinearChain(GENERATOR.normal(size=(TAGS, TAGS)).astype(np.float32))
PATHS = np.array(list(itertools.product(range(TAGS), repeat=LENGTH)))
ONE_HOT = np.eye(TAGS, dtype=np.float32)[PATHS]
VALUES, KNOWN = ONE_HOT[50], np.array([True, False, False, True])
SCORES = (ONE_HOT * E).sum((1, 2)) + np.asarray(CHAIN.transitions)[PATHS[:, :-1], PATHS[:, 1:]].sum(
    1
)
FITS = (PATHS[:, KNOWN] == PATHS[50][KNOWN]).all(1)
LAW = np.where(FITS, np.exp(SCORES), 0) / np.exp(SCORES[FITS]).sum()
MARGINALS = np.einsum("n,ntk->tk", LAW, ONE_HOT)


def net(e):
    return cg.node(CHAIN, e, name="tags")


@jax.jit
def under_each_procedure(values, known, x):
    clamped = cg.clamp(net, {"tags": cg.PartlyKnown(values, known)})
    many = jnp.broadcast_to(E, (2000, *E.shape))
    return {
        "plain": clamped(E),
        "feed_forward": cg.feed_forward(clamped)(E),
        "exact": cg.exact_marginals(clamped)(E),
        "samples": cg.forward_sample(clamped)(jax.random.key(0), many),
        "mode": cg.mode(clamped)(E),
        "log_joint": cg.log_joint(clamped)({"tags": x}, E),
        "slope": jax.grad(lambda e: cg.feed_forward(clamped)(e)[1, 0])(jnp.asarray(E)),
    }


def test_the_rest_follows_given_what_is_known():
    best = ONE_HOT[LAW.argmax()]
    found = under_each_procedure(VALUES, KNOWN, best)
    for name in ("plain", "feed_forward", "exact"):
        np.testing.assert_allclose(found[name], MARGINALS, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(found["mode"], best)
    np.testing.assert_allclose(found["log_joint"], np.log(LAW.max()), rtol=1e-5)
    assert abs(found["samples"].mean(0) - MARGINALS).max() < 5 * 0.5 / 2000**0.5
    np.testing.assert_array_equal(
        found["samples"][:, KNOWN], np.broadcast_to(VALUES[KNOWN], (2000, 2, 3))
    )
    # The covariance of an indicator with the others, and 0 where positions are known.
    covariance = (
        np.einsum("n,n,ntk->tk", LAW, ONE_HOT[:, 1, 0], ONE_HOT) - MARGINALS * MARGINALS[1, 0]
    )
    np.testing.assert_allclose(found["slope"], covariance, atol=1e-6)


def test_known_everywhere_or_nowhere():
    x = ONE_HOT[50]
    everywhere = under_each_procedure(x, np.full(LENGTH, True), x)
    np.testing.assert_array_equal(everywhere["plain"], x)
    assert everywhere["log_joint"] == 0
    nowhere = under_each_procedure(np.full_like(x, np.nan), np.full(LENGTH, False), x)
    np.testing.assert_allclose(nowhere["plain"], net(jnp.asarray(E)), atol=1e-6)


def test_pixels_that_are_known():
    node = cg.nodes.Grid(np.eye(2, dtype=np.float32), inference="exact")
    e, known = np.zeros((1, 3, 2), np.float32), np.array([[True, False, False]])
    value = np.zeros((1, 3, 2), np.float32)
    value[..., 0] = 1
    clamped = cg.clamp(lambda e: cg.node(node, e, name="x"), {"x": cg.PartlyKnown(value, known)})
    p = np.e / (1 + np.e)  # that a pixel has its neighbour's label
    expected = [1, p, p * p + (1 - p) ** 2]
    np.testing.assert_allclose(clamped(e)[0, :, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            cg.PartlyKnown(VALUES, np.ones(LENGTH)),
            "takes booleans, one for each position, got float",
        ),
        (
            cg.PartlyKnown(VALUES, np.ones((LENGTH, TAGS), bool)),
            "(4, 3) with values of shape (4, 3)",
        ),
        (cg.PartlyKnown(VALUES / 2, KNOWN), "is one-hot along the last axis, 1 at its state"),
    ],
)
def test_bad_input_says_what_was_wrong(value, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        cg.clamp(net, {"tags": value})(E)


def test_elements_that_do_not_touch_are_refused():
    value = cg.PartlyKnown(np.eye(2, dtype=np.float32), np.array([True, False]))
    spins = cg.clamp(lambda e: cg.node(cg.nodes.Spin(), e, name="s"), {"s": value})
    with pytest.raises(TypeError, match="Spin nodes do not depend on each other"):
        spins(jnp.zeros((2, 2)))
