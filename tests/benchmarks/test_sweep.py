"""The forms of convolutions that the benchmark compares, what it trains, and its figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import bounds, command
from benchmarks import sweep as benchmark
from benchmarks.timing import Timing
from train.models.convolution import convolved, products
from train.models.resnet import ResNet
from train.resnet import experiment as resnet


@pytest.mark.parametrize(("side", "stride"), [(6, 1), (6, 2), (5, 2)])
def test_products_of_patches_are_the_convolution(side, stride):
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=(2, side, side, 3)), jnp.float32)
    kernel = jnp.asarray(generator.normal(size=(3, 3, 3, 4)), jnp.float32)

    @jax.jit
    def values(x, kernel):
        def both(form):
            y, pull = jax.vjp(lambda x, kernel: form(x, kernel, stride), x, kernel)
            return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

        return [both(form) for form in (convolved, products)]

    expected, got = values(x, kernel)
    # Sums of 27 and of some hundred products in float32.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, expected)


SMALL = benchmark.PRESETS["tiny"]


def test_an_epoch_is_compared_with_the_reference(monkeypatch):
    # Of one stage. (How a stage begins is checked in tests/train/models.)
    monkeypatch.setattr(
        benchmark, "ResNet", lambda *, widths, **other: ResNet(widths=widths[:1], **other)
    )
    measured = benchmark.Measured("products", "float32", "sweep", 2)
    epochs, facts = benchmark.prepare(SMALL, measured)
    epochs(1)
    # The rounding of float32, with PCFF and with dropout: the random numbers are the same.
    assert 0 < facts["error"] < 1e-5
    assert facts["compile_seconds"] > 0
    # Of a gradient that is one tenth too large, and of one that has a sign wrong in one run.
    exact = benchmark.reference(SMALL, "sweep", 2)
    assert benchmark.distance([1.1 * g for g in exact], exact) == pytest.approx(0.1, rel=1e-9)
    signs = [g * np.reshape([1, -1], (2,) + (1,) * (g.ndim - 1)) for g in exact]
    second, all_runs = (sum((g[k:] ** 2).sum() for g in exact) for k in (1, 0))
    expected = 2 * (second / all_runs) ** 0.5
    assert benchmark.distance(signs, exact) == pytest.approx(expected, rel=1e-9)
    assert expected > 0.1


def test_runs_have_pcff_dropout_or_none():
    drop, pcff = benchmark.rates(4)
    # Of evenly spaced rates; exact but for the rounding of float32.
    np.testing.assert_allclose(pcff, [0.3, 0, 0, 0.9], rtol=1e-6)
    np.testing.assert_allclose(drop, [0, 0.5, 0, 0], rtol=1e-6)


def test_augmentation_draws_the_same_numbers_with_64_bits():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 32, 32, 3)), jnp.float32)
    key = jax.random.key(3)
    expected = jax.jit(resnet.augmented)(key, x)
    with jax.enable_x64(True):
        got = jax.jit(benchmark.augmented)(key, x)
        other = jax.jit(resnet.augmented)(key, x)
    np.testing.assert_array_equal(got, expected)
    assert (other != expected).any()


def test_figures():
    preset = SMALL._replace(steps=10)
    work = bounds.Work(1000, 100, 50, 7, 11)
    sweep = benchmark.Measured("loop", "bfloat16", "sweep", 3)
    pcff = benchmark.Measured("loop", "bfloat16", "pcff", 1)
    timings = {
        sweep: Timing(np.array([6.0, 5.0])),
        sweep._replace(runs=1): Timing(np.array([3.0, 2.5])),
        pcff: Timing(np.array([6.0, 5.0])),
        pcff._replace(procedure="plain"): Timing(np.array([3.0, 2.5])),
    }
    device = {"float32": 1e3, "bfloat16": 1e4, "bytes": 1e4}
    row = benchmark.row(preset, sweep, timings, work, device)
    least = (12 * 206 * 2 + 24 * 33) / 1e4
    # Exact but for rounding.
    exact = {
        "milliseconds": 550,
        "images_per_second_of_a_run": 4 / 0.55,
        "images_per_second": 12 / 0.55,
        "arithmetic_bound_milliseconds": 1e3 * 2 * 2900 * 12 / 1e4,
        "memory_bound_milliseconds": 1e3 * least,
        "share_of_memory_bound": least / 0.55,
        "speed_up": 1.5,
    }
    assert {name: row[name] for name in exact} == pytest.approx(exact, rel=1e-12)
    assert "over_plain" not in row
    row = benchmark.row(preset, pcff, timings, work, device)
    exact = {"over_plain": 2, "over_plain_of_fastest": 2, "images_per_second": 4 / 0.55}
    assert {name: row[name] for name in exact} == pytest.approx(exact, rel=1e-12)


def test_presets(monkeypatch):
    assert benchmark.chosen(True, "gpu") == "tiny"
    assert benchmark.chosen(False, "auto") == "cpu"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert benchmark.chosen(False, "auto") == "gpu"
    assert benchmark.PRESETS["gpu"].runs == (1, 60)
    for preset in benchmark.PRESETS.values():
        assert preset.runs[0] == 1
    names = [*benchmark.programs_of(SMALL)]
    # Of each form and dtype two at a single run, and sweeps of both lengths.
    assert len(set(names)) == len(names) == 3 * 2 * 4
    assert {name.runs for name in names if name.procedure == "sweep"} == {1, 3}
    assert {name.runs for name in names if name.procedure != "sweep"} == {1}
    on_cpu = [*benchmark.programs_of(benchmark.PRESETS["cpu"])]
    assert {name.dtype for name in on_cpu} == {"float32"} and len(on_cpu) == 3 * 4
    loops = [*benchmark.programs_of(SMALL, "loop", "bfloat16")]
    assert loops == [name for name in names if name.form == "loop" and name.dtype == "bfloat16"]


def test_what_fails_is_told_and_the_rest_measured(monkeypatch):
    def prepare(preset, measured):
        if measured.procedure == "pcff":
            raise jax.errors.JaxRuntimeError("out of memory\nand more")
        facts = {"compile_seconds": 1.0, "temporary_bytes": None, "error": 1e-6}
        return lambda calls: None, facts

    monkeypatch.setattr(benchmark, "prepare", prepare)
    monkeypatch.setattr(benchmark.bounds, "rates", lambda *_: {n: 1e9 for n in RATES})
    monkeypatch.setattr(benchmark, "work", lambda _: bounds.Work(1000, 100, 50, 7, 11))
    result = benchmark.measure(True, form="loop", dtype="float32")
    assert [row["message"] for row in result["failed"]] == ["out of memory"]
    assert [(row["procedure"], row["runs"]) for row in result["steps"]] == [
        ("plain", 1),
        ("sweep", 1),
        ("sweep", 3),
    ]
    assert "float32, 3 runs: fastest as loop" in benchmark.notes(result)[2]
    _, failed = command.shown(benchmark.TABLES, result)
    assert "out of memory" in failed


RATES = ("float32", "bfloat16", "bytes")
