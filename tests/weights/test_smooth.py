"""Smoothing: the beliefs about a network's nodes once the targets are seen."""

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

import cgjax as cg
from cgjax import Belief, weights
from cgjax.weights import LinearGaussian, Moments
from tests.helpers import filled

pytestmark = pytest.mark.numerics

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


@jax.jit
def _inference(net: LinearGaussian, y: Any) -> Any:
    filtered = net.filtered()
    return filtered, net.smoothed(y).layers, net.predicted(filtered[-1])


def close(got: Any, expected: Any, tolerance: float = 1e-9) -> None:
    """Equal, relative to the largest element."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.usefixtures("float64")
class TestFullCovariance:
    @pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (2, 5, 3, 4, 2)])
    def test_is_the_kalman_smoother(self, sizes):
        f, beliefs, head, reference, y = affine(sizes)
        got = jax.jit(weights.smooth(f, head, covariance="full"))(beliefs, y)
        filtered, smoothed, predicted = _inference(reference, y)
        for layer, (before, after) in enumerate(zip(filtered, smoothed, strict=True)):
            name = f"x{layer}"
            close(got.prior[name].mean, before.mean)
            close(got.prior[name].variance, np.diag(before.covariance))
            close(got.posterior[name].mean, after.mean)
            close(got.posterior[name].variance, np.diag(after.covariance))
            close(got.innovations()[name], np.subtract(after.mean, before.mean))
        close(got.output.variance, np.diag(predicted.covariance) - np.exp(head.log_noise))

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
        got = jax.jit(smooth)(posterior, x, y)
        # Roots: w, and the noise of each of the three nodes.
        eye, zero = np.eye(3), np.zeros((3, 3))
        x1 = np.hstack([eye, eye, zero, zero])
        x2 = np.asarray(f2) @ x1 + np.hstack([eye, zero, eye, zero])
        x3 = x1 + np.asarray(f3) @ x2 + np.hstack([zero, zero, zero, eye])
        spread = np.diag(np.r_[[0.5, 1.0, 2.0], np.ones(3), np.full(3, 0.49), np.ones(3)])
        seen = np.asarray(h) @ x3
        gain = spread @ seen.T @ np.linalg.inv(seen @ spread @ seen.T + 0.3 * np.eye(3))
        after = spread - gain @ seen @ spread
        off = np.asarray(y - jax.jit(f)(weights.means(posterior), x))
        for name, map_ in {"x1": x1, "x2": x2, "x3": x3}.items():
            close(got.prior[name].variance, np.diag(map_ @ spread @ map_.T))
            close(got.innovations()[name], map_ @ gain @ off)
            close(got.posterior[name].variance, np.diag(map_ @ after @ map_.T))

    def test_categories_by_one_newton_step(self):
        # The Fisher information of logits, inverted by hand.
        f, beliefs, _, reference, _ = affine((2, 3), outputs=4)
        smooth = weights.smooth(f, weights.CategoricalHead(), covariance="full")
        got = jax.jit(smooth)(beliefs, jnp.asarray(1))
        before = jax.tree.map(np.asarray, jax.jit(LinearGaussian.filtered)(reference)[1])
        h = np.asarray(reference.readout)
        p = scipy.special.softmax(h @ before.mean)
        information = h.T @ (np.diag(p) - np.outer(p, p)) @ h
        after = np.linalg.inv(np.linalg.inv(before.covariance) + information)
        close(got.posterior["x1"].variance, np.diag(after))
        close(got.innovations()["x1"], after @ h.T @ (np.eye(4)[1] - p))


def one_layer(outputs, noisy_readout, seed=2):
    generator = np.random.default_rng(seed)
    normal = generator.normal
    x = jnp.asarray(normal(size=(4, 3)))
    params = {
        "w": Belief(jnp.asarray(normal(size=(3, 5))), jnp.asarray(generator.gamma(1, size=(3, 5)))),
        "v": jnp.asarray(normal(size=(5, outputs))),
        "b": Belief(
            jnp.zeros(outputs), jnp.asarray(generator.gamma(1, size=outputs)) * noisy_readout
        ),
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

        @jax.jit
        def both(params: Any, x: Any, y: Any) -> Any:
            def one(x: Any, y: Any) -> Any:
                return weights.smooth(f, head, covariance="full")(params, x[None], y[None])

            return weights.smooth(f, head, order=order)(params, x, y), jax.vmap(one)(x, y)

        got, exact = both(params, x, y)
        for name, belief in exact.posterior.items():
            close(got.posterior[name].variance, belief.variance[:, 0])
            close(got.prior[name].variance, exact.prior[name].variance[:, 0])
            off = np.abs(got.posterior[name].mean - belief.mean[:, 0]).max()
            # The gradient's J takes outputs as independent: exact for one output only.
            assert off < 1e-9 if outputs == 1 else off > 1e-3

    def test_the_mean_is_the_gradient_and_rows_are_on_their_own(self):
        f, params, x, y = one_layer(3, 1.0)
        head = weights.GaussianHead(0.0)
        smooth = jax.jit(weights.smooth(f, head))
        got = smooth(params, x, y)
        prior = got.prior["hidden"]

        def loss(mean: Any) -> Any:
            m = mean @ params["v"]
            v = prior.variance @ params["v"] ** 2 + params["b"].variance[None]
            return head.marginal_nll(Belief(m, v), y).sum()

        close(got.innovations()["hidden"], -prior.variance * jax.jit(jax.grad(loss))(prior.mean))
        row = smooth(params, x[1:2], y[1:2])
        close(row.posterior["hidden"].mean[0], got.posterior["hidden"].mean[1])
        close(row.posterior["hidden"].variance[0], got.posterior["hidden"].variance[1])


def mlp(params, x, first=None):
    h = cg.node(first or cg.nodes.ReLU(), x @ params["w1"] + params["b1"][None], name="first")
    h = cg.node(cg.nodes.Spin(), h @ params["w2"], name="second")
    return h @ params["w3"]


def tanh_mlp(params, x):
    return mlp(params, x, cg.nodes.Spin())


def mlp_posterior(outputs, variance=0.05, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    shapes = {"w1": (3, 6), "w2": (6, 5), "w3": (5, outputs)}
    params: Any = {
        name: jax.random.normal(k, s) / s[0] ** 0.5
        for k, (name, s) in zip(keys, shapes.items(), strict=True)
    }
    return weights.mean_field(params | {"b1": jnp.zeros(6)}, {"w*": variance})


X = jax.random.normal(jax.random.key(9), (4, 3))


class TestNonlinear:
    @pytest.mark.parametrize("name", ["gaussian", "categorical"])
    def test_against_importance_sampling(self, name):
        # The posterior of the weights given one target, by weighted draws from the prior.
        outputs, number = (1, 40_000) if name == "gaussian" else (3, 40_000)
        posterior, x = mlp_posterior(outputs, 0.001), X[:1]
        if name == "gaussian":
            head: Any = weights.GaussianHead(math.log(0.001))
            y = tanh_mlp(weights.means(posterior), x) + 0.05
        else:
            head, y = weights.CategoricalHead(), jnp.zeros(1, int)

        def draw(key: Any) -> Any:
            out, nodes = cg.with_nodes(cg.feed_forward(tanh_mlp))(weights.sample(key, posterior), x)
            known = Belief(out, jnp.zeros_like(out))
            return -head.expected_nll(known, y).sum(), nodes

        keys = jax.random.split(jax.random.key(1), number)
        log_weight, nodes = jax.jit(lambda k: jax.lax.map(draw, k, batch_size=10_000))(keys)
        weight = np.exp(np.asarray(log_weight, np.float64))
        weight /= weight.sum()
        for covariance in ("diagonal", "full"):
            smooth = weights.smooth(tanh_mlp, head, covariance=covariance)
            got = jax.jit(smooth)(posterior, x, y)
            for layer, after in got.posterior.items():
                values = np.asarray(nodes[layer], np.float64)[:, 0]
                mean, deviation = weight @ values, values.std(0)
                variance = weight @ (values - mean) ** 2
                off = np.abs(after.mean[0] - mean) / deviation
                share = np.abs(after.variance[0] - variance) / deviation**2
                # 16,000 effective draws have an error of 0.01 deviations and 1 % of a variance; the
                # rest is the curvature of the network, of first order in the weights' variance,
                # and for "diagonal" what the outputs' variance lacks in correlations (measured up
                # to 0.18 deviations and 0.33 of a variance).
                full = covariance == "full"
                assert (off < (0.15 if full else 0.25)).all()
                assert (share < (0.15 if full else 0.4)).all()
                if name == "gaussian":  # whose target is informative
                    moved = np.linalg.norm((mean - values.mean(0)) / deviation)
                    assert np.linalg.norm(off) < (0.3 if full else 0.5) * moved

    @pytest.mark.parametrize("covariance", ["diagonal", "full"])
    @pytest.mark.parametrize("outputs", [1, 10])
    def test_variances_are_between_zero_and_the_prior(self, covariance, outputs):
        # Where differences of variances go negative: hardly any noise, and many outputs.
        head = weights.GaussianHead(-16.0)
        one = jax.jit(weights.smooth(mlp, head, covariance=covariance))
        for seed in range(3):
            posterior = mlp_posterior(outputs, 0.5, seed)
            got = one(posterior, X, jnp.ones((4, outputs)))
            for name, after in got.posterior.items():
                before = got.prior[name].variance
                assert (after.variance >= 0).all() and jnp.isfinite(after.mean).all()
                # Rounding of a sum of squares.
                assert (after.variance <= before * (1 + 1e-5)).all()
                assert (after.variance < 0.999 * before).any()

    @pytest.mark.parametrize("covariance", ["diagonal", "full"])
    def test_dead_units_stay_what_they_are(self, covariance):
        posterior = mlp_posterior(2)
        posterior["b1"] = jnp.array([-1e3, 0.0, -1e3, 0.0, 0.0, 0.0])
        smooth = jax.jit(weights.smooth(mlp, covariance=covariance))
        got = smooth(posterior, X, jnp.ones((4, 2)))
        dead = jax.tree.map(lambda a: a[:, ::2][:, :2], got.posterior["first"])
        assert (dead.mean == 0).all() and (dead.variance == 0).all()
        for leaf in jax.tree.leaves(got):
            assert jnp.isfinite(leaf).all()
        # Nothing uncertain at all: nothing moves.
        got = smooth(weights.means(posterior), X, jnp.ones((4, 2)))
        for name, after in got.posterior.items():
            assert (after.variance == 0).all()
            np.testing.assert_array_equal(after.mean, got.prior[name].mean)

    def test_the_prior_is_what_moments_and_linearisation_say(self):
        posterior = mlp_posterior(1)
        got = weights.smooth(mlp)(posterior, X, jnp.ones((4, 1)))
        out, nodes = jax.jit(cg.with_nodes(cg.moments(mlp)))(posterior, X)
        for name, before in got.prior.items():
            np.testing.assert_allclose(before.variance, nodes[name].variance, rtol=1e-5)
        np.testing.assert_allclose(got.output.variance, out.variance, rtol=1e-5)


class TestOtherNetworks:
    def test_modules_loops_and_transformations(self):
        class Recurrent(nnx.Module):
            def __init__(self, rngs: nnx.Rngs):
                self.step = nnx.Linear(3, 3, rngs=rngs)
                self.norm = nnx.BatchNorm(3, use_running_average=True, rngs=rngs)
                self.top = nnx.Linear(3, 2, rngs=rngs)

            def __call__(self, x: Any) -> Any:
                def step(h: Any, x: Any) -> Any:
                    h = cg.node(cg.nodes.Spin(), x + self.step(h), name="state")
                    return h, None

                h, _ = jax.lax.scan(step, jnp.zeros((x.shape[0], 3)), jnp.swapaxes(x, 0, 1))
                return self.top(self.norm(h))

        f, params, state = cg.functional(filled(lambda: Recurrent(nnx.Rngs(0))))
        posterior = weights.mean_field(params, {"*kernel": 0.05})
        x, y = jax.random.normal(jax.random.key(3), (4, 3, 3)), jnp.ones((4, 2))
        smooth = weights.smooth(f)

        @jax.jit
        def at_once_and_alone(x: Any, y: Any) -> Any:
            one = jax.vmap(lambda x, y: smooth(posterior, state, x[None], y[None]))
            return smooth(posterior, state, x, y), one(x, y)

        got, one = at_once_and_alone(x, y)
        assert got.posterior["state"].mean.shape == (3, 4, 3)  # steps first
        for a, b in zip(*map(jax.tree.leaves, (got, one)), strict=True):
            np.testing.assert_allclose(a, np.moveaxis(b[..., 0, :], 0, -2), rtol=1e-4, atol=1e-6)
        full = jax.jit(weights.smooth(f, covariance="full"))(posterior, state, x[:1], y[:1])
        assert full.posterior["state"].variance.shape == (3, 1, 3)
        assert smooth == weights.smooth(f) and hash(smooth) == hash(weights.smooth(f))

        def size(posterior: Any) -> Any:
            got = smooth(posterior, state, x, y)
            return (got.innovations()["state"] ** 2).sum() + got.posterior["state"].variance.sum()

        for leaf in jax.tree.leaves(jax.jit(jax.grad(size))(posterior)):
            assert jnp.isfinite(leaf).all() and (leaf != 0).any()

    def test_errors(self):
        posterior, y = mlp_posterior(2), jnp.ones((4, 2))
        smooth = weights.smooth(mlp)
        with pytest.raises(ValueError, match="no nodes"):
            weights.smooth(lambda p, x: x @ p["w1"])(posterior, X, jnp.ones((4, 6)))
        with pytest.raises(ValueError, match="targets have shape"):
            smooth(posterior, X, y[:3])
        with pytest.raises(ValueError, match="Labels"):
            weights.smooth(mlp, weights.CategoricalHead())(posterior, X, jnp.ones(3, int))
        with pytest.raises(TypeError, match="the targets"):
            smooth(posterior)
        with pytest.raises(TypeError, match="returns one array"):
            weights.smooth(lambda p, x: (mlp(p, x), x))(posterior, X, y)
        with pytest.raises(TypeError, match="floating-point outputs"):
            weights.smooth(lambda p, x: mlp(p, x).argmax(-1))(posterior, X, jnp.ones(4, int))
        with pytest.raises(ValueError, match="axis of the 4 examples"):
            weights.smooth(lambda p, x: mlp(p, x[:1]) + x[:, :2])(posterior, X, y)
        with pytest.raises(ValueError, match="a leading axis of examples"):
            weights.smooth(lambda p, x: mlp(p, x)[0, 0])(posterior, X, jnp.ones(()))
        with pytest.raises(TypeError, match="already"):
            cg.with_nodes(smooth)
        with pytest.raises(ValueError, match="order=1"):
            weights.smooth(mlp, jacobian="frozen")
        build: Any = inspect.unwrap(weights.smooth)  # without the checks of annotations
        with pytest.raises(ValueError, match="jacobian is"):
            build(mlp, jacobian="constant")
        with pytest.raises(ValueError, match="covariance is"):
            build(mlp, covariance="banded")
