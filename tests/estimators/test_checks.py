"""scikit-learn's own checks of its conventions: all of them."""

from typing import Any

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from cgjax.estimators import BayesianClassifier, BayesianRegressor

# Few epochs, and no choice between values; all else as it is by default.
QUICK: dict[str, Any] = {"max_epochs": 60, "prior": 1.0, "random_state": 0}
ESTIMATORS = [
    BayesianRegressor(hidden=(8,), first_noise=-1.0, **QUICK),
    BayesianClassifier(hidden=(), **QUICK),  # linear, for the sake of time
]


@parametrize_with_checks(ESTIMATORS)
def test_conventions(estimator, check):
    check(estimator)
