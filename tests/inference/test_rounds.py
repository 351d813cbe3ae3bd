"""Walks over contractions done together: sums and their derivatives, against sums in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax.inference import _plan
from cgjax.inference._contraction import order
from cgjax.inference._leaves import Leaves
from cgjax.inference._passes import total
from cgjax.inference._rounds import Loop
from cgjax.inference._scaled import Table, floor_log2, power


def problem(seed: int) -> tuple[list[tuple[int, ...]], dict[int, int], list[np.ndarray]]:
    """Tables of random numbers, some of them 0."""
    rng = np.random.default_rng(seed)
    sizes = {v: int(rng.integers(1, 5)) for v in range(7)}
    scopes = [tuple(map(int, rng.choice(7, rng.integers(0, 4), False))) for _ in range(9)]
    tables = [rng.uniform(size=[sizes[v] for v in s]) for s in scopes]
    return scopes, sizes, [np.where(t < 0.2, 0, t) for t in tables]


def summed(scopes, sizes, tables) -> np.ndarray:
    """The product of all tables, for all joint states."""
    every = sorted({v for s in scopes for v in s})
    whole = np.ones([sizes[v] for v in every])
    for scope, table in zip(scopes, tables, strict=True):
        ordered = np.transpose(table, np.argsort(scope))
        whole = whole * ordered.reshape([sizes[v] if v in scope else 1 for v in every])
    return whole


@pytest.mark.numerics
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("most_terms", [1 << 12, 12, 0])  # rounds alone, both, products alone
@pytest.mark.parametrize("scale", [0, 400])
def test_the_derivative_by_every_entry(monkeypatch, seed, most_terms, scale):
    monkeypatch.setattr(_plan, "MOST_TERMS", most_terms)
    scopes, sizes, tables = problem(seed)
    steps = order([frozenset(s) for s in scopes], sizes).steps
    expected = summed(scopes, sizes, tables).sum()
    # Entries times a power of 2 of their own, which goes again in another table of the product.
    shift = scale * (-1) ** np.arange(len(tables))
    shift[-1] -= shift.sum()

    def of(arrays):
        found = {}
        for k, x in enumerate(arrays):
            exponent = None
            if scale:
                exponent = jnp.where(x > 0, float(shift[k]), -jnp.inf)
            found[k] = Table(scopes[k], x, exponent)
        mantissa, exponent = total([Leaves.of(scopes, sizes, {}, [], found)], steps)
        return mantissa * jnp.exp2(exponent)

    with jax.enable_x64(True):
        got, slopes = jax.jit(jax.value_and_grad(of))([jnp.asarray(t) for t in tables])
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    for k, slope in enumerate(slopes):
        ones = [*tables[:k], np.ones_like(tables[k]), *tables[k + 1 :]]
        every = sorted({v for s in scopes for v in s})
        gone = tuple(n for n, v in enumerate(every) if v not in scopes[k])
        # Entries that are 0 have a derivative only where none has an exponent.
        want = np.transpose(
            summed(scopes, sizes, ones).sum(gone), np.argsort(np.argsort(scopes[k]))
        )
        want = np.where(tables[k] > 0, want, 0) if scale else want
        np.testing.assert_allclose(slope, want, rtol=1e-12, atol=1e-14)


@pytest.mark.numerics
def test_powers_and_logarithms_are_exact():
    n = np.arange(-126, 128)
    np.testing.assert_array_equal(power(jnp.asarray(n), jnp.dtype("float32")), 2.0**n)
    assert power(jnp.array([-127, -(1 << 28)]), jnp.dtype("float32")).tolist() == [0.0, 0.0]
    x = jnp.asarray(1.75 * 2.0**n, jnp.float32)
    assert floor_log2(x).tolist() == n.tolist()


def test_derivatives_of_the_evidence_twice_and_forwards():
    def net(w):
        a = cg.node(cg.nodes.Spin(), w[0], name="a")
        b = cg.node(cg.nodes.Spin(), w[1] * a, name="b")
        return cg.node(cg.nodes.Bernoulli(), w[2] * a * b + b, name="c")

    with jax.enable_x64(True):
        w = jnp.array([0.3, -0.8, 1.1])

        def log(w):
            return cg.log_evidence(net)({"c": 1.0}, w)

        slope = jax.jit(jax.grad(log))
        hessian = jax.jit(jax.hessian(log))(w)
        for k, step in enumerate(1e-5 * np.eye(3)):
            # Central differences in float64: error 1e-10.
            np.testing.assert_allclose(
                hessian[k], (slope(w + step) - slope(w - step)) / 2e-5, rtol=1e-6, atol=1e-8
            )
        along = jax.jvp(log, (w,), (jnp.ones(3),))[1]
        np.testing.assert_allclose(along, slope(w).sum(), rtol=1e-12)


def test_the_program_does_not_grow_with_nodes_of_one_form():
    def size(n: int) -> int:
        def net(x):
            for k in range(n):
                x = cg.node(cg.nodes.Spin(), 0.7 * x + 0.1 * k / n)
            return x**3

        jaxpr = jax.make_jaxpr(cg.exact_marginals(net))(0.3)
        return sum(len(j.eqns) for j in _jaxprs(jaxpr.jaxpr))

    small, large = size(20), size(60)
    assert large < small + 40


def _jaxprs(jaxpr):
    yield jaxpr
    for eqn in jaxpr.eqns:
        for value in eqn.params.values():
            for item in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(item, "jaxpr", item)
                if hasattr(inner, "eqns"):
                    yield from _jaxprs(inner)


@pytest.mark.numerics
def test_many_entries_of_one_sum_are_added_in_parts():
    # A variable of many states between two of few: the derivatives by these are long sums.
    sizes = {0: 2, 1: 700, 2: 2}
    scopes = [(0, 1), (1, 2), (0,), (2,)]
    rng = np.random.default_rng(0)
    tables = [rng.uniform(size=[sizes[v] for v in s]) for s in scopes]
    steps = order([frozenset(s) for s in scopes], sizes).steps
    plan, _ = _plan.planned(scopes, steps, sizes, range(4))
    # As many terms for each of 1402 derivatives as the longest sum has would be a million.
    loops = [x for x in (*plan.up, *plan.down) if isinstance(x, Loop)]
    assert loops and sum(x.left.size for x in loops) < 50_000

    def of(arrays):
        found = {k: Table(s, x) for k, (s, x) in enumerate(zip(scopes, arrays, strict=True))}
        return total([Leaves.of(scopes, sizes, {}, [], found)], steps)[0]

    with jax.enable_x64(True):
        slopes = jax.grad(of)([jnp.asarray(t) for t in tables])
    a, b, c, d = tables
    for got, want in zip(
        slopes,
        (
            np.einsum("jk,i,k->ij", b, c, d),
            np.einsum("ij,i,k->jk", a, c, d),
            np.einsum("ij,jk,k->i", a, b, d),
            np.einsum("ij,jk,i->k", a, b, c),
        ),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-12)
