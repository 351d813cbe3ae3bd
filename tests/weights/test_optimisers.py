"""The natural gradient beside Optax's own optimisers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cgjax as cg

POSTERIOR = cg.weights.mean_field({"w": jnp.array([1.0, -2.0])}, 0.5)
GRADIENT = jax.tree.map(lambda x: 0.1 * x + 0.2, POSTERIOR)


def trained(optimiser: Any) -> tuple[Any, Any]:
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
    injected: Any = optax.inject_hyperparams(cg.weights.natural_gradient)(**options)
    right = jax.jit(lambda: trained(cg.weights.natural_gradient(**options))[0])()
    for run in (jax.jit(lambda: trained(injected)), lambda: trained(injected)):
        posterior, state = run()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6), posterior, right)
        assert {"learning_rate", "momentum", "largest_step"} <= set(state.hyperparams)


def test_an_injected_option_may_be_changed():
    optimiser: Any = optax.inject_hyperparams(cg.weights.natural_gradient)(learning_rate=0.3)

    @jax.jit
    def step(rate):
        state = optimiser.init(POSTERIOR)
        state.hyperparams["learning_rate"] = rate
        return optimiser.update(GRADIENT, state, POSTERIOR)[0]

    plain: Any = cg.weights.natural_gradient(0.05)
    right, _ = plain.update(GRADIENT, plain.init(POSTERIOR), POSTERIOR)
    got = step(0.05)
    np.testing.assert_allclose(got["w"].mean, right["w"].mean, 1e-6)


@pytest.mark.parametrize("shape", [(60, 4), (3, 5, 8, 2), (60,), ()])
def test_a_step_moves_no_output_by_more_than_its_largest_step(shape):
    """In posterior deviations of the output, for inputs of any size, whatever the gradient."""
    keys = jax.random.split(jax.random.key(3), 4)
    posterior = cg.weights.Normal(
        jax.random.normal(keys[0], shape), 3 * jax.random.normal(keys[1], shape) - 6
    )
    # All weights pull one way: the case in which bounds for each of them add up.
    gradient = cg.weights.Normal(1e6 * jnp.sqrt(posterior.variance), jnp.zeros(shape))
    optimiser: Any = cg.weights.natural_gradient(1.0, largest_step=0.5)
    update, _ = optimiser.update(gradient, optimiser.init(posterior), posterior)
    units = shape[-1] if len(shape) > 1 else 1
    step, variance = (np.reshape(a, (-1, units)) for a in (update.mean, posterior.variance))
    inputs = np.concatenate(
        [
            30 * np.abs(jax.random.normal(keys[2], (20, len(step)))),
            # The inputs for which the bound is reached.
            np.ones((units, len(step))) * (step / variance).T,
        ]
    )
    moved = np.abs(inputs @ step) / np.sqrt(inputs**2 @ variance)
    assert moved.max() <= 0.5 * (1 + 1e-4)  # float32
    np.testing.assert_allclose(moved.max(), 0.5, rtol=1e-4)  # it is no smaller than it must be


def test_a_small_step_is_left_as_it_is():
    steps = []
    for largest in (1.0, 1e3, np.inf):
        optimiser: Any = cg.weights.natural_gradient(0.01, largest_step=largest)
        steps.append(optimiser.update(GRADIENT, optimiser.init(POSTERIOR), POSTERIOR)[0]["w"].mean)
    np.testing.assert_allclose(steps[0], steps[1], rtol=1e-6)
    np.testing.assert_allclose(steps[0], steps[2], rtol=1e-6)


def test_a_row_far_from_the_others_keeps_its_noise_sane():
    """A row 30 deviations out, whose noise the network computes: with a bound of one deviation for
    each weight its log-variance moves 5.5 deviations in a step, and ends at a density of e^-16."""
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (100, 30)).at[0].multiply(30.0)
    y = x[:, 0] + 0.1 * jax.random.normal(keys[1], (100,))
    head = cg.weights.HeteroscedasticHead()
    predict = cg.weights.deterministic(lambda params, x: x @ params["w"])
    posterior = cg.weights.mean_field({"w": jnp.zeros((30, 2))}, 1e-3)
    optimiser: Any = cg.weights.natural_gradient(0.3, 0.03, number_of_examples=100)

    def loss(posterior: Any) -> Any:
        return cg.weights.elbo(head, predict(None, posterior, x), y, posterior).per_example(100)

    def step(carry: Any, _: None) -> Any:
        posterior, state = carry
        update, state = optimiser.update(jax.grad(loss)(posterior), state, posterior)
        new = optax.apply_updates(posterior, update)
        before, after = predict(None, posterior, x), predict(None, new, x)
        moved = jnp.abs(after.mean - before.mean) / jnp.sqrt(before.variance)
        return (new, state), moved.max()

    (end, _), moved = jax.jit(lambda carry: jax.lax.scan(step, carry, length=300))(
        (posterior, optimiser.init(posterior))
    )
    assert moved.max() <= 1.001  # float32
    assert head.marginal_nll(predict(None, end, x), y)[0] < 6
