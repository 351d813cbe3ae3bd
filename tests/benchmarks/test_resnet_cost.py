"""The cost of PCFF in a residual network: what is left out of a sample, and the figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from benchmarks import command
from benchmarks import resnet_cost as benchmark
from cgjax.kernels.random_bits import random_words, standard_normal
from train.models.resnet import ResNet

TINY = benchmark.QUICK


def test_samples_leave_something_out():
    e = jnp.asarray(np.random.default_rng(0).normal(size=200), jnp.float32)
    key = jax.random.key(1)
    number = standard_normal(random_words(key, e.shape)[1])
    relu = cg.nodes.ReLU()
    expected = {
        benchmark.Masked: jnp.zeros(200),
        benchmark.Shifted: jnp.maximum(e + number, 0),
        benchmark.Scaled: relu.sample(key, e),
    }
    for family, values in expected.items():
        node = family()
        np.testing.assert_array_equal(node.sample(key, e), values)
        np.testing.assert_array_equal(node.activation(e), relu.activation(e))
        np.testing.assert_array_equal(node.derivative(e, values), values > 0)
    differing = relu.derivative(e, expected[benchmark.Scaled]) != (expected[benchmark.Scaled] > 0)
    assert differing.sum() > 20


def test_all_nodes_are_of_the_family_and_the_rest_stays():
    def families(family):
        made = nnx.eval_shape(lambda: benchmark.network(TINY, "float32", family, nnx.Rngs(0)))
        modules = [module for _, module in nnx.iter_modules(made)]
        shapes = jax.tree.map(lambda a: a.shape, nnx.state(made, nnx.Param))
        return [m.family for m in modules if isinstance(m, cg.layers.Node)], shapes

    plain, shapes = families(cg.nodes.ReLU())
    masked, same = families(benchmark.Masked())
    assert plain == [cg.nodes.ReLU()] * 7
    assert masked == [benchmark.Masked()] * 7
    assert shapes == same


def test_trainings_differ_from_those_beside_them_in_one_thing():
    names = list(benchmark.TRAININGS)
    for name, training in benchmark.TRAININGS.items():
        if training.beside is None:
            assert name == names[0] == "none"
            continue
        assert names.index(training.beside) < names.index(name)
        other = benchmark.TRAININGS[training.beside]
        if training.beside != "none":
            assert training.rates == other.rates
            assert (training.family != other.family) != (training.rounds != other.rounds)


def test_one_training_beside_the_plain_one(monkeypatch):
    # Of one stage. (The one above builds all.)
    monkeypatch.setattr(
        benchmark, "ResNet", lambda *, widths, **other: ResNet(widths=widths[:1], **other)
    )
    few = {name: benchmark.TRAININGS[name] for name in ("none", "mask")}
    monkeypatch.setattr(benchmark, "TRAININGS", few)
    monkeypatch.setattr(benchmark, "measure_parts", lambda rounds, shape, repeats: [])
    result = benchmark.measure(True)
    plain, masked = result["steps"]
    assert plain["ratio"] == 1 and plain["beside"] is None
    assert masked["beside"] == "none" and masked["images_per_second"] > 0
    assert masked["part_low"] <= masked["part"] <= masked["part_high"]
    assert result["place"] == [4, 32, 32, 2]
    (steps,) = command.shown(benchmark.TABLES, result)
    assert steps.splitlines()[2].startswith("mask           float32")
    assert benchmark.notes(result)[0] == "one place of 4 x 32 x 32 x 2 nodes"


def test_parts_are_of_a_step():
    seconds = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    figures = benchmark.difference(seconds, 10)
    # Exact but for rounding: quartiles of seconds of ten steps, in milliseconds of one.
    assert figures == pytest.approx({"part": 300, "part_low": 200, "part_high": 400}, rel=1e-12)
