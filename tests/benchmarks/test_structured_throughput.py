"""What the benchmark of recurrent and residual training compares, without PyTorch."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

import benchmarks
from benchmarks import command
from benchmarks import structured_throughput as benchmark
from benchmarks.epochs import initial

TINY = benchmark.QUICK._replace(depth=1, features=3, pixels=9, steps=2, rounds=2)


@pytest.fixture
def start():
    """The recurrent case and a run's start."""
    case = benchmark.cases(TINY)[0]
    return case, initial(case.learner(case.runs[0].rates), case.recipe, 1)


def test_the_plain_scan_is_the_same_training_and_pytorch_makes_as_many_steps(start, monkeypatch):
    case, state = start
    made = []

    def network(depth, features, pixels, rates):
        assert (depth, features, pixels) == (1, 3, 9)
        assert rates == (0.1, 0)

        def steps(recipe, x, y):
            assert recipe.batch_size == len(y) == 4
            assert x.shape == (9, 4, 1)
            return made.append

        return SimpleNamespace(steps=steps)

    filled = {}
    fake = SimpleNamespace(
        IndRNN=network,
        shapes=lambda _: {
            "layers.0.recurrent.input.weight": (3, 1),
            "layers.0.recurrent.input.bias": (3,),
            "layers.0.recurrent.recurrent": (3,),
            "layers.0.norm.weight": (3,),
            "layers.0.norm.bias": (3,),
            "classifier.weight": (10, 3),
            "classifier.bias": (10,),
        },
        fill=lambda _, weights: filled.update(weights),
        log_probs=lambda _, x: np.zeros((4, 10)),
    )
    monkeypatch.setattr(command, "has_torch", lambda: True)
    monkeypatch.setattr(benchmarks, "torch_networks", fake, raising=False)
    dropout = case.runs[1]
    figures = benchmark.row(TINY, case, dropout, state)
    # Gradients of float32, with the same random numbers.
    assert figures["plain_scan_error"] < 1e-5
    assert figures["parameters"] == sum(w.size for w in filled.values()) == 55
    assert figures["torch_error"] == 1  # all of the log-probabilities
    # Two calls to warm up, and one of each of two rounds; a call makes two steps.
    assert made == [4, 2, 2]
    for name in ("plain_scan", "torch"):
        ratio = figures[f"over_{name}"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
        assert figures[f"{name}_images_per_second"] > 0
    (text,) = command.shown(benchmark.TABLES, {"trainings": [figures]})
    assert "plain scan" in text and "PyTorch" in text


def test_without_pytorch_the_program_is_measured_alone(start, monkeypatch, capsys):
    case, state = start
    command.has_torch.cache_clear()
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    monkeypatch.setattr(benchmark, "initial", lambda *_: state)
    alone = case._replace(plain=None, runs=case.runs[:1])
    monkeypatch.setattr(benchmark, "cases", lambda sizes: [alone])
    result = benchmark.measure(True, TINY)
    (row,) = result["trainings"]
    assert result["sizes"]["steps"] == 2
    assert row["images_per_second"] > 0
    assert not [name for name in row if "torch" in name or "scan" in name]
    assert capsys.readouterr().out.count("PyTorch is not installed") == 1
    (text,) = command.shown(benchmark.TABLES, result)
    assert text.splitlines()[-1].startswith("IndRNN   none") and "PyTorch" not in text
    assert benchmark.notes(result) == ["2 rounds of 2 steps"]


def test_parameters_have_the_names_and_shapes_of_pytorch():
    found = []
    for case in benchmark.cases(benchmark.FULL):
        shapes = jax.eval_shape(case.learner(case.runs[0].rates).init, jax.random.key(0)).params
        weights = benchmark.named(jax.tree.map(lambda a: np.zeros(a.shape, bool), shapes))
        found.append({name: w.shape for name, w in weights.items()})
    recurrent, residual = found
    # Counted in the code of the authors of each.
    numbers = [sum(map(np.prod, shapes.values())) for shapes in found]
    assert numbers == [86_410, 292_762]
    assert recurrent["layers.1.recurrent.input.weight"] == (128, 128)
    assert residual["blocks.3.copy.weight"] == (32, 16, 3, 3)
    assert residual["blocks.0.before.normalise.weight"] == (16,)
    assert residual["output.weight"] == (10, 64)


def test_networks_of_other_parameters_are_refused():
    ours = {"a.weight": (2, 3), "a.bias": (2,)}
    benchmark.require_same(ours, dict(reversed(ours.items())), "net")
    for theirs in ({"a.weight": (2, 3)}, ours | {"a.weight": (3, 2)}):
        with pytest.raises(ValueError, match=r"net has 8 parameters, in PyTorch [68]; .* of a\."):
            benchmark.require_same(ours, theirs, "net")


def test_kernels_are_turned():
    kernel = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # rows, columns, inputs, outputs
    turned = benchmark.named({"a": {"kernel": kernel}})["a.weight"]
    assert turned.shape == (5, 4, 2, 3)
    assert turned[1, 3, 0, 2] == kernel[0, 2, 3, 1]
