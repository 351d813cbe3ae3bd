"""Recipes: against the tables of the published runs, and against plain Python loops."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cgjax import metrics
from train.engine import loop
from train.engine.loop import Data, Learner, Variables
from train.engine.recipes import PatientRecipe, PlateauRecipe, SteppedRecipe


def figures(error):
    return loop.Record(*[jnp.float32(error)] * 5)


def rates(recipe, epochs):
    """Learning rate and weight decay of each epoch."""
    progress, found = recipe.begin(), []
    advance = jax.jit(recipe.advance)
    for epoch in range(epochs):
        found.append((float(progress.learning_rate), float(progress.weight_decay)))
        progress, verdict = advance(progress, figures(1.0), jnp.int32(epoch + 1))
        assert not verdict.stops and not verdict.back
        assert bool(verdict.improved) == (epoch == 0)
    return np.array(found)


def test_the_schedule_of_the_residual_networks():
    recipe = SteppedRecipe()
    assert recipe.last_epoch == 250
    # As the published code was seen to train, by the number of the epoch from 0.
    expected = np.empty((250, 2))
    for first, rate, decay in [
        (0, 0.1, 1e-4),
        (100, 0.01, 1e-4),
        (150, 0.001, 1e-4),
        (151, 0.001, 1e-5),
        (200, 1e-4, 1e-5),
        (201, 1e-4, 1e-6),
    ]:
        expected[first:] = rate, decay
    np.testing.assert_allclose(rates(recipe, 250), expected, rtol=1e-6)  # float32


def test_a_shorter_schedule_is_the_same_in_proportion():
    found = rates(SteppedRecipe(length=25), 25)
    expected = [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4]
    np.testing.assert_allclose(found[[0, 9, 10, 14, 15, 19, 20], 0], expected, rtol=1e-6)
    np.testing.assert_allclose(found[[15, 16, 20, 21], 1], [1e-4, 1e-5, 1e-5, 1e-6], rtol=1e-6)
    assert SteppedRecipe(length=25, epochs=7).last_epoch == 7
    assert SteppedRecipe(length=25, epochs=70).last_epoch == 25


def test_a_loss_that_gains_a_unit_in_the_last_place_does_not_go_on_for_ever():
    """Every epoch is the best, and a plateau's; the rate falls at the 12th epoch and at each 11th
    after it, six times, to 1e-8."""
    recipe, loss = PlateauRecipe(), np.float32(1)
    progress, advance, found = recipe.begin(), jax.jit(recipe.advance), []
    for epoch in range(1, 79):
        progress, verdict = advance(progress, figures(loss), jnp.int32(epoch))
        assert verdict.improved and not verdict.stops
        found.append(bool(verdict.settled))
        loss = np.nextafter(loss, np.float32(0))
    assert found == 77 * [False] + [True]
    np.testing.assert_allclose(progress.learning_rate, 1e-8, rtol=1e-5)


def patient(errors, recipe):
    """The rule in plain Python: (rate of the epoch, whether it improved, back, ended)."""
    rate, patience, best, strikes = recipe.learning_rate, recipe.patience, np.inf, 0
    for error in errors:
        improved, back, before = error < best, False, rate
        if improved:
            best, strikes = error, 0
        else:
            strikes += 1
            if strikes > patience:
                rate, patience, strikes, back = rate * 0.1, patience // 2, 0, True
        yield before, improved, back, rate < 1e-6


def test_patience_is_halved_and_the_rate_falls_back_at_the_best():
    recipe = PatientRecipe(patience=4)
    errors = np.random.default_rng(0).integers(0, 40, 60) / 40
    progress, advance, backs, ended = recipe.begin(), jax.jit(recipe.advance), 0, False
    for error, expected in zip(errors, patient(errors, recipe), strict=True):
        rate, improved, back, ends = expected
        assert float(progress.learning_rate) == pytest.approx(rate, rel=1e-5)
        left = recipe.fewest_epochs_left(jax.tree.map(lambda a: np.asarray(a)[None], progress))
        progress, verdict = advance(progress, figures(error), jnp.int32(1))
        assert (bool(verdict.improved), bool(verdict.back)) == (improved, back)
        assert bool(verdict.stops) == ends
        backs += back
        if ends:
            assert left == 1
            ended = True
            break
        assert left > 1
    # 2e-4, 2e-5, 2e-6.
    assert backs == 3 and ended


def test_decay_comes_before_momentum():
    """PyTorch's SGD: g = g + decay w, v = 0.9 v + g, w = w - rate v."""
    optimiser = optax.with_extra_args_support(SteppedRecipe().optimiser())
    w, v = np.array([1.0, -2.0]), np.zeros(2)
    params: Any = {"w": jnp.asarray(w)}
    state = optimiser.init(params)
    for step in range(4):
        g = np.cos(step + w)
        change, state = optimiser.update(
            {"w": jnp.asarray(g)}, state, params, weight_decay=jnp.float32(0.3)
        )
        params = optax.apply_updates(params, jax.tree.map(lambda c: 0.1 * c, change))
        v = 0.9 * v + g + 0.3 * w
        w = w - 0.1 * v
    np.testing.assert_allclose(params["w"], w, rtol=1e-5)  # float32


