"""The natural gradient beside Optax's own optimisers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cgjax as cg

POSTERIOR = cg.weights.mean_field({"w": jnp.array([1.0, -2.0])}, 0.5)
GRADIENT = jax.tree.map(lambda x: 0.1 * x + 0.2, POSTERIOR)


def trained(optimiser):
    posterior, state = POSTERIOR, optimiser.init(POSTERIOR)
    for _ in range(3):
        update, state = optimiser.update(GRADIENT, state, posterior)
        posterior = optax.apply_updates(posterior, update)
    return posterior, state


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 0.3},
        {
            "learning_rate": optax.linear_schedule(0.5, 0.0, 2),
            "learning_rate_of_variance": 0.1,
            "number_of_examples": 7,
            "momentum": 0.5,
            "largest_step": 2.0,
        },
    ],
    ids=["numbers", "schedule"],
)
def test_options_may_be_injected(options):
    injected = optax.inject_hyperparams(cg.weights.natural_gradient)(**options)
    right = jax.jit(lambda: trained(cg.weights.natural_gradient(**options))[0])()
    for run in (jax.jit(lambda: trained(injected)), lambda: trained(injected)):
        posterior, state = run()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6), posterior, right)
        assert {"learning_rate", "momentum", "largest_step"} <= set(state.hyperparams)


def test_an_injected_option_may_be_changed():
    optimiser = optax.inject_hyperparams(cg.weights.natural_gradient)(learning_rate=0.3)

    @jax.jit
    def step(rate):
        state = optimiser.init(POSTERIOR)
        state.hyperparams["learning_rate"] = rate
        return optimiser.update(GRADIENT, state, POSTERIOR)[0]

    right = cg.weights.natural_gradient(0.05)
    right, _ = right.update(GRADIENT, right.init(POSTERIOR), POSTERIOR)
    got = step(0.05)
    np.testing.assert_allclose(got["w"].mean, right["w"].mean, 1e-6)
