"""Every model of the zoo: its activations, its values, and every procedure on it."""

import jax
import pytest

from benchmarks import zoo
from tests.zoo.models import ZOO


@pytest.fixture(scope="module", params=ZOO, ids=str)
def model(request):
    """An example, and its case."""
    try:
        with jax.numpy_rank_promotion("allow"):
            return request.param, zoo.case(request.param.make())
    except ImportError as error:
        pytest.skip(f"{request.param.library}: {error}")


@pytest.fixture(autouse=True)
def promotion():
    """Libraries add arrays of different ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


def test_every_activation_is_found(model):
    example, case = model
    report = case.lifted.report(*case.args)
    optional = [entry for entry in report.skipped if entry.optional]
    found = len(report.lifted), len(optional)
    assert found == (example.activations - example.optional, example.optional), report


def test_lifted_the_values_are_the_same(model):
    figures = zoo.values(model[1])
    assert figures["same_bits"]
    assert figures["rounding"] < 1e-5  # sums in another order


def test_every_procedure_runs_or_says_why_not(model):
    example, case = model
    told = {name: zoo.fails(example, name, case) for name in zoo.procedures(example)}
    assert not any(told.values()), told