def test_gradients_are_cut_off_before_decay_and_adam():
    decays = {"w": True, "b": False}
    optimiser = PatientRecipe(weight_decay=0.5).optimiser_of(decays)
    adam = optax.adam(1.0)
    params = {"w": jnp.array([3.0, -1.0]), "b": jnp.array([2.0])}
    state, expected_state = optimiser.init(params), adam.init(params)
    for scale in (1.0, 50.0):
        gradient = {"w": jnp.array([scale, 0.2]), "b": jnp.array([-scale])}
        change, state = optimiser.update(gradient, state, params)
        known = {
            "w": jnp.clip(gradient["w"], -10, 10) + 0.5 * params["w"],
            "b": jnp.clip(gradient["b"], -10, 10),
        }
        expected, expected_state = adam.update(known, expected_state)
        jax.tree.map(np.testing.assert_array_equal, change, expected)


def test_updates_of_an_epoch_are_rounded_down_to_hundreds():
    assert PatientRecipe().steps(57_000) == 1700
    assert PatientRecipe().steps(3_000) == 93
    assert SteppedRecipe().steps(45_000) == 351


# -- in the loop

FEATURES, CLASSES = 4, 3


def init(key):
    return Variables({"w": 0.1 * jax.random.normal(key, (FEATURES, CLASSES))}, jnp.int32(0))


def log_probs(variables, x):
    return jax.nn.log_softmax(x @ variables.params["w"])


def loss(variables, key, hyper, x, y):
    """A linear classifier whose state counts its updates."""
    predicted = log_probs(variables, x)
    wrong = (predicted.argmax(-1) != y).sum(dtype=jnp.int32)
    return metrics.nll(predicted, y), (wrong, variables.state + 1)


def project(params):
    return jax.tree.map(lambda w: jnp.clip(w, -0.7, 0.7), params)


def data():
    generator = np.random.default_rng(0)
    y = generator.integers(0, CLASSES, 60).astype(np.int32)
    x = generator.integers(0, 200, (60, FEATURES)).astype(np.uint8)
    x[np.arange(60), y] += 55  # something to learn
    parts = [jnp.asarray(a) for a in (x[:40], y[:40], x[40:], y[40:])]
    return Data(parts[0], parts[1], parts[2], parts[3], jnp.float32(255))


def test_a_run_goes_back_to_its_best_epoch_with_its_optimiser():
    recipe = PatientRecipe(batch_size=4, learning_rate=0.5, patience=2, epochs=30)
    learner = Learner(init, loss, log_probs, None, project)
    begin, epoch = loop.programs(learner, recipe, "sequential")
    state = begin(jax.random.key_data(jax.random.key(0))[None])
    given, went_back, best_error = data(), 0, np.inf
    kept = None
    while int(state.status[0]) == loop.RUNNING:
        before = float(state.progress.learning_rate[0])
        state, record = epoch(state, np.zeros(1, np.float32), given)
        here = jax.device_get(state)
        if float(record.validation_error[0]) < best_error:
            best_error = float(record.validation_error[0])
            kept = here.variables, here.momentum
        assert abs(here.variables.params["w"]).max() <= 0.7
        if float(here.progress.learning_rate[0]) < before:
            went_back += 1
            assert kept is not None
            jax.tree.map(np.testing.assert_array_equal, (here.variables, here.momentum), kept)
    assert went_back >= 2
    assert kept is not None
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.best), kept[0])
    # The state is that of the best epoch, whose number of updates it counted: ten an epoch.
    assert int(state.best.state[0]) % 10 == 0 and int(state.best.state[0]) > 0


@pytest.mark.parametrize(
    ("recipe", "wrong"),
    [
        (SteppedRecipe, {"drops": (0.6, 0.4)}),
        (SteppedRecipe, {"decay_drops": (1.0,)}),
        (SteppedRecipe, {"length": 0}),
        (SteppedRecipe, {"weight_decay": -1.0}),
        (PatientRecipe, {"factor": 1.0}),
        (PatientRecipe, {"patience": -1}),
        (PatientRecipe, {"largest_gradient": 0.0}),
        (PlateauRecipe, {"epochs": 0}),
    ],
)
def test_impossible_settings_are_named(recipe, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name} is .*; expected"):
        recipe(**wrong)
