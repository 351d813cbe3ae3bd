"""Exact inference by factors: graphs that are wide or long, but of small treewidth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg

UP = np.array([-1.0, 1.0])


def spin(e: np.ndarray | float) -> np.ndarray:
    """P(x | e) for both states of a spin, along a new last axis."""
    return 1 / (1 + np.exp(-2 * np.multiply.outer(e, UP)))


def test_an_encoder_and_decoder_with_nested_skips():
    n, x = 24, 0.3

    def net(x):
        skips, h = [], x
        for k in range(n):
            h = cg.node(cg.nodes.Spin(), 0.7 * h + 0.1 * k / n)
            skips.append(h)
        for skip in reversed(skips):
            h = cg.node(cg.nodes.Spin(), 0.5 * h + 0.4 * skip)
        return h**3

    # From the inside out: P(the decoder's node | the encoder's node at its level).
    inner = spin(0.9 * UP)
    for k in reversed(range(n - 1)):
        up = spin(0.7 * UP + 0.1 * (k + 1) / n)  # (this, next)
        down = spin(0.5 * UP[:, None] + 0.4 * UP)  # (inner, this, result)
        inner = np.einsum("ab,bc,cad->ad", up, inner, down)
    expected = spin(np.float64(0.7 * x)) @ inner @ UP
    np.testing.assert_allclose(cg.exact_marginals(net)(jnp.float32(x)), expected, rtol=1e-5)


def test_a_scan_over_random_inputs_that_are_drawn_as_one_array():
    def net(x):
        drawn = cg.node(cg.nodes.Spin(), x, name="drawn")

        def cell(h, u):
            h = cg.node(cg.nodes.Spin(), 0.8 * h + 0.5 * u, name="h")
            return h, h

        return jax.lax.scan(cell, jnp.float32(0), drawn)[1]

    x = np.linspace(-1.0, 1.0, 24)
    expected, law = [], None
    for e in x:
        given = UP * 0.5 if law is None else (0.8 * UP[:, None] + 0.5 * UP) + 0.0
        pair = spin(e) if law is None else law[:, None] * spin(e)
        law = (pair[..., None] * spin(given)).reshape(-1, 2).sum(0)
        expected.append(law @ UP)
    got = cg.exact_marginals(net)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)  # float32, 24 steps


def test_windows_of_a_convolution():
    n, kernel = 24, np.array([0.3, 0.8, -0.4])

    def net(x):
        for _ in range(2):
            x = jnp.convolve(cg.node(cg.nodes.Spin(), x), jnp.asarray(kernel, x.dtype), "same")
        return jnp.tanh(x)

    x = np.linspace(-1.0, 1.0, n)
    expected = np.zeros(n)
    for i in range(n):  # five nodes below three nodes below each result
        below = [k for k in range(i - 2, i + 3) if 0 <= k < n]
        above = [k for k in range(i - 1, i + 2) if 0 <= k < n]
        for u in np.ndindex(*(2,) * len(below)):
            whole = np.zeros(n)
            whole[below] = UP[list(u)]
            p_u = np.prod(spin(x[below])[np.arange(len(below)), list(u)])
            p_v = spin(np.convolve(whole, kernel, "same")[above])
            for v in np.ndindex(*(2,) * len(above)):
                top = np.zeros(n)
                top[above] = UP[list(v)]
                p = p_u * np.prod(p_v[np.arange(len(above)), list(v)])
                expected[i] += p * np.tanh(np.convolve(top, kernel, "same")[i])
    got = cg.exact_marginals(net)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)  # float32


@pytest.mark.parametrize("n", [31])
def test_a_tree_in_heap_order_from_its_leaves(n):
    x = np.linspace(-1.0, 1.0, n)

    def net(x):
        h = {}
        for k in reversed(range(n)):
            below = [h[c] for c in (2 * k + 1, 2 * k + 2) if c < n]
            h[k] = cg.node(cg.nodes.Spin(), x[k] + 0.9 * sum(below, jnp.zeros_like(x[k])))
        return h[0] * h[1]

    law = {}
    for k in reversed(range(1, n)):
        e = x[k]
        if 2 * k + 2 < n:
            e = e + 0.9 * (UP[:, None] + UP)
            law[k] = np.einsum("a,b,abc->c", law[2 * k + 1], law[2 * k + 2], spin(e))
        else:
            law[k] = spin(e)
    root = spin(x[0] + 0.9 * (UP[:, None] + UP))
    expected = np.einsum("a,b,abc,c,a->", law[1], law[2], root, UP, UP)
    got = cg.exact_marginals(net)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_rows_of_a_batch_are_found_apart():
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6)), jnp.float32)

    def net(x):
        for weight in weights:
            x = cg.node(cg.nodes.Bernoulli(), x @ weight)
        return x.prod(-1)

    x = jnp.linspace(-1.0, 1.0, 30).reshape(5, 6)
    exact = cg.exact_marginals(net)
    # 2^60 joint states if the rows depended on each other. Rounding: float32.
    np.testing.assert_allclose(exact(x), jax.vmap(exact)(x), rtol=2e-5)


def test_the_last_steps_to_natural_parameters_are_taken_together():
    def net(x):
        a = cg.node(cg.nodes.Bernoulli(), x, name="a")
        b = cg.node(cg.nodes.Bernoulli(), jnp.tanh(2 * a - 1), name="b")
        c = cg.node(cg.nodes.Bernoulli(), jnp.tanh(3 * a - 1), name="c")  # another number
        d = cg.node(cg.nodes.Bernoulli(), 1 - jnp.exp(a * b), name="d")
        e = cg.node(cg.nodes.Bernoulli(), 1 - jnp.exp(x * c - d), name="e")
        f = cg.node(cg.nodes.Bernoulli(), jnp.where(c > 0.5, jnp.log(2 - d), -jnp.inf), name="f")
        return {"e": e, "f": f, "bc": b * c}

    states = np.array(np.meshgrid(*[[0.0, 1.0]] * 6)).reshape(6, -1)
    x, names = jnp.float32(0.4), "abcdef"
    log = jax.vmap(lambda row: cg.log_joint(net)(dict(zip(names, row, strict=True)), x))
    p = np.exp(log(jnp.asarray(states.T, jnp.float32)))
    a, b, c, d, e, f = states
    found = cg.exact_marginals(net)(x)
    for key, value in {"e": e, "f": f, "bc": b * c}.items():
        np.testing.assert_allclose(found[key], (p * value).sum(), atol=1e-6)
    given = cg.exact_marginals(cg.condition(net, {"f": 0.0, "d": 1.0}))(x)
    p *= (f == 0) & (d == 1)
    np.testing.assert_allclose(given["e"], (p * e).sum() / p.sum(), atol=1e-6)

    def many(w):
        h = cg.node(cg.nodes.Bernoulli(), w, name="h")
        for k in range(2, 8):  # of different shapes, whose logarithms are one operation
            rows = h.sum() * jnp.ones((k, 3)) + 1
            cg.node(cg.nodes.Categorical(), jnp.log(rows.sum(0)), name=f"n{k}")
        return h

    evidence = {f"n{k}": jax.nn.one_hot(1, 3) for k in range(2, 8)}
    text = str(jax.make_jaxpr(lambda w: cg.log_evidence(many)(evidence, w))(jnp.zeros(2)))
    assert text.count("= log ") < 6
