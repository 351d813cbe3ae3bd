"""Equal layers get equal noise, however they are written."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cgjax import Belief, weights
from tests._weight_noise.rewritings import LAYERS

ROWS, SAMPLES = 8, 2000
X = jnp.broadcast_to(jnp.array([1.0, -2.0, 0.5, 1.5]), (ROWS, 4))
W = Belief(jax.random.normal(jax.random.key(0), (4, 6)), jnp.full((4, 6), 0.25))
PROCEDURES = {
    "local": weights.local_reparameterization,
    "flipout": weights.flipout,
}
parametrize = pytest.mark.parametrize("name", PROCEDURES)


def variances(procedure, networks, posterior):
    """The variance of each result and of its batch mean, over samples, on average."""

    def every(posterior, x):
        return {name: f(posterior, x) for name, f in networks.items()}

    @jax.jit
    def compute(keys):
        ys = jax.vmap(lambda key: procedure(every)(key, posterior, X))(keys)

        def both(y):
            y = y.mean.astype(jnp.float32).reshape(SAMPLES, ROWS, -1)
            return y.var(0).mean(), y.mean(1).var(0).mean()

        return {name: both(y) for name, y in ys.items()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each network uses the same weights again
        return compute(jax.random.split(jax.random.key(1), SAMPLES))


@parametrize
def test_layers_have_one_variance_of_results_and_of_their_batch_mean(name):
    networks = {layer: lambda p, x, f=f: f(x, p) for layer, f in LAYERS.items()}
    found = variances(PROCEDURES[name], networks, W)
    one = float((X[0] ** 2).sum() * 0.25)
    for layer, (of_result, of_mean) in found.items():
        # Six outputs of equal rows, independent between outputs: an estimate of a variance has the
        # relative error sqrt(2 / (6 n)); five of them.
        tolerance = 5 * (2 / (6 * SAMPLES)) ** 0.5
        np.testing.assert_allclose(of_result, one, rtol=tolerance, err_msg=layer)
        np.testing.assert_allclose(of_mean * ROWS, one, rtol=tolerance, err_msg=layer)


@parametrize
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_that_keeps_its_noise_does_not_warn(layer, name):
    procedure = PROCEDURES[name](lambda p, x: LAYERS[layer](x, p))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.eval_shape(procedure, jax.random.key(0), W, X)


def normalised(x):
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


OTHERS = {
    "bias": (lambda p, x: p["b"][None] + x[:, :1], lambda x: 0.25),
    "one number": (lambda p, x: p["s"] + x, lambda x: 0.25),
    "bias in a maximum": (
        lambda p, x: jnp.maximum(0 * x[:, :1] - 100, p["b"][None]),
        lambda x: 0.25,
    ),
    "scale": (lambda p, x: normalised(x) * p["g"][None], lambda x: 0.25 * normalised(x)[0] ** 2),
    "embedding": (lambda p, x: p["e"][(x[:, 0]).astype(int)], lambda x: 0.25),
    "products": (lambda p, x: (x * p["g"][None]).sum(1), lambda x: 0.25 * (x[0] ** 2).sum()),
    "sum": (lambda p, x: x @ (p["a"] + p["c"]), lambda x: 0.5 * (x[0] ** 2).sum()),
    "two weights": (
        lambda p, x: x @ jnp.concatenate([p["a"], p["c"]], axis=1),
        lambda x: 0.25 * (x[0] ** 2).sum(),
    ),
    "flat": (lambda p, x: x @ p["f"].reshape(4, 6), lambda x: 0.25 * (x[0] ** 2).sum()),
    "half precision": (
        lambda p, x: x.astype(jnp.float16) @ (p["a"] * 1.0).astype(jnp.float16),
        lambda x: 0.25 * (x[0] ** 2).sum(),
    ),
    "tiny in half precision": (
        lambda p, x: (x * 4096).astype(jnp.float16) @ (p["t"] / 4096).astype(jnp.float16),
        lambda x: 0.25 * (x[0] ** 2).sum(),
    ),
}
POSTERIOR = {
    name: Belief(jnp.full(shape, 0.25 if name == "t" else 1.0), jnp.full(shape, 0.25))
    for name, shape in {
        "b": (6,),
        "s": (),
        "g": (4,),
        "e": (5, 3),
        "a": (4, 2),
        "c": (4, 2),
        "f": (24,),
        "t": (4, 2),
    }.items()
}


@parametrize
def test_biases_scales_and_embeddings_have_noise_for_each_example(name):
    found = variances(PROCEDURES[name], {n: f for n, (f, _) in OTHERS.items()}, POSTERIOR)
    for network, (of_result, of_mean) in found.items():
        expected = float(jnp.mean(OTHERS[network][1](X)))
        # At worst there is one independent output for the rows: five errors of sqrt(2 / n).
        tolerance = 5 * (2 / SAMPLES) ** 0.5
        np.testing.assert_allclose(of_result, expected, rtol=tolerance, err_msg=network)
        np.testing.assert_allclose(of_mean * ROWS, expected, rtol=tolerance, err_msg=network)


def test_flipout_gives_the_bias_signs_of_its_own_for_each_example():
    bias = Belief(jnp.zeros(500), jnp.ones(500))
    procedure = weights.flipout(lambda b, x: x[:, :1] + b[None])
    y = procedure(jax.random.key(0), bias, jnp.zeros((16, 2))).mean
    between = np.asarray(y @ y.T / 500)[~np.eye(16, dtype=bool)]
    # A mean of 500 products of independent normal numbers, squared and averaged over 120 pairs.
    assert (between**2).mean() ** 0.5 < 5 * (1 / 500) ** 0.5 / 2
    np.testing.assert_allclose(jnp.abs(y), jnp.abs(y[:1]).repeat(16, 0), rtol=1e-6)


# -- warnings


def warned(procedure, f, posterior: Belief | dict[str, Belief] = W):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jax.eval_shape(procedure(f), jax.random.key(0), posterior, X)
    return [str(w.message) for w in caught]


@parametrize
def test_one_draw_for_all_examples_is_said(name):
    (message,) = warned(PROCEDURES[name], lambda p, x: x @ jnp.tanh(p["w"]), {"w": W})
    for part in ("['w']", "once for all examples", "`tanh`", "test_rewritings.py", "per="):
        assert part in message


TWICE = {
    "by two layers": lambda w, x: x @ w + jnp.tanh(x) @ w,
    "in parts that overlap": lambda w, x: x @ w[:, :4] @ jnp.ones((4, 2)) + x @ w[:, 2:4],
    "after a branch": lambda w, x: (
        x @ w + lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x[:, :1] * jnp.ones((1, 6)))
    ),
    "by a value and its derivative": lambda w, x: jax.jvp(lambda x: jnp.tanh(x @ w), (x,), (x,))[1],
    "by turns that share rows": lambda w, x: lax.fori_loop(
        0, 4, lambda i, c: c + jnp.outer(x[:, i], w[i // 2]), jnp.zeros((ROWS, 6))
    ),
    "in a loop": lambda w, x: lax.scan(
        lambda c, _: (c + x @ w, None), x @ jnp.ones((4, 6)), None, length=2
    )[0],
    "in a loop of unknown length": lambda w, x: lax.while_loop(
        lambda c: c.sum() < 9, lambda c: c + x @ w, x @ jnp.ones((4, 6))
    ),
}
ONCE = {
    "in one branch": lambda w, x: lax.cond(
        x.sum() > 0, lambda: x @ w, lambda: x[:, :1] * jnp.ones((1, 6))
    ),
    "in each branch": lambda w, x: lax.cond(x.sum() > 0, lambda: x @ w, lambda: jnp.tanh(x) @ w),
    "in one of three branches": lambda w, x: lax.switch(
        1, [lambda: x @ w, lambda: 2 * x @ w, lambda: 3 * x @ w]
    ),
    "and once more, which is dropped": lambda w, x: (x @ w, x @ w)[1],
    "by a derivative whose value is dropped": lambda w, x: jax.jvp(lambda x: x @ w, (x,), (x,))[1],
    "and in a call whose other result is dropped": lambda w, x: jax.jit(
        lambda x: (x @ w, 2 * x @ w)
    )(x)[1],
    "and by what a loop carries and is dropped": lambda w, x: lax.scan(
        lambda c, row: ((c[0] + jnp.outer(*row), c[1] + row[0] @ row[0] * row[1]), None),
        (jnp.zeros((ROWS, 6)), jnp.zeros(6)),
        (x.T, w),
    )[0][0],
    "row by row of a loop that counts": lambda w, x: lax.fori_loop(
        0, 4, lambda i, c: c + jnp.outer(x[:, i], w[i]), jnp.zeros((ROWS, 6))
    ),
    "row by row from the last": lambda w, x: lax.fori_loop(
        0, 4, lambda i, c: c + jnp.outer(x[:, 3 - i], w[3 - i]), jnp.zeros((ROWS, 6))
    ),
    "row by row of a scan over numbers": lambda w, x: lax.scan(
        lambda c, i: (c + jnp.outer(x[:, i], w[i]), None), jnp.zeros((ROWS, 6)), jnp.arange(4)
    )[0],
    "in parts": lambda w, x: (x @ w[:, :2]).sum(1) + (x @ w[:, 2:]).sum(1),
    "in a branch of a branch": lambda w, x: lax.cond(
        x.sum() > 0, lambda: lax.cond(x.max() > 1, lambda: x @ w, lambda: 2 * x @ w), lambda: x @ w
    ),
    "layer by layer": lambda w, x: lax.scan(
        lambda c, a: (c + x @ a, None), jnp.zeros((ROWS, 3)), w.reshape(4, 2, 3).swapaxes(0, 1)
    )[0],
    "in a rematerialised part": lambda w, x: jax.checkpoint(lambda x: jnp.tanh(x @ w))(x),
    "example by example": lambda w, x: lax.map(lambda row: jnp.tanh(row @ w), x),
}


@pytest.mark.parametrize("how", TWICE)
def test_a_weight_that_is_used_more_than_once_is_said(how):
    (message,) = warned(weights.local_reparameterization, TWICE[how])
    assert "more than once" in message


@pytest.mark.parametrize("how", ONCE)
def test_a_weight_that_is_used_once_is_not(how):
    assert not warned(weights.local_reparameterization, ONCE[how])


def test_a_second_trace_says_the_same():
    def network(w, x):
        return lax.cond(x.sum() > 0, lambda: x @ w, lambda: x[:, :1] * jnp.ones((1, 6)))

    procedure = weights.local_reparameterization(network)

    @jax.jit
    def loss(w, key):
        return (procedure(key, w, X).mean ** 2).sum()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = jax.jit(jax.grad(loss))(W, jax.random.key(0))
        second = jax.grad(loss)(W, jax.random.key(0))
    np.testing.assert_allclose(first.mean, second.mean, rtol=1e-5)


# -- values that are used more than once are one value


@parametrize
def test_a_result_that_is_used_twice_is_one_number(name):
    def network(w, x):
        h = x @ w
        twice = jax.jit(lambda h: h - h)(h)
        spread = jnp.broadcast_to(h[:, None], (ROWS, 2, 6))
        return twice, spread[:, 0] - spread[:, 1]

    out = jax.jit(PROCEDURES[name](network))(jax.random.key(0), W, X)
    assert all((o.mean == 0).all() for o in out)
