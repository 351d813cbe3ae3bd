"""Likelihood heads, objectives, and the optimisers of posteriors."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import norm

from cgjax import Belief, weights
from cgjax.weights import Normal

pytestmark = pytest.mark.numerics

HEADS = {
    "gaussian": weights.GaussianHead(-0.5),
    "heteroscedastic": weights.HeteroscedasticHead(),
    "categorical": weights.CategoricalHead(),
}
KEY = jax.random.key(0)


def log_likelihood(name, f, y):
    if name == "categorical":
        return np.take_along_axis(log_softmax(f, -1), y[..., None], -1)[..., 0]
    if name == "gaussian":
        return norm.logpdf(y, f, np.exp(-0.25))
    return norm.logpdf(y, f[..., 0], np.exp(f[..., 1] / 2))


def case(name, variance):
    shape = {"gaussian": (6,), "heteroscedastic": (6, 2), "categorical": (6, 5)}[name]
    mean = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    y = np.arange(6) % 5 if name == "categorical" else np.linspace(-1.0, 1.0, 6, dtype=np.float32)
    return Belief(jnp.asarray(mean), jnp.full(shape, variance)), jnp.asarray(y)


@pytest.mark.parametrize("name", HEADS)
class TestHeads:
    def test_known_outputs_give_the_ordinary_likelihood(self, name):
        output, y = case(name, 0.0)
        expected = -log_likelihood(name, np.asarray(output.mean), np.asarray(y))
        np.testing.assert_allclose(HEADS[name].expected_nll(output, y), expected, 1e-5, 1e-5)
        np.testing.assert_allclose(HEADS[name].marginal_nll(output, y), expected, 1e-5, 1e-5)

    def test_against_monte_carlo(self, name):
        output, y = case(name, 0.5)
        noise = np.random.default_rng(1).normal(size=(100_000, *output.mean.shape))
        logs = log_likelihood(name, np.asarray(output.mean) + 0.5**0.5 * noise, np.asarray(y)[None])
        error = 5 * logs.std(0) / 100_000**0.5
        # Gaussian noise is exact; a log-sum-exp is approximated to second order.
        bias = 0.02 if name == "categorical" else 1e-5
        assert (np.abs(HEADS[name].expected_nll(output, y) + logs.mean(0)) < error + bias).all()
        if name != "heteroscedastic":  # whose marginal is a Gaussian of the same variance
            p = np.exp(logs)
            error = 5 * p.std(0) / p.mean(0) / 100_000**0.5
            got = HEADS[name].marginal_nll(output, y)
            assert (np.abs(got + np.log(p.mean(0))) < error + bias).all()

    def test_errors(self, name):
        output, y = case(name, 0.5)
        with pytest.raises(ValueError, match="targets|[Ll]abels"):
            HEADS[name].expected_nll(output, jnp.zeros((3, 3), y.dtype))

    def test_takes_a_belief(self, name):
        output, y = case(name, 0.5)
        # Below the check of annotations that runs in tests.
        expected_nll = inspect.unwrap(type(HEADS[name]).expected_nll)
        with pytest.raises(TypeError, match="takes a belief about the outputs"):
            expected_nll(HEADS[name], output.mean, y)


def test_noise_does_not_enlarge_the_targets():
    output, y = case("gaussian", 0.5)
    head = weights.GaussianHead(jnp.zeros((7, 6)))
    for call in (head.expected_nll, head.marginal_nll, lambda output, y: head.predict(output)):
        with pytest.raises(ValueError, match="log_noise has shape"):
            call(output, y)


def test_a_label_that_is_no_class_has_no_likelihood():
    output, _ = case("categorical", 0.5)
    y = jnp.array([-1, 0, 4, 5, -5, 1])
    for nll in (HEADS["categorical"].expected_nll, HEADS["categorical"].marginal_nll):
        wrong = [True, False, False, True, True, False]
        np.testing.assert_array_equal(np.isnan(nll(output, y)), wrong)


def test_options_of_the_loss():
    loss = weights.Loss(jnp.ones(()), jnp.ones(()))
    assert loss.per_example(4, temperature=0) == 1
    with pytest.raises(ValueError, match="number_of_examples is positive"):
        loss.per_example(0)
    with pytest.raises(ValueError, match="temperature is at least 0"):
        loss.per_example(4, temperature=-0.5)


def test_predictions():
    output, _ = case("heteroscedastic", 0.3)
    prediction = HEADS["heteroscedastic"].predict(output)
    normal = np.random.default_rng(2).normal
    f = np.asarray(output.mean) + 0.3**0.5 * normal(size=(200_000, 6, 2))
    y = f[..., 0] + np.exp(f[..., 1] / 2) * normal(size=(200_000, 6))
    np.testing.assert_allclose(prediction.variance, y.var(0), rtol=0.05)  # heavy tails
    logits, _ = case("categorical", 2.0)
    p = HEADS["categorical"].predict(logits)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
    f = np.asarray(logits.mean) + 2.0**0.5 * normal(size=(100_000, 6, 5))
    np.testing.assert_allclose(p, softmax(f, -1).mean(0), atol=0.02)
    with pytest.raises(ValueError, match="last axis of size 2"):
        HEADS["heteroscedastic"].predict(logits)


@functools.lru_cache
def noise():
    return jax.random.normal(jax.random.key(2), (4000, 200, 10))


@jax.jit
def normalisers(mean, spread, noise):
    """The error of each approximation, and of the truth five standard errors."""
    sampled = jax.nn.logsumexp(mean[None] + jnp.sqrt(spread)[None] * noise, -1)
    truth, error = sampled.mean(0), 5 * sampled.std(0) / 4000**0.5
    functions = weights.matched, weights.second_order, weights.jensen, weights.tilted
    return {f.__name__: f(mean, spread) - truth for f in functions}, error


@pytest.mark.parametrize("variance", [0.1, 1.0, 5.0])
def test_log_normalisers(variance):
    # The error of each, over 200 random sets of ten logits; bounds are above the truth.
    mean = jax.random.normal(KEY, (200, 10))
    spread = variance * jax.random.exponential(jax.random.key(1), (200, 10))
    off, error = normalisers(mean, spread, noise())
    assert (off["jensen"] > -error).all() and (off["tilted"] > -error).all()
    size = {name: float(jnp.abs(o).mean()) for name, o in off.items()}
    allowed = {0.1: 0.005, 1.0: 0.03, 5.0: 0.35}[variance]
    assert size["matched"] < allowed and size["second_order"] < 1.5 * allowed
    assert size["tilted"] < size["jensen"]
    np.testing.assert_allclose(
        weights.tilted(mean, 0 * spread), np.asarray(logsumexp(np.asarray(mean), -1)), 1e-5
    )


def regression(number, dimensions=3, noise=0.3):
    """Inputs, targets, and the exact posterior of the weights with the prior N(0, 1)."""
    normal = np.random.default_rng(number).normal
    x = normal(size=(number, dimensions)) * np.array([[1.0, 2.0, 0.5]])
    y = x @ normal(size=dimensions) + noise**0.5 * normal(size=number)
    precision = x.T @ x / noise + np.eye(dimensions)
    mean = np.linalg.solve(precision, x.T @ y / noise)
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), mean, precision


def linear(params, x):
    return x @ params["w"]


def losses(objective, x, y, noise=0.3):
    head = weights.GaussianHead(jnp.log(noise))

    def loss(posterior):
        output = weights.deterministic(linear)(None, posterior, x)
        return objective(head, output, y, posterior).per_example(len(y))

    return loss


def descend(loss, posterior, optimiser, steps) -> Any:
    def step(carry, _):
        posterior, state = carry
        gradient = jax.grad(loss)(posterior)
        updates, state = optimiser.update(gradient, state, posterior)
        return (optax.apply_updates(posterior, updates), state), None

    run = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), None, steps)[0][0])
    return run(posterior)


class TestOptima:
    """MATH: which objective has which optimum, on conjugate regression."""

    def test_natural_gradient_reaches_the_mean_field_posterior(self):
        x, y, mean, precision = regression(20)
        start = weights.mean_field({"w": jnp.zeros(3)}, 1.0)
        optimiser = weights.natural_gradient(0.3, number_of_examples=20, momentum=0.0)
        w = descend(losses(weights.elbo, x, y), start, optimiser, 300)["w"]
        np.testing.assert_allclose(w.mean, mean, atol=1e-3 * np.abs(mean).max())
        # The mean-field optimum has the inverse of the precision's diagonal.
        np.testing.assert_allclose(w.variance, 1 / np.diag(precision), rtol=1e-3)

    @pytest.mark.parametrize(("number", "least", "most"), [(20, 2, 5), (100, 4, 9), (1000, 6, 50)])
    def test_the_marginal_objective_has_another_optimum(self, number, least, most):
        x, y, _, precision = regression(number)
        start = weights.mean_field({"w": jnp.zeros(3)}, 0.1)
        loss = losses(weights.marginal, x, y)
        w = descend(loss, start, optax.adam(0.02), 4000)["w"]
        ratio = np.median(w.variance / np.diag(np.linalg.inv(precision)))
        assert least < ratio < most

    def test_one_pass_of_assumed_density_filtering(self):
        x, y, mean, precision = regression(100)
        head, optimiser = weights.GaussianHead(jnp.log(0.3)), weights.assumed_density()

        def step(posterior: Any, example: Any) -> Any:
            def loss(posterior: Any) -> Any:
                output = weights.deterministic(linear)(None, posterior, example[0][None])
                return head.marginal_nll(output, example[1][None])[0]

            updates, _ = optimiser.update(
                jax.grad(loss)(posterior), optimiser.init(posterior), posterior
            )
            return optax.apply_updates(posterior, updates), None

        start = weights.mean_field({"w": jnp.zeros(3)}, 1.0)
        end: Any = jax.jit(lambda start: jax.lax.scan(step, start, (x, y))[0])(start)
        w = end["w"]
        exact = np.diag(np.linalg.inv(precision))
        assert 0.9 < np.median(w.variance / exact) < 1.3
        assert (np.abs(w.mean - mean) < 2 * np.sqrt(exact)).all()


class TestNaturalGradient:
    def test_variances_stay_positive_whatever_the_gradients(self):
        optimiser = weights.natural_gradient(1.0)
        posterior = {"w": Normal(jnp.zeros(100), jnp.zeros(100))}
        state = optimiser.init(posterior)

        def step(carry: Any, key: Any) -> Any:
            posterior, state = carry
            a, b = jax.random.split(key)
            size = 10 ** jax.random.uniform(a, (100,), minval=-6, maxval=8)
            gradient = {
                "w": Normal(
                    size * jax.random.normal(a, (100,)), size * jax.random.normal(b, (100,))
                )
            }
            updates, state = optimiser.update(gradient, state, posterior)
            new: Any = optax.apply_updates(posterior, updates)
            before, after = posterior["w"], new["w"]
            # A step is at most one deviation, but for rounding of the mean.
            most = jnp.sqrt(before.variance) * (1 + 1e-5) + 1e-6 * jnp.abs(before.mean)
            small = jnp.abs(after.mean - before.mean) <= most
            return (new, state), (after.variance, small)

        keys = jax.random.split(KEY, 2000)
        (posterior, _), (variances, small) = jax.jit(lambda p, s: jax.lax.scan(step, (p, s), keys))(
            posterior, state
        )
        assert (variances > 0).all() and jnp.isfinite(variances).all()
        assert jnp.isfinite(posterior["w"].mean).all()
        assert small.all()

    def test_beside_another_optimiser_with_a_schedule(self):
        x, y, _, precision = regression(50)
        head_of = weights.GaussianHead

        def loss(params: Any) -> Any:
            output = weights.deterministic(linear)(None, {"w": params["w"]}, x)
            parts = weights.elbo(head_of(params["log_noise"]), output, y, {"w": params["w"]})
            return parts.per_example(50)

        start = {**weights.mean_field({"w": jnp.zeros(3)}, 0.1), "log_noise": jnp.zeros(())}
        optimiser = optax.partition(
            {
                "uncertain": weights.natural_gradient(
                    optax.linear_schedule(0.1, 0.02, 500), 0.05, number_of_examples=50
                ),
                "certain": optax.adam(0.02),
            },
            weights.partition_labels,
        )
        end = descend(loss, start, optimiser, 1000)
        residual = float(((y - x @ end["w"].mean) ** 2).mean())
        assert abs(jnp.exp(end["log_noise"]) - residual) < 0.1 * residual
        expected = 1 / (np.diag(precision) - 1) * float(jnp.exp(end["log_noise"])) / 0.3
        np.testing.assert_allclose(end["w"].variance, expected, rtol=0.05)

    def test_errors(self):
        posterior = weights.mean_field({"w": jnp.zeros(3)}, 1.0)
        optimiser = weights.natural_gradient(0.1)
        with pytest.raises(ValueError, match="needs the parameters"):
            optimiser.update(posterior, optimiser.init(posterior))
        with pytest.raises(TypeError, match="optax.partition"):
            optimiser.init({"w": jnp.zeros(3)})
        with pytest.raises(ValueError, match="positive"):
            weights.natural_gradient(0.0)
        with pytest.raises(ValueError, match="momentum"):
            weights.natural_gradient(0.1, momentum=1.0)
        with pytest.raises(ValueError, match="needs the parameters"):
            weights.assumed_density().update(posterior, optax.EmptyState())
