"""Largest values that cancel are told from those that matter."""

import jax
import jax.numpy as jnp
import pytest

from cgjax._program.shifts import cancelling


def softmax(x):
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - jnp.log(jnp.exp(shifted).sum(-1, keepdims=True))


def log_sum_exp(x):
    m = x.max(-1, keepdims=True)
    return (m + jnp.log(jnp.exp(x - m).sum(-1, keepdims=True)))[..., 0]


def of_smallest(x):
    e = jnp.exp(x - x.min(0)[None])
    return e / e.sum(0)[None]


MASK = jnp.arange(4) < 3


def of_some_by_hand(x):
    e = jnp.exp(x - jnp.max(x, -1, where=MASK, initial=-jnp.inf, keepdims=True))
    return jnp.where(MASK, e, 0) / jnp.where(MASK, e, 0).sum(-1, keepdims=True)


def weighted(x):
    e = jnp.exp(x - x.max(-1, keepdims=True)) * jnp.arange(4.0)[None]
    return e / e.sum(-1, keepdims=True)


def beside_others(x):
    e = jnp.where(MASK, jnp.exp(x - x.max(-1, keepdims=True)), 1)
    return e / e.sum(-1, keepdims=True)


def weighted_by_itself(x):
    m = x.max(-1, keepdims=True)
    e = jnp.exp(x - m) * (m + x)
    return e / e.sum(-1, keepdims=True)


def returned_too(x):
    m = x.max(-1, keepdims=True)
    e = jnp.exp(x - m)
    return e / e.sum(-1, keepdims=True), m


def numerator_too(x):
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) + e


def of_others(x):
    e = jnp.exp(2 * x - x.max(-1, keepdims=True))
    return e / (1 + e.sum(-1, keepdims=True))


def over_other_axes(x):
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(0, keepdims=True)


def of_other_rows(x):
    e = jnp.exp(x - x.max(1)[None])
    return e / e.sum(1, keepdims=True)


def over_sums_of_other_rows(x):
    e = jnp.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1)[None]


def in_part(x):
    e = jnp.exp(x - x.max((0, 1), keepdims=True))
    return e / e.sum(1, keepdims=True)


def beside_another_term(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - jnp.log(jnp.exp(x).sum(-1, keepdims=True))


def largest(x):
    return x.max(-1)


@pytest.mark.parametrize(
    "function",
    [softmax, log_softmax, log_sum_exp, of_smallest, of_some_by_hand, weighted, in_part],
)
def test_what_cancels(function):
    assert len(cancelling(jax.make_jaxpr(function)(jnp.ones((4, 4))).jaxpr)) == 1


@pytest.mark.parametrize(
    "function",
    [
        *(returned_too, beside_others, weighted_by_itself, numerator_too, of_others),
        *(over_other_axes, of_other_rows, over_sums_of_other_rows, beside_another_term, largest),
    ],
)
def test_what_matters(function):
    assert cancelling(jax.make_jaxpr(function)(jnp.ones((4, 4))).jaxpr) == []
