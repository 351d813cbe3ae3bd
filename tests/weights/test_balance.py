"""Gains of layers by moments: against closed forms and sampled LSUV; networks written otherwise."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import integrate, stats

import cgjax as cg
from cgjax import weights
from train.models.parts import Parts
from train.models.residual import wide_resnet

GENERATOR = np.random.default_rng(11)
DEPTH, WIDTH = 50, 12


def deep(activation):
    def f(params, x):
        for w in params:
            x = activation(x @ w)
        return x

    return f


RELU, TANH = deep(jax.nn.relu), deep(jnp.tanh)


def drawn(depth, width, seed=0):
    """Weights of deviations from half of He's to twice, at random."""
    generator = np.random.default_rng(seed)
    scales = np.exp(generator.uniform(-0.7, 0.7, depth)) * (2 / width) ** 0.5
    return [jnp.float32(s * generator.normal(size=(width, width))) for s in scales]


def test_of_weights_before_they_are_drawn_relu_has_hes_variances():
    """2/n, whatever variances there were, from moments of the data alone, 50 layers deep."""
    variances = np.exp(GENERATOR.uniform(-3, 3, DEPTH))
    zero = jnp.zeros((WIDTH, WIDTH))
    law = [cg.Belief(zero, zero + float(v)) for v in variances]
    data = cg.Belief(jnp.zeros((1, WIDTH)), jnp.ones((1, WIDTH)))
    balanced = weights.balance(RELU, law, data)
    found = np.array([w.variance for w in balanced])
    expected = np.array([1 / WIDTH] + [2 / WIDTH] * (DEPTH - 1))
    # Rounding in float32, through 50 layers.
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None, None], found.shape), 1e-4)
    assert all((w.mean == 0).all() for w in balanced)


def test_any_activation_and_any_target():
    """v = target' / (n E[phi(sqrt(target) z)^2]), z normal; layers without a target stay."""
    zero = jnp.zeros((WIDTH, WIDTH))
    law = [weights.Normal(zero, zero - 1) for _ in range(4)]
    data = cg.Belief(jnp.zeros((1, WIDTH)), jnp.ones((1, WIDTH)))
    balanced = weights.balance(TANH, law, data, target={"2": 3.0, "[01]": 0.5})

    def second(variance):
        square = lambda z: np.tanh(variance**0.5 * z) ** 2 * stats.norm.pdf(z)  # noqa: E731
        return integrate.quad(square, -10, 10)[0]

    expected = [0.5 / WIDTH, 0.5 / (WIDTH * second(0.5)), 3.0 / (WIDTH * second(0.5))]
    # The quadrature of moments is within 5e-5 of the variance of an element.
    for w, v in zip(balanced, [*expected, np.exp(-1)], strict=False):
        np.testing.assert_allclose(w.variance, np.full(w.variance.shape, v), 5e-4)
    assert balanced[3] is law[3] or (balanced[3].log_variance == law[3].log_variance).all()


def lsuv(params, x):
    """Layer after layer divided by the deviation that a batch shows, in float64."""
    x, found = np.asarray(x, np.float64), []
    for w in params:
        e = x @ np.asarray(w, np.float64)
        found.append(np.asarray(w, np.float64) / e.std())
        x = np.maximum(e / e.std(), 0)
    return found


def test_of_drawn_weights_it_is_what_a_batch_shows():
    params = drawn(6, WIDTH)
    x = jnp.float32(GENERATOR.normal(size=(32, WIDTH)))
    for posterior in (params, weights.mean_field(params, 1e-12)):
        found = weights.means(weights.balance(RELU, posterior, x))
        for w, expected in zip(found, lsuv(params, x), strict=True):
            np.testing.assert_allclose(w, expected, 1e-4, 1e-5)  # rounding in float32
    variances = weights.layer_variances(RELU, found, x)
    assert list(variances) == [str(k) for k in range(6)]
    np.testing.assert_allclose(list(variances.values()), 1, 1e-4)


