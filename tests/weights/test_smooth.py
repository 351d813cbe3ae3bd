"""Smoothing: the beliefs about a network's nodes once the targets are seen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from cgjax import Belief, weights
from cgjax.weights import LinearGaussian, Moments

LINEAR = cg.nodes.Gaussian(1.0)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def affine(sizes, seed=0, outputs=2):
    """A Gaussian-linear network, as a network of nodes and as the reference; and a target."""
    generator = np.random.default_rng(seed)
    pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
    maps = [jnp.asarray(generator.normal(size=(n, k)) / k**0.5) for k, n in pairs]
    beliefs = [
        Belief(jnp.asarray(generator.normal(size=n)), jnp.asarray(generator.gamma(2, size=n)))
        for n in (sizes[0], *(n for _, n in pairs))
    ]
    readout = jnp.asarray(generator.normal(size=(outputs, sizes[-1])))
    noise = jnp.asarray(generator.gamma(2, size=outputs))

    def f(params: Any) -> Any:
        x = cg.node(LINEAR, params[0], name="x0")
        for layer, (m, w) in enumerate(zip(maps, params[1:], strict=True), 1):
            x = cg.node(LINEAR, m @ x + w, name=f"x{layer}")
        return readout @ x

    start, *rest = (Moments(b.mean, jnp.diag(b.variance)) for b in beliefs)
    eyes = [jnp.eye(n) for _, n in pairs]
    reference = LinearGaussian(maps, eyes, rest, start, readout, jnp.diag(noise))
    y = jnp.asarray(generator.normal(size=outputs)) * 3
    return f, beliefs, weights.GaussianHead(jnp.log(noise)), reference, y


def close(got: Any, expected: Any, tolerance: float = 1e-9) -> None:
    """Equal, relative to the largest element."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.usefixtures("float64")
class TestFullCovariance:
    @pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (2, 5, 3, 4, 2)])
    def test_is_the_kalman_smoother(self, sizes):
        f, beliefs, head, reference, y = affine(sizes)
        got = weights.smooth(f, head, covariance="full")(beliefs, y)
        filtered, smoothed = reference.filtered(), reference.smoothed(y).layers
        for layer, (before, after) in enumerate(zip(filtered, smoothed, strict=True)):
            name = f"x{layer}"
            close(got.prior[name].mean, before.mean)
            close(got.prior[name].variance, jnp.diag(before.covariance))
            close(got.posterior[name].mean, after.mean)
            close(got.posterior[name].variance, jnp.diag(after.covariance))
            close(got.innovations()[name], after.mean - before.mean)
        close(got.output.variance, jnp.diag(reference.predicted(filtered[-1]).covariance) - jnp.exp(head.log_noise))

    def test_skip_connections_shared_weights_and_noise_of_nodes(self):
        # x3 = x1 + F (x2 + noise) + w, with w used in two layers: no chain, one joint Gaussian.
        generator = np.random.default_rng(1)
        f2, f3, h = (jnp.asarray(generator.normal(size=(3, 3))) for _ in range(3))

        def f(params: Any, x: Any) -> Any:
            x1 = cg.node(LINEAR, x + params["w"], name="x1")
            x2 = cg.node(cg.nodes.Gaussian(0.7), f2 @ x1 + params["w"], name="x2")
            x3 = cg.node(LINEAR, x1 + f3 @ x2, name="x3")
            return h @ x3

        posterior = {"w": Belief(jnp.ones(3), jnp.asarray([0.5, 1.0, 2.0]))}
        x, y = jnp.arange(3.0), jnp.asarray([3.0, -1.0, 2.0])
        head = weights.GaussianHead(jnp.log(0.3))
        smooth = weights.smooth(f, head, covariance="full", nodes="random")
        got = smooth(posterior, x, y)
        # Roots: w, and the noise of each of the three nodes.
        eye, zero = np.eye(3), np.zeros((3, 3))
        x1 = np.hstack([eye, eye, zero, zero])
        x2 = np.asarray(f2) @ x1 + np.hstack([eye, zero, eye, zero])
        x3 = x1 + np.asarray(f3) @ x2 + np.hstack([zero, zero, zero, eye])
        spread = np.diag(np.r_[[0.5, 1.0, 2.0], np.ones(3), np.full(3, 0.49), np.ones(3)])
        seen = np.asarray(h) @ x3
        gain = spread @ seen.T @ np.linalg.inv(seen @ spread @ seen.T + 0.3 * np.eye(3))
        after = spread - gain @ seen @ spread
        off = np.asarray(y - f(jax.tree.map(lambda b: b.mean, posterior, is_leaf=lambda b: isinstance(b, Belief)), x))
        for name, map_ in {"x1": x1, "x2": x2, "x3": x3}.items():
            close(got.prior[name].variance, np.diag(map_ @ spread @ map_.T))
            close(got.innovations()[name], map_ @ gain @ off)
            close(got.posterior[name].variance, np.diag(map_ @ after @ map_.T))

    def test_categories_by_one_newton_step(self):
        # The Fisher information of logits, inverted by hand.
        f, beliefs, _, reference, _ = affine((2, 3), outputs=4)
        got = weights.smooth(f, weights.CategoricalHead(), covariance="full")(beliefs, jnp.asarray(1))
        before = reference.filtered()[1]
        h, p = np.asarray(reference.readout), jax.nn.softmax(reference.readout @ before.mean)
        information = h.T @ np.asarray(jnp.diag(p) - jnp.outer(p, p)) @ h
        after = np.linalg.inv(np.linalg.inv(before.covariance) + information)
        close(got.posterior["x1"].variance, np.diag(after))
        close(got.innovations()["x1"], after @ h.T @ np.asarray(jnp.eye(4)[1] - p))


