"""Every model of the zoo: its activations, its values, and every procedure on it."""

from importlib.util import find_spec

import jax
import jax.numpy as jnp
import pytest

import cgjax as cg
from benchmarks import zoo
from tests.zoo.example import Example, Parts
from tests.zoo.models import ZOO

# Moments take seconds to trace: here those of two models, in the benchmark those of all.
MOMENTS = ("ResNet", "CNN")
# What others trace too: `log_joint` a sample, `pcff` of all activations that of some, and the test
# of values `feed_forward`. The benchmark has all.
COVERED = ("feed_forward", "forward_sample", "monte_carlo", "weight_sample")


# Of a model in Equinox diffrax may be a part.
NEEDED = {"equinox": ("equinox", "diffrax"), "haiku": ("haiku",), "keras": ("keras",)}


@pytest.fixture(scope="module", params=ZOO, ids=str)
def model(request):
    """An example, and its case."""
    for library in NEEDED.get(request.param.library, ()):
        if find_spec(library) is None:  # only this is a skip: an import that fails is a failure
            pytest.skip(f"{library} is not installed: pip install 'cgjax[zoo]' has the zoo's")
    with jax.numpy_rank_promotion("allow"):
        return request.param, zoo.case(request.param.make())


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
    left_out = {*COVERED, *(() if example.name in MOMENTS else ("moments",))} - {*example.errors}
    if example.optional:
        left_out.add("pcff")
    names = [name for name in zoo.procedures(example) if name not in left_out]
    told = {name: zoo.fails(example, name, case) for name in names}
    assert not any(told.values()), told


def _made(f, **fields):
    """An example of one array of parameters, and its case."""
    parts = Parts(f, jnp.ones((2, 2)), (jnp.ones((1, 2)),))
    return Example("made", "jax", "toy", lambda: parts, 1, **fields), zoo.case(parts)


def test_what_is_not_expected_is_told():
    def sorts(params, x):
        return jnp.sort(jnp.tanh(x @ params))

    example, case = _made(sorts)
    assert "sort" in zoo.fails(example, "moments", case)
    assert zoo.fails(example, "forward_sample", case) == ""
    example, _ = _made(sorts, errors={"moments": "`sort`", "pcff": "no"})
    assert zoo.fails(example, "moments", case) == ""
    assert zoo.fails(example, "pcff", case) == "runs, and should say 'no'"


def test_a_belief_is_compared_with_samples():
    belief = {"a": cg.Belief(jnp.array([1.0, 2.0]), jnp.array([4.0, 9.0]))}
    estimate = cg.Estimate({"a": jnp.array([3.0, 2.0])}, {"a": jnp.array([0.2, 0.2])})
    got = zoo.compared(belief, estimate, 100)  # variances of 4 each
    assert got == pytest.approx(
        {"mean_error": 0.5**0.5, "variance": 13 / 8, "median": (1 + 9 / 4) / 2}, rel=1e-6
    )
