"""What the benchmark of the estimators says of its figures."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from benchmarks import estimators as benchmark


def split(rmse: float, log_likelihood: float, seconds: float) -> dict[str, float]:
    within = {"90": 0.8, "95": 1.0}
    return {"rmse": rmse, "log likelihood": log_likelihood, "seconds": seconds} | within


def test_differences_are_taken_split_by_split():
    row = {
        "data": "made up",
        "splits": [split(1.0, -2.0, 9.0), split(3.0, -1.0, 2.0), split(2.0, -3.0, 3.0)],
        "experiment": [
            {"rmse": rmse, "log likelihood": value}
            for rmse, value in ((1.5, -2.0), (3.0, -1.5), (1.5, -3.5))
        ],
        "unscaled": 0.1,
    }
    told = benchmark.told(row)
    assert told["rmse"] == 2.0 and told["rmse there"] == 2.0 and told["rmse gain"] == 0.0
    np.testing.assert_allclose(told["rmse error"], np.std([-0.5, 0, 0.5], ddof=1) / 3**0.5)
    np.testing.assert_allclose(told["log likelihood gain"], 1 / 3)
    assert told["first"] == 9.0 and told["later"] == 2.5 and told["count"] == 3
    (table,) = benchmark.TABLES
    text = table.told({"sets": [row, row | {"experiment": []}]})
    assert "0 ± 0.29" in text and "0.100" in text


def test_splits_of_the_experiment_are_those_of_its_results():
    found = benchmark.experiment("yacht")
    assert len(found) == 20 and set(benchmark.FIGURES) <= set(found[0])
    assert benchmark.experiment("diabetes") == []