def test_the_posteriors_own_variance_counts():
    """Of weights and their deviations, the first layer by hand: mean and variance are scaled."""
    w = jnp.float32(GENERATOR.normal(size=(3, 4)))
    x = jnp.float32(GENERATOR.normal(size=(5, 3)))
    posterior = [weights.mean_field(w, 0.5)]
    (found,) = weights.balance(RELU, posterior, x)
    mean, variance = np.asarray(x @ w), 0.5 * (np.asarray(x) ** 2).sum(1)
    total = mean.var() + variance.mean()
    np.testing.assert_allclose(found.mean, w / total**0.5, 1e-5)
    np.testing.assert_allclose(found.variance, np.full((3, 4), 0.5 / total), 1e-5)


# -- equal functions


def test_equal_functions_have_equal_gains():
    generator = np.random.default_rng(2)
    params = {
        "a": jnp.float32(generator.normal(size=(4, 5))),
        "b": jnp.float32(generator.normal(size=5)),
        "c": jnp.float32(generator.normal(size=(5, 3))),
    }
    x = jnp.float32(generator.normal(size=(6, 4)))

    @jax.custom_jvp
    def product(x, w):
        return x @ w

    product.defjvp(lambda p, t: (p[0] @ p[1], t[0] @ p[1] + p[0] @ t[1]))

    def written(multiply):
        return lambda p, x: multiply(jax.nn.relu(multiply(x, p["a"]) + p["b"][None]), p["c"])

    def convolved(x, w):
        y = jax.lax.conv_general_dilated(
            x[:, None, None],
            w[None, None],
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y[:, 0, 0]

    ways = [
        lambda x, w: x @ w,
        lambda x, w: jnp.einsum("io,bi->bo", w, x),
        lambda x, w: (w.T @ x.T).T,
        lambda x, w: x @ (2 * w.reshape(-1)).reshape(w.shape) / 2,
        lambda x, w: -((4 * x) @ -w.astype(jnp.float32)) * jnp.float32([0.25])[None],
        lambda x, w: jnp.concatenate([x @ w[:, :2], x @ w[:, 2:]], -1),
        product,
        jax.jit(lambda x, w: x @ w),
        jax.checkpoint(lambda x, w: x @ w),
        lambda x, w: jax.vmap(lambda row: row @ w)(x),
        convolved,
    ]
    expected = weights.balance(written(ways[0]), params, x)
    assert (expected["b"] == params["b"]).all()  # a bias meets data in a sum
    assert abs(expected["a"] / params["a"] - 1).min() > 0.1
    for way in ways[1:5] + ways[6:]:
        found = weights.balance(written(way), params, x)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected
        )
    # A weight in two parts has the gain of the part that meets data first.
    parts = weights.balance(written(ways[5]), params, x)
    first = np.asarray(x @ params["a"][:, :2]).std()
    np.testing.assert_allclose(parts["a"], params["a"] / first, 1e-5)


def test_a_tied_weight_has_one_gain_and_a_gain_stands_for_its_kernel():
    w = jnp.float32(GENERATOR.normal(size=(4, 4)))
    x = jnp.float32(GENERATOR.normal(size=(6, 4)))

    def tied(params, x):
        return jnp.tanh(x @ params["w"]) @ params["w"].T

    found = weights.balance(tied, {"w": w}, x)
    np.testing.assert_allclose(found["w"], w / np.asarray(x @ w).std(), 1e-5)

    def with_gain(params, x):
        kernel = params["w"] / jnp.sqrt((params["w"] ** 2).sum(0, keepdims=True))
        return x @ (params["gain"][None] * kernel)

    found = weights.balance(with_gain, {"gain": jnp.ones(4), "w": w}, x)
    assert (found["w"] == w).all()
    np.testing.assert_allclose(np.asarray(with_gain(found, x)).std(), 1, 1e-5)


