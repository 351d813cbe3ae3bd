"""A small table, and estimators that learn it in a second."""

from typing import Any

import numpy as np

from cgjax.estimators import BayesianClassifier, BayesianRegressor

SMALL: dict[str, Any] = {
    "hidden": (8,),
    "max_epochs": 600,
    "prior": 1.0,
    "random_state": 0,
}


def regressor(network: Any = None, **options: Any) -> BayesianRegressor:
    """One that learns fast, without a choice between values."""
    return BayesianRegressor(network, **{**SMALL, "first_noise": -1.0, **options})


def classifier(**options: Any) -> BayesianClassifier:
    """The same of classes."""
    return BayesianClassifier(**SMALL | options)


def table(rows=60, seed=0):
    """Two features, and a target whose noise has a deviation of 5."""
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, (rows, 2))
    return x, 100 + 30 * x[:, 0] - 10 * x[:, 1] + 5 * random.normal(size=rows)


def labels(x):
    """Two classes of rows."""
    return np.where(x[:, 0] > 0, "yes", "no")


def forward(layers, x):
    """The default network, in float64."""
    *hidden, output = [{k: np.asarray(v, float) for k, v in layer.items()} for layer in layers]
    for layer in hidden:
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
    return x @ output["kernel"] + output["bias"]