def one_layer(outputs, noisy_readout, seed=2):
    generator = np.random.default_rng(seed)
    normal = generator.normal
    x = jnp.asarray(normal(size=(4, 3)))
    params = {
        "w": Belief(jnp.asarray(normal(size=(3, 5))), jnp.asarray(generator.gamma(1, size=(3, 5)))),
        "v": jnp.asarray(normal(size=(5, outputs))),
        "b": Belief(jnp.zeros(outputs), jnp.asarray(generator.gamma(1, size=outputs)) * noisy_readout),
    }

    def f(params: Any, x: Any) -> Any:
        h = cg.node(LINEAR, x @ params["w"], name="hidden")
        return h @ params["v"] + params["b"][None]

    y = jnp.asarray(normal(size=(4, outputs)))
    return f, params, x, y


@pytest.mark.usefixtures("float64")
class TestDiagonal:
    @pytest.mark.parametrize("outputs", [1, 3])
    @pytest.mark.parametrize("order", [1, 2])
    def test_exact_below_one_linear_map(self, outputs, order):
        f, params, x, y = one_layer(outputs, 1.0)
        head = weights.GaussianHead(jnp.log(0.2))
        got = weights.smooth(f, head, order=order)(params, x, y)

        def one(x: Any, y: Any) -> Any:
            return weights.smooth(f, head, covariance="full")(params, x[None], y[None])

        exact = jax.vmap(one)(x, y)
        for name, belief in exact.posterior.items():
            close(got.posterior[name].variance, belief.variance[:, 0])
            close(got.prior[name].variance, exact.prior[name].variance[:, 0])
            off = np.abs(got.posterior[name].mean - belief.mean[:, 0]).max()
            # The gradient's J takes outputs as independent: exact for one output only.
            assert off < 1e-9 if outputs == 1 else off > 1e-3

    def test_the_mean_is_the_gradient_and_rows_are_on_their_own(self):
        f, params, x, y = one_layer(3, 1.0)
        head = weights.GaussianHead(0.0)
        smooth = weights.smooth(f, head)
        got = smooth(params, x, y)
        prior = got.prior["hidden"]

        def loss(mean: Any) -> Any:
            m = mean @ params["v"]
            v = prior.variance @ params["v"] ** 2 + params["b"].variance[None]
            return head.marginal_nll(Belief(m, v), y).sum()

        close(got.innovations()["hidden"], -prior.variance * jax.grad(loss)(prior.mean))
        row = smooth(params, x[1:2], y[1:2])
        close(row.posterior["hidden"].mean[0], got.posterior["hidden"].mean[1])
        close(row.posterior["hidden"].variance[0], got.posterior["hidden"].variance[1])