def test_a_residual_network_of_modules():
    """WRN-10-1 without normalisation: every product has variance 1, its logits among them."""
    net = wide_resnet(10, 1, parts=Parts(nnx.Rngs(3), norm="none", classes=4))
    f, params, state = cg.functional(net)
    x = jnp.float32(np.random.default_rng(4).normal(size=(4, 8, 8, 3)))
    balanced = weights.balance(f, params, state, x)
    assert jax.tree.structure(balanced) == jax.tree.structure(params)
    logits, _ = jax.jit(f)(balanced, state, x)
    assert abs(np.asarray(logits).var() - 1) < 1e-3  # rounding in float32, through ten layers
    before, after = (jax.tree.leaves_with_path(tree) for tree in (params, balanced))
    changed = [
        jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        for (path, a), (_, b) in zip(before, after, strict=True)
        if abs(a - b).max() > 0
    ]
    assert len(changed) == 10 and all(name.endswith("kernel") for name in changed)


def test_what_lies_in_a_loop_stays_and_a_warning_says_so():
    params = {
        "in": jnp.float32(GENERATOR.normal(size=(3, 4))),
        "biases": jnp.ones((2, 4)),
        "kernels": jnp.float32(GENERATOR.normal(size=(2, 4, 4))),
    }
    x = jnp.float32(GENERATOR.normal(size=(5, 3)))

    def f(params, x):
        def step(h, parts):
            kernel, bias = parts
            return jax.jit(jnp.tanh)(jax.jit(jnp.matmul)(h, kernel) + bias[None]), None

        return jax.lax.scan(step, x @ params["in"], (params["kernels"], params["biases"]))[0]

    with pytest.warns(UserWarning, match="leaves 'kernels' as they are: .*inside a loop"):
        found = weights.balance(f, params, x)
    np.testing.assert_allclose(found["in"], params["in"] / np.asarray(x @ params["in"]).std(), 1e-5)
    assert (found["kernels"] == params["kernels"]).all()
    with pytest.raises(ValueError, match="outside loops; its parameters are 'w'"):
        weights.balance(lambda p, x: f(p | params | {"in": jnp.ones((3, 4))}, x), {"w": x}, x)


def test_under_jit_and_in_other_dtypes():
    w = [jnp.bfloat16(GENERATOR.normal(size=(3, 4))), jnp.float32(GENERATOR.normal(size=(4, 2)))]
    x = jnp.float32(GENERATOR.normal(size=(5, 3)))
    eager = weights.balance(RELU, w, x)
    compiled = jax.jit(lambda w: weights.balance(RELU, w, x))(w)
    assert [a.dtype for a in eager] == [jnp.bfloat16, jnp.float32]
    for a, b in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(jnp.float32(a), jnp.float32(b), 1e-2)


def test_errors():
    w, x = [jnp.ones((3, 4)), jnp.ones((4, 2))], jnp.ones((5, 3))
    unchecked: Any = inspect.unwrap(weights.balance)
    cases: list[tuple[Any, Any]] = [
        (lambda: unchecked(RELU, w, x, target=-1.0), "positive variance, got -1.0 for '0'"),
        (lambda: unchecked(RELU, w, x, target={"z": 1.0}), "'z' of target matches no parameter"),
        (lambda: unchecked(RELU, w, x, nodes="sampled"), "nodes is"),
        # All products are equal: there is nothing to measure.
        (lambda: unchecked(RELU, w, x), "products of '0' have a variance of 0"),
        (lambda: unchecked(lambda p, x: x + p[0].sum(), w, x), "No parameter of the network meets"),
        (
            lambda: unchecked(
                lambda p, x: x @ p["a"] + p["b"][None],
                {"a": w[0], "b": w[0][0]},
                x,
                target={"b": 1.0},
            ),
            "No pattern of the target .* matches a layer; the layers are 'a'",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
