"""Which epochs and which candidate a training keeps, of made-up validation densities."""

from typing import Any

import numpy as np
import pytest

from cgjax.estimators import _training
from cgjax.estimators._likelihoods import Regression
from cgjax.estimators._methods import Model
from cgjax.estimators._options import held_out, held_out_of_each
from cgjax.estimators._training import Candidate, Problem, Rows, Search

ROWS = Rows(np.zeros((20, 1), np.float32), np.zeros((20, 1), np.float32))
EPOCHS = 40


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch):
    """Runs a search in which validation rows have on average the density
    `density(candidate, epoch)`; returns what it made, what it chose and the epochs of trainings."""

    def run(density, stops=True, held=4, candidates=1):
        trainings = []

        def begin(model, params, level):
            trainings.append([])
            return ({"candidate": float(level[0])}, None)

        def advance(model, carry, state, rows, plan, first, last):
            trainings[-1].append((int(first), int(last), int(plan.rows)))
            return ({"candidate": carry[0]["candidate"], "epoch": int(last)}, None)

        class Likelihood(Regression):
            def log_density(self, predicted: Any, y):
                candidate, epoch = predicted["candidate"], predicted["epoch"]
                rows = np.random.RandomState(int(100 * candidate) + epoch).normal(size=len(y))
                return density(candidate, epoch) + 1e-3 * (rows - rows.mean())

        monkeypatch.setattr(_training, "begin", begin)
        monkeypatch.setattr(_training, "advance", advance)
        monkeypatch.setattr(_training, "predict", lambda model, trained, *rest: trained)
        model = Model(len, False, Likelihood(1, False), "moments", 1, 8)
        how = Search(
            [Candidate(float(number), 1.0) for number in range(candidates)],
            EPOCHS,
            EPOCHS,
            stops,
            np.arange(held),
            lambda text: None,
        )
        made, chosen = _training.search(Problem(model, {}, (), 0, 0.1), ROWS, how)
        return made, chosen, trainings

    return run


def test_a_training_that_gets_better_is_whole_and_then_repeated_on_all_rows(search):
    made, _, (first, last) = search(lambda candidate, epoch: epoch)
    assert made.epochs == EPOCHS and first[-1][1] == last[-1][1] == EPOCHS
    assert {rows for _, _, rows in first} == {16} and {rows for _, _, rows in last} == {20}
    steps = [(start, end) for start, end, _ in first]
    assert steps[0][0] == 0 and all(a[1] == b[0] for a, b in zip(steps, steps[1:], strict=False))


def test_a_training_that_gets_worse_ends_and_its_best_epochs_are_repeated(search):
    made, _, (first, last) = search(lambda candidate, epoch: -abs(epoch - 26))
    assert made.epochs == last[-1][1] == 26
    assert first[-1][1] == 26 + 2 * _training.PATIENCE  # a check every two epochs


def test_the_first_half_does_not_count(search):
    made, _, _ = search(lambda candidate, epoch: 100 if epoch < 18 else epoch)
    assert made.epochs == EPOCHS


def test_it_is_not_stopped_unasked(search):
    made, _, (first, _) = search(lambda candidate, epoch: -epoch, stops=False)
    assert made.epochs == first[-1][1] == EPOCHS


def test_a_gain_within_its_standard_error_does_not_count(search):
    made, chosen, _ = search(lambda candidate, epoch: -1e-9 * epoch + 1e-9 * candidate, True, 4, 2)
    assert made.epochs == EPOCHS and chosen.first_noise == 0.0


@pytest.mark.parametrize("better", [0.0, 1.0, 2.0])
def test_the_best_candidate_is_chosen(search, better):
    _, chosen, trainings = search(lambda candidate, epoch: float(candidate == better), True, 4, 3)
    assert chosen.first_noise == better and len(trainings) == 4


def test_a_candidate_that_diverges_is_not_chosen(search):
    _, chosen, _ = search(lambda candidate, epoch: np.nan if candidate == 0 else -9.0, True, 4, 2)
    assert chosen.first_noise == 1.0


def test_without_validation_rows_the_first_candidate_is_trained_once(search):
    made, chosen, trainings = search(lambda *_: 1 / 0, held=0, candidates=3)
    assert len(trainings) == 1 and made.epochs == EPOCHS and chosen.first_noise == 0.0


def test_validation_rows():
    random = np.random.default_rng(0)
    chosen = held_out(50, 0.2, random)
    assert len(set(chosen)) == 10 and max(chosen) < 50
    assert len(held_out(10, 0.99, random)) == 9 and len(held_out(10, 0.01, random)) == 1
    y = np.repeat([0, 1, 2], [20, 9, 1])
    assert np.bincount(y[held_out_of_each(y, 0.2, random)]).tolist() == [4, 1]


def test_filled_rows_are_followed_by_copies_of_the_first():
    rows = Rows(np.arange(6.0).reshape(3, 2), np.array([7, 8, 9])).filled(5)
    assert rows.y.tolist() == [7, 8, 9, 7, 7] and rows.x[4].tolist() == [0.0, 1.0]
    assert [_training.size_of(n) for n in (1, 256, 257, 512, 1000)] == [256, 256, 512, 512, 1024]
