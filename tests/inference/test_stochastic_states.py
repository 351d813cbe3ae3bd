"""A recurrent network whose states are random: the exact sum, bounds, and readings without them."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

import cgjax as cg

PARAMETERS = {
    "state": jnp.array([[0.9, -0.4, 0.2], [0.3, 0.8, 0.5], [-0.1, -0.6, 0.7]]),
    "out": jnp.array([1.2, -0.7, 0.9]),
}
X = jnp.array([1.3, 0.1, -0.9, 2.4, 0.6, -1.8, -0.2, 1.1])
NOISE = 1.0


def network(p):
    def step(state, _):
        state = cg.node(cg.nodes.Spin(), state @ p["state"], name="state")
        return state, cg.node(cg.nodes.Gaussian(NOISE), state @ p["out"], name="x")

    return jax.lax.scan(step, jnp.ones(3), None, length=len(X))[1]


def guide(observed, p):
    def step(state, x):
        state = cg.node(cg.nodes.Spin(), state @ p["state"] + 0.4 * x * p["out"], name="state")
        return state, None

    return jax.lax.scan(step, jnp.ones(3), observed["x"])[1]


def forward_pass(p: Any, x: Any) -> Any:
    """log p(x) of the hidden Markov model of all eight states, in float64."""
    states = np.array(list(itertools.product([-1.0, 1.0], repeat=3)))
    weights, out = np.asarray(p["state"], np.float64), np.asarray(p["out"], np.float64)

    def log_probs(before):
        """Of each state, sum_i log sigmoid(2 x_i e_i)."""
        return -np.logaddexp(0, -2 * states * (before @ weights)).sum(-1)

    step: Any = np.stack([log_probs(before) for before in states])
    message: Any = log_probs(np.ones(3))
    for t, value in enumerate(x):
        if t:
            message = logsumexp(message[:, None] + step, axis=0)
        message = message + norm.logpdf(value, states @ out, NOISE)
    return logsumexp(message)


def test_the_sum_over_all_states_is_a_forward_pass_and_bounds_are_below():
    seen, key = {"x": X}, jax.random.key(0)
    evidence = cg.log_evidence(network)
    value, slopes = jax.jit(jax.value_and_grad(lambda p: evidence(seen, p)))(PARAMETERS)
    expected = forward_pass(PARAMETERS, np.asarray(X, np.float64))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    moved = PARAMETERS | {"out": PARAMETERS["out"].at[1].add(1e-2)}
    back = PARAMETERS | {"out": PARAMETERS["out"].at[1].add(-1e-2)}
    difference = forward_pass(moved, X) - forward_pass(back, X)
    np.testing.assert_allclose(slopes["out"][1], difference / 2e-2, rtol=2e-3)

    elbo = cg.elbo(network, guide, num_samples=2000)(key, seen, PARAMETERS)
    tighter = cg.importance_weighted(network, guide, num_samples=20, gradient="vimco")
    each = jax.vmap(tighter, (0, None, None))(jax.random.split(key, 200), seen, PARAMETERS).value
    estimate = cg.log_likelihood(network, guide)(key, seen, PARAMETERS)
    error = float(elbo.log_weights.std()) / 2000**0.5
    spread = float(each.std()) / 200**0.5
    assert elbo.value + 5 * error < each.mean() - 5 * spread < expected
    assert each.mean() < expected + 5 * spread
    assert abs(estimate.mean - expected) < 5 * estimate.standard_error < 1


def test_the_network_of_activations_is_another_model():
    """The same program, its states replaced by their activations: no random states are left."""
    collapsed = cg.log_joint(cg.collapse(network, "state"))({"x": X}, PARAMETERS)
    state, total = np.ones(3), 0.0
    for value in np.asarray(X):
        state = np.tanh(state @ np.asarray(PARAMETERS["state"]))
        total += norm.logpdf(value, state @ np.asarray(PARAMETERS["out"]), NOISE)
    np.testing.assert_allclose(collapsed, total, rtol=1e-5)
    assert abs(total - forward_pass(PARAMETERS, X)) > 0.1
