"""Orders of contraction, and scaled tables, against sums written out in NumPy."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgjax.inference._contraction import order
from cgjax.inference._leaves import Leaves
from cgjax.inference._passes import total
from cgjax.inference._scaled import Table, of_logarithm, scaled


def summed(tables, steps):
    arrays = [(t.mantissa, t.exponent) for t in tables]
    axes = [t.axes for t in tables]
    sizes = {v: n for t in tables for v, n in zip(t.axes, t.mantissa.shape, strict=True)}

    def of(arrays):
        found = [Table(a, *x) for a, x in zip(axes, arrays, strict=True)]
        return total([Leaves.of(axes, sizes, {}, [], dict(enumerate(found)))], steps)

    return jax.jit(of)(arrays)


def problem(seed: int) -> tuple[list[frozenset[int]], dict[int, int]]:
    rng = np.random.default_rng(seed)
    sizes = {v: int(rng.integers(1, 4)) for v in range(6)}
    scopes = [frozenset(map(int, rng.choice(6, rng.integers(0, 4), False))) for _ in range(7)]
    return [*scopes, frozenset(sizes)] if seed % 2 else scopes, sizes


@pytest.mark.numerics
@pytest.mark.parametrize(("seed", "scale"), [(0, 0.0), (1, 300.0), (3, 300.0)])
def test_a_sum_of_products(seed, scale):
    scopes, sizes = problem(seed)
    rng = np.random.default_rng(seed)
    logs = [scale * rng.normal(size=[sizes[v] for v in sorted(s)]) - 1 for s in scopes]
    for log in logs:
        if log.size > 1 and seed == 3:
            log[(0,) * log.ndim] = -np.inf
    every = frozenset().union(*scopes)
    shape = [sizes[v] for v in sorted(every)]
    whole = np.zeros(shape)
    for s, log in zip(scopes, logs, strict=True):
        whole = whole + log.reshape([sizes[v] if v in s else 1 for v in sorted(every)])
    expected = np.logaddexp.reduce(whole.reshape(-1))
    tables = [
        Table(tuple(sorted(s)), *of_logarithm(jnp.asarray(log, jnp.float32)))
        for s, log in zip(scopes, logs, strict=True)
    ]
    mantissa, exponent = summed(tables, order(scopes, sizes).steps)
    got = np.log(mantissa) + np.log(2.0) * np.float64(exponent)
    # Logarithms of some hundreds are rounded by 1e-5 each in float32.
    np.testing.assert_allclose(got, expected, atol=2e-6 if scale == 0 else 1e-3)


@pytest.mark.numerics
def test_large_products_are_scaled_by_rows(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(8, 8)) * 100 - 500 for _ in range(2))
    tables = [
        Table(axes, *of_logarithm(jnp.asarray(x, jnp.float32)))
        for axes, x in (((0, 1), a), ((1, 2), b))
    ]
    expected = np.logaddexp.reduce((a[:, :, None] + b).reshape(-1))
    steps = order([frozenset({0, 1}), frozenset({1, 2})], {0: 8, 1: 8, 2: 8}).steps
    for most in (1 << 18, 1):
        monkeypatch.setattr("cgjax.inference._scaled._MOST_TERMS", most)
        mantissa, exponent = summed(tables, steps)
        got = np.log(mantissa) + np.log(2.0) * np.float64(exponent)
        np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.numerics
def test_tiny_numbers_keep_their_digits_and_zeros_their_derivative():
    log = jnp.asarray([-0.1, -39.0, -300.0, -jnp.inf], jnp.float32)
    mantissa, exponent = scaled(jnp.exp(log), log)
    got = np.log(np.float64(mantissa[:3])) + np.log(2.0) * np.float64(exponent[:3])
    np.testing.assert_allclose(got, log[:3], rtol=1e-6)
    assert (float(mantissa[3]), float(exponent[3])) == (0.0, -np.inf)


def test_the_order_does_not_depend_on_the_order_of_writing():
    chain = [frozenset({k, k + 1}) for k in range(40)]
    sizes = dict.fromkeys(range(41), 10)
    state = random.getstate()
    for seed in range(3):
        shuffled = list(np.random.default_rng(seed).permutation(len(chain)))
        found = order([chain[k] for k in shuffled], sizes)
        assert found.peak == 100 or found.peak == 10
        assert found.work <= 40 * 1300
    assert random.getstate() == state


def test_dense_layers_are_products_of_two_halves():
    # Two layers of 12 bits; the conditional of the second is in two halves.
    scopes = [frozenset({0}), frozenset({0, 1}), frozenset({0, 2}), frozenset({1, 2})]
    found = order(scopes, {0: 1 << 12, 1: 1 << 6, 2: 1 << 6})
    assert max(s.terms for s in found.steps) < 1.1 * 2**24
    assert found.peak <= 1 << 18
