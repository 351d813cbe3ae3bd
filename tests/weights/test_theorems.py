"""The equations of [B] in their corrected form, in float64.

What the library computes is held to two oracles that know nothing of the recursions: the joint
Gaussian of all weights, layers and observations, conditioned on y, of `docs.equations`; and the
derivative of -log p(y). Each equation, printed and corrected, is in `test_equations.py`.
"""

import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgjax import Belief, metrics, weights
from cgjax.weights import LinearGaussian, Moments
from docs.equations import SIZES, known, network, residuals

pytestmark = pytest.mark.numerics


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def covariance(generator: Any, size: int) -> Any:
    root = generator.normal(size=(size, size + 2))
    return root @ root.T / size


def close(got: Any, expected: Any, tolerance: float = 1e-9) -> None:
    """Equal, relative to the largest element."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def arrays(values: Any) -> Any:
    """As numpy arrays, whose operations are not compiled."""
    return jax.tree.map(np.asarray, values)


def residual(got: Any, expected: Any) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@partial(jax.jit, static_argnums=2)
def scores(net: LinearGaussian, y: Any, layer: int, x: Any) -> tuple[Any, Any]:
    """Gradient and Hessian of log p(y | x_l), for a known x_l."""

    def log_likelihood(value: Any) -> Any:
        return -net.loss(y, layer, Moments(value, jnp.zeros((len(value), len(value)))))

    return jax.grad(log_likelihood)(x), jax.hessian(log_likelihood)(x)


# One program for each of the two networks.
_inference = jax.jit(lambda net, y: (net.filtered(), net.smoothed(y)))
_gains = jax.jit(LinearGaussian.gains)


@cache
def inference(name: str) -> tuple[LinearGaussian, Any, list[Moments], Any]:
    """A network whose weights depend on each other, an observation, and the beliefs."""
    net, y = network(name, 0)
    weights = [w._replace(covariance=w.covariance + jnp.outer(w.mean, w.mean)) for w in net.weights]
    net = net._replace(weights=weights)
    return net, y, *arrays(_inference(net, y))


@pytest.fixture(params=SIZES)
def case(request: Any) -> Any:
    return inference(request.param)


def test_beliefs_against_the_joint_gaussian(case):
    net, y, filtered, smoothed = case
    found = known(net, y)
    for got, expected in (
        (filtered, found.before),  # Eq. 4 and 5
        (smoothed.layers, found.after),
        (smoothed.weights, found.weights),
    ):
        for one, other in zip(got, expected, strict=True):
            close(one.mean, other.mean)
            close(one.covariance, other.covariance)


def test_corrected_equations_of_weights_that_depend_on_each_other(case):
    net, y, *_ = case
    # Float64, where P_l is inverted.
    assert max(corrected for _, _, corrected in residuals(net, y)) < 1e-9


def test_no_smoothed_covariance_exceeds_the_filtered(case):
    _, _, x, smoothed = case
    for before, after in zip(x, smoothed.layers, strict=True):
        assert np.linalg.eigvalsh(before.covariance - after.covariance).min() > -1e-9
        assert np.linalg.eigvalsh(after.covariance).min() > 0


def test_gain_forms_collapse_to_the_jacobians(case):
    net, _, x, _ = case
    of_layers, of_weights = arrays(_gains(net))
    for i, (f, b, w) in enumerate(zip(net.transitions, net.loadings, net.weights, strict=True)):
        p, after = x[i].covariance, x[i + 1].covariance
        close(np.linalg.solve(p, of_layers[i]) @ after, f.T)
        close(np.linalg.solve(w.covariance, of_weights[i]) @ after, b.T)


class TestTheorem2:
    def test_2_score_and_hessian(self, case):
        net, y, x, smoothed = case
        for layer, (prior, after) in enumerate(zip(x, smoothed.layers, strict=True)):
            value = prior.mean - 0.2
            inverse, inverse_after = map(np.linalg.inv, (prior.covariance, after.covariance))
            score, hessian = arrays(scores(net, y, layer, value))
            likelihood = inverse @ (value - prior.mean) - inverse_after @ (value - after.mean)
            close(score, likelihood)
            close(hessian, inverse - inverse_after)

    def test_3_without_noise_it_is_backpropagation(self):
        net, y, *_ = inference("square")
        errors = []
        for scale in (1e-3, 1e-5, 1e-7):
            weights = [Moments(w.mean, scale * w.covariance) for w in net.weights]
            small = net._replace(weights=weights)
            x = small.filtered(0, Moments(net.inputs.mean, 0 * net.inputs.covariance))
            score, _ = scores(small, y, 1, x[1].mean)
            after, _ = scores(small, y, 2, x[2].mean)
            errors.append(residual(net.transitions[1].T @ after, score))
        # Of first order in the weights' variance.
        assert errors[0] < 1 and errors[1] < 0.03 * errors[0] and errors[2] < 0.03 * errors[1]


def test_a_skip_connection_needs_the_joint_state():
    # x_3 = x_1 + F x_2 + B w: only the pair of what crosses the cut separates x_1 from y.
    generator = np.random.default_rng(3)
    f2, f3, h = (generator.normal(size=(3, 3)) for _ in range(3))
    p1, q2, q3, r = (covariance(generator, 3) for _ in range(4))
    m1, y = (generator.normal(size=3) for _ in range(2))

    def loss(m1: Any, p1: Any) -> Any:
        through = jnp.eye(3) + f3 @ f2
        s = h @ (through @ p1 @ through.T + f3 @ q2 @ f3.T + q3) @ h.T + r
        off = y - h @ through @ m1
        return (off @ jnp.linalg.solve(s, off) + jnp.linalg.slogdet(2 * jnp.pi * s)[1]) / 2

    # The exact posterior mean of x_1, from the joint Gaussian of (x_1, y).
    through = np.eye(3) + f3 @ f2
    s = h @ (through @ p1 @ through.T + f3 @ q2 @ f3.T + q3) @ h.T + r
    exact = m1 + p1 @ through.T @ h.T @ np.linalg.solve(s, y - h @ through @ m1)
    close(
        m1 - p1 @ np.asarray(jax.jit(jax.grad(loss))(m1, p1)), exact
    )  # autodiff needs nothing else
    # The gain of a chain, through x_2 alone, is wrong; that of the pair (x_2, x_3) is right.
    across = np.concatenate([p1 @ f2.T, p1 @ through.T], axis=1)
    c22 = f2 @ p1 @ f2.T + q2
    c23 = f2 @ p1 @ through.T + q2 @ f3.T
    c33 = through @ p1 @ through.T + f3 @ q2 @ f3.T + q3
    joint = np.block([[c22, c23], [c23.T, c33]])
    seen = np.concatenate([c23, c33]) @ h.T
    innovation = seen @ np.linalg.solve(s, y - h @ through @ m1)
    close(m1 + across @ np.linalg.solve(joint, innovation), exact)
    alone = p1 @ f2.T @ np.linalg.solve(c22, innovation[:3])
    assert residual(m1 + alone, exact) > 0.05


class TestHiddenMarkovModel:
    """Theorem 1 for an exponential family that is not Gaussian: a small discrete chain."""

    def chain(self) -> Any:
        generator = np.random.default_rng(5)
        start = generator.dirichlet(np.ones(4))
        steps = [generator.dirichlet(np.ones(4), size=4) for _ in range(3)]
        emission = generator.dirichlet(np.ones(3), size=4)[:, 1]  # p(y | x_L) of the y that is seen
        return start, steps, emission

    def test_canonical_gradients_and_messages(self):
        start, steps, emission = self.chain()
        beliefs = [start]
        for step in steps:
            beliefs.append(beliefs[-1] @ step)
        likelihoods = [emission]
        for step in steps[::-1]:
            likelihoods.append(step @ likelihoods[-1])
        likelihoods = likelihoods[::-1]
        for layer, (belief, likelihood) in enumerate(zip(beliefs, likelihoods, strict=True)):
            smoothed = belief * likelihood / (belief @ likelihood)

            def loss(theta: Any, layer: int = layer) -> Any:
                # Minimal: the last class has theta = 0; T is the indicator of the others.
                p = jax.nn.softmax(jnp.concatenate([theta, jnp.zeros(1)]))
                for step in steps[layer:]:
                    p = p @ step
                return -jnp.log(p @ emission)

            theta = np.log(belief[:-1] / belief[-1])
            close(jax.jit(jax.grad(loss))(theta), (belief - smoothed)[:-1])
            if layer == len(steps):
                continue

            # Backpropagation through (theta_l, mu_l, mu_{l+1}, theta_{l+1}) is message passing.
            def means(theta: Any) -> Any:
                return jax.nn.softmax(jnp.concatenate([theta, jnp.zeros(1)]))[:-1]

            def onward(mu: Any, layer: int = layer) -> Any:
                return (jnp.concatenate([mu, 1 - mu.sum(keepdims=True)]) @ steps[layer])[:-1]

            after = beliefs[layer + 1]
            later = after * likelihoods[layer + 1] / (after @ likelihoods[layer + 1])
            by_theta = (after - later)[:-1]

            def natural(mu: Any) -> Any:
                return jnp.log(mu / (1 - mu.sum()))

            canonical, by_means, by_onward = (
                np.asarray(jax.jit(jax.jacobian(f))(at))
                for f, at in ((natural, after[:-1]), (means, theta), (onward, belief[:-1]))
            )
            chain = by_means.T @ by_onward.T
            close(chain @ canonical.T @ by_theta, (belief - smoothed)[:-1])


class TestDefinitions:
    """Equations 2 and 3, and what the text says of energy and uncertainty."""

    def regression(self) -> Any:
        """Linear regression with orthogonal inputs, whose exact posterior is mean-field."""
        generator = np.random.default_rng(7)
        x = np.linalg.qr(generator.normal(size=(6, 3)))[0] * np.array([1.0, 2.0, 3.0])
        y, r = generator.normal(size=6), 0.3
        precision = (x**2).sum(0) / r + 1
        exact = Belief(jnp.asarray(x.T @ y / r / precision), jnp.asarray(1 / precision))
        return jnp.asarray(x), jnp.asarray(y), r, exact

    def test_equation_2_at_the_exact_posterior(self):
        x, y, r, exact = self.regression()
        head = weights.GaussianHead(math.log(r))

        def bound(posterior: Any) -> Any:
            output = weights.deterministic(lambda w, x: x @ w)(None, posterior, x)
            return weights.elbo(head, output, y, posterior, 1.0).per_example(len(y)) * len(y)

        value, gradient = jax.jit(jax.value_and_grad(bound))(exact)
        s = x @ x.T + r * jnp.eye(len(y))
        evidence = (y @ jnp.linalg.solve(s, y) + jnp.linalg.slogdet(2 * jnp.pi * s)[1]) / 2
        close(value, evidence, 1e-12)  # -log p(y)
        assert max(float(jnp.abs(g).max()) for g in gradient) < 1e-9
        # J = -log p(y|x, W), so the energy is J - log p(W), with the sign that print has not.
        w = jnp.asarray([0.3, -1.0, 2.0])

        def joint(w: Any) -> Any:
            off = y - x @ w
            return -(off @ off) / (2 * r) - w @ w / 2

        energy = jax.grad(lambda w: -joint(w))(w)
        j = jax.grad(lambda w: head.marginal_nll(Belief(x @ w, jnp.zeros(6)), y).sum())(w)
        close(j + w, energy, 1e-12)

    def test_uncertainty_is_not_the_expected_log_probability(self):
        # The entropy of the ensemble is more than the expected entropy of its members; the
        # difference is what the weights are uncertain about.
        logits = np.random.default_rng(8).normal(size=(5, 1, 4)) * 2
        log_p = jax.nn.log_softmax(jnp.asarray(logits))
        average = jnp.exp(log_p).mean(0)
        total = -(average * jnp.log(average)).sum()
        aleatoric = metrics.entropy(log_p).mean()
        epistemic = metrics.mutual_information(log_p)[0]
        close(aleatoric + epistemic, total, 1e-12)
        close(metrics.entropy(metrics.model_average(log_p))[0], total, 1e-12)
        assert total > 1.05 * aleatoric

    def test_equation_3_is_of_second_order(self):
        generator = np.random.default_rng(9)
        w, x = jnp.asarray(generator.normal(size=(3, 3))), jnp.asarray(generator.normal(size=3))
        direction = [jnp.asarray(generator.normal(size=a.shape)) for a in (w, x)]

        def layer(w: Any, x: Any) -> Any:
            return jnp.tanh(w @ x)

        _, tangent = jax.jvp(layer, (w, x), tuple(direction))
        errors = [
            jnp.abs(
                layer(w + h * direction[0], x + h * direction[1]) - layer(w, x) - h * tangent
            ).max()
            for h in (1e-1, 1e-2, 1e-3)
        ]
        assert errors[1] < 0.02 * errors[0] and errors[2] < 0.02 * errors[1]

    def test_element_wise_variances_are_exact_for_two_layers(self):
        # [B] Algorithm 1 drops the correlations that the second layer's elements have.
        net, *_ = inference("square")
        start = Moments(net.inputs.mean, 0 * net.inputs.covariance)
        inputs = [Moments(w.mean, jnp.diag(jnp.diag(w.covariance))) for w in net.weights]
        eyes = [jnp.eye(3)] * len(inputs)  # each weight feeds one node
        net = net._replace(inputs=start, weights=inputs, loadings=eyes)
        p, off = jnp.zeros(3), []
        for f, w, exact in zip(net.transitions, inputs, net.filtered()[1:], strict=True):
            p = f**2 @ p + jnp.diag(w.covariance)
            off.append(residual(p, jnp.diag(exact.covariance)))
        assert max(off[:2]) < 1e-12 and off[2] > 0.01

    def test_a_skip_connection_adds_covariances(self):
        # Var(x_1 + F x_2 + w) has 2 Cov(x_1, F x_2); without it the sum of variances is off.
        generator = np.random.default_rng(4)
        f2, f3 = (generator.normal(size=(3, 3)) for _ in range(2))
        p1, q2, q3 = (covariance(generator, 3) for _ in range(3))
        through = np.eye(3) + f3 @ f2
        exact = through @ p1 @ through.T + f3 @ q2 @ f3.T + q3
        apart = p1 + f3 @ (f2 @ p1 @ f2.T + q2) @ f3.T + q3
        cross = p1 @ f2.T @ f3.T
        close(apart + cross + cross.T, exact)
        assert residual(np.diag(apart), np.diag(exact)) > 0.05
