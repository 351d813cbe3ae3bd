"""The forms of convolutions that the benchmark compares, its bounds and its figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import sweep as benchmark
from benchmarks.timing import Timing
from train.models.convolution import convolved, products


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


def test_a_step_is_compared_with_the_reference():
    measured = benchmark.Measured("products", "float32", "pcff", 2)
    steps, facts = benchmark.prepare(SMALL, measured)
    steps(1)
    # The rounding of float32, at any run's PCFF rate: the random numbers are the same.
    assert 0 < facts["error"] < 1e-5
    assert facts["compile_seconds"] > 0
    # Of a gradient that is one tenth too large, and of one that has a sign wrong in one run.
    exact = benchmark.reference(SMALL, "pcff", 2)
    assert benchmark.distance([1.1 * g for g in exact], exact) == pytest.approx(0.1, rel=1e-9)
    signs = [g * np.reshape([1, -1], (2,) + (1,) * (g.ndim - 1)) for g in exact]
    second, all_runs = (sum((g[k:] ** 2).sum() for g in exact) for k in (1, 0))
    expected = 2 * (second / all_runs) ** 0.5
    assert benchmark.distance(signs, exact) == pytest.approx(expected, rel=1e-9)
    assert expected > 0.1


def test_the_work_of_resnet20():
    """Counted by hand: stages of side s and width w; at a transition, from 2s and w / 2."""
    found = benchmark.work(benchmark.PRESETS["cpu"])
    elements, nodes = 32 * 32 * (3 + 16), 0
    for side, width in ((32, 16), (16, 32), (8, 64)):
        size = side * side * width
        if side == 32:
            elements += 6 * 2 * size
            nodes += 6 * size
            continue
        # Two convolutions of the larger, one of the smaller; then two blocks.
        elements += 2 * (2 * size + size) + 2 * size + 4 * 2 * size
        nodes += 2 * size + size + 4 * size
    nodes += 8 * 8 * 64
    assert round(found.multiply_adds / 1e6, 2) == 42.91
    assert found.first_multiply_adds == 32 * 32 * 16 * 27
    assert found.convolution_elements == elements
    assert found.nodes == nodes
    assert found.parameters == 292_762


def test_bounds_and_figures():
    work = benchmark.Work(1000, 100, 50, 7, 11)
    images = 3 * SMALL.batch
    assert benchmark.operations(work, images) == 2 * 2900 * 12
    assert benchmark.traffic(work, images, 3, 2) == 12 * (150 + 56) * 2 + 24 * 3 * 11
    pcff = benchmark.Measured("loop", "bfloat16", "pcff", 3)
    timings = {
        pcff: Timing(np.array([0.6, 0.5])),
        pcff._replace(procedure="plain"): Timing(np.array([0.3, 0.25])),
        pcff._replace(runs=1): Timing(np.array([0.3, 0.25])),
    }
    device = {"float32": 1e3, "bfloat16": 1e4, "bytes": 100.0}
    row = benchmark.row(SMALL, pcff, timings, work, device)
    # Exact but for rounding.
    exact = {
        "milliseconds": 550,
        "images_per_second_of_a_run": 4 / 0.55,
        "images_per_second": 12 / 0.55,
        "arithmetic_bound_milliseconds": 1e3 * 2 * 2900 * 12 / 1e4,
        "memory_bound_milliseconds": 1e3 * (12 * 206 * 2 + 24 * 33) / 100,
        "speed_up_over_single_runs": 1.5,
        "over_plain": 2,
        "over_plain_of_fastest": 2,
    }
    assert {name: row[name] for name in exact} == pytest.approx(exact, rel=1e-12)


def test_presets(monkeypatch):
    assert benchmark.chosen(True, "gpu") == "tiny"
    assert benchmark.chosen(False, "auto") == "cpu"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert benchmark.chosen(False, "auto") == "gpu"
    for preset in benchmark.PRESETS.values():
        assert preset.runs[0] == 1
    names = [*benchmark.programs(SMALL)]
    assert len(set(names)) == len(names) == 3 * 2 * 2 * 2
    loops = [*benchmark.programs(SMALL, "loop")]
    assert loops == [name for name in names if name.form == "loop"]
