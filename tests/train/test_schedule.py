"""The plateau rule and early stopping against sequences worked out by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from train.engine.loop import Record
from train.engine.recipes import PlateauRecipe

RECIPE = PlateauRecipe()


def epochs(losses, stop_patience=99):
    """The progress and the verdict after each epoch, by PyTorch's default settings."""
    recipe = dataclasses.replace(RECIPE, stop_patience=stop_patience)
    progress, found = recipe.begin(), []
    for epoch, loss in enumerate(losses, 1):
        nothing, loss = jnp.float32(0), jnp.float32(loss)
        figures = Record(nothing, nothing, loss, nothing, nothing)
        progress, verdict = recipe.advance(progress, figures, jnp.int32(epoch))
        found.append((progress, verdict))
    return found


def rates(losses):
    """The learning rate at the start and after each epoch."""
    found = [RECIPE.begin(), *(progress for progress, _ in epochs(losses))]
    return [float(progress.learning_rate) for progress in found]


def drops(losses):
    """The epochs (from 1) after which the rate was lowered."""
    found = rates(losses)
    return [epoch for epoch in range(1, len(found)) if found[epoch] < found[epoch - 1]]


def stop(losses, patience=20):
    """The epoch after which a run stops, and the epochs that improved."""
    improvements = []
    for epoch, (_, verdict) in enumerate(epochs(losses, patience), start=1):
        if verdict.improved:
            improvements.append(epoch)
        if verdict.stops:
            return epoch, improvements
    return None, improvements


def test_the_rate_drops_on_the_eleventh_bad_epoch_and_every_eleventh_after():
    # Epoch 1 sets the best; epochs 2-12 are eleven bad ones; then the count starts again.
    assert drops([1.0] * 40) == [12, 23, 34]
    np.testing.assert_allclose(rates([1.0] * 12)[-1], 1e-3, rtol=1e-6)


def test_a_gain_below_the_threshold_is_none():
    # Best 1: a loss of 0.99995 is lower by half the threshold, 0.9998 by twice.
    assert drops([1.0] + [0.99995] * 11) == [12]
    assert drops([1.0] + [0.99995] * 10 + [0.9998] + [1.0] * 11) == [23]


def test_small_gains_add_up_against_the_best_not_the_last():
    # Each epoch gains 0.4 of the threshold on the one before, so every third is a good one.
    losses = [1.0 * (1 - 0.4e-4) ** i for i in range(30)]
    assert drops(losses) == []


def test_not_a_number_is_a_bad_epoch():
    assert drops([1.0] + [float("nan")] * 11) == [12]
    assert drops([float("nan")] * 11) == [11]


def test_the_rate_never_changes_by_less_than_the_smallest_change():
    # 1e-7 -> 1e-8 changes it by 9e-8, 1e-8 -> 1e-9 by 9e-9 < 1e-8, which is not done.
    found = rates([1.0] * 200)
    np.testing.assert_allclose(found[-1], 1e-8, rtol=1e-5)
    assert len(drops([1.0] * 200)) == 6


def test_a_run_stops_at_the_twenty_first_strike():
    assert stop([1.0] * 30) == (22, [1])
    assert stop([1.0] * 21 + [0.5] + [0.6] * 30) == (43, [1, 22])
    assert stop([1.0] * 21) == (None, [1])


def test_only_a_strictly_lower_loss_improves():
    tiny = np.nextafter(np.float32(1), np.float32(0))
    assert stop([1.0, 1.0, tiny, tiny, 2.0], patience=99) == (None, [1, 3])


def test_not_a_number_never_improves():
    assert stop([float("nan")] * 30) == (21, [])
    assert stop([1.0, float("nan"), 0.9], patience=99) == (None, [1, 3])
