"""What a training step needs at least, counted by hand, and the rates of a device."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import bounds
from benchmarks import sweep as benchmark
from benchmarks.timing import Timing


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


def test_operations_and_traffic():
    work = bounds.Work(1000, 100, 50, 7, 11)
    assert bounds.operations(work, 12) == 2 * 2900 * 12
    assert bounds.traffic(work, 12, 3, 2) == 12 * (150 + 56) * 2 + 24 * 3 * 11


def test_equations_of_programs_in_programs():
    def program(x):
        return jax.lax.scan(lambda c, x: (jax.jit(jnp.sin)(c) + x, ()), x[0], x)[0]

    found = bounds.equations(jax.make_jaxpr(program)(jnp.ones(3)).jaxpr)
    names = [equation.primitive.name for equation in found]
    assert names.index("scan") < names.index("sin") < names.index("add")


def test_rates_are_of_what_is_timed(monkeypatch):
    """With calls that take two seconds each."""
    made = []

    def interleaved(functions, *, rounds, calls):
        for name, run in functions.items():
            run(calls)
            made.append(name)
        return {name: Timing(np.full(rounds, 2.0)) for name in functions}

    monkeypatch.setattr(bounds, "interleaved", interleaved)
    rates = bounds.rates(4, 64, 3, ["float32", "bfloat16"])
    # 2 n^3 operations, and twice the bytes, in 2 seconds.
    assert rates == {"float32": 64, "bfloat16": 64, "bytes": 64}
    assert made == ["float32", "bfloat16", "bytes"]
    assert bounds.bandwidth(64, 3) == 64
