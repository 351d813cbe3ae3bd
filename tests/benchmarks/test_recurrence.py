"""The benchmark of the recurrence notices a fast wrong implementation, and one that fails."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import command, recurrence
from benchmarks.recurrence import error_of, exact, plain, with_gradients
from benchmarks.timing import Timing
from cgjax.kernels import sampled_independent_recurrence


def broken(x, u):
    """Stands for a kernel that the device's compiler refuses: the benchmark is to go on."""
    raise RuntimeError("no such instruction\nin this compiler")


def test_errors_are_those_of_states_and_gradients_and_what_fails_ends_nothing(monkeypatch):
    functions = {"plain": plain, "broken": broken, "wrong": lambda x, u: plain(x, 1.01 * u)}
    monkeypatch.setattr(recurrence, "implementations", lambda platform: {"none": functions})
    partial, result = recurrence.measure(True, "float32", [(9, 2, 3), (5, 2, 3)])
    rows = {(r["implementation"], r["part"]): r for r in partial["rows"]}
    assert len(rows) == 4
    assert rows["plain", "forward"]["error"] < 1e-6 < 1e-3 < rows["wrong", "forward"]["error"]
    assert rows["plain", "forward"]["speedup"] == 1
    assert rows["wrong", "forward and backward"]["milliseconds"] > 0
    assert [r["size"] for r in result["failed"]] == [[9, 2, 3], [5, 2, 3]]
    for row in result["failed"]:
        assert row["implementation"] == "broken"
        assert row["message"] == "RuntimeError: no such instruction"
    assert len(result["rows"]) == 8
    rows, failed = command.shown(recurrence.TABLES, result)
    assert "5 x 2 x 3             float32  none   forward and backward  wrong" in rows
    assert failed.splitlines()[1].endswith("none  broken  RuntimeError: no such instruction")
    assert recurrence.notes(result) == []


def test_bfloat16_is_measured_and_the_bound_on_a_gpu(monkeypatch):
    """With a memory of 1000 bytes a second and calls that take a second."""

    def functions(platform):
        assert platform == "gpu"
        return {"none": {"plain": plain}, "PCFF": {"scan": plain}}

    def interleaved(functions, *, rounds, calls):
        assert (rounds, calls) == (2, 1)
        return {name: Timing(np.ones(2)) for name in functions}

    monkeypatch.setattr(recurrence, "implementations", functions)
    monkeypatch.setattr(recurrence.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(recurrence.bounds, "bandwidth", lambda: 1000.0)
    monkeypatch.setattr(recurrence, "interleaved", interleaved)
    (result,) = recurrence.measure(True, "bfloat16", [(5, 2, 3)])
    shares = {(r["noise"], r["part"]): r["share_of_bound"] for r in result["rows"]}
    # Of arrays of 30 numbers of two bytes: x and h; g, h and dx besides; with samples x again.
    both = "forward and backward"
    expected = {("none", "forward"): 2, ("none", both): 5}
    expected |= {("PCFF", "forward"): 2, ("PCFF", both): 6}
    assert shares == pytest.approx({k: n * 60 / 1000 for k, n in expected.items()}, rel=1e-12)
    assert all(r["dtype"] == "bfloat16" for r in result["rows"])
    # A baseline is compared with itself; without one there is no ratio.
    assert [r["speedup"] for r in result["rows"]] == [1, 1, None, None]
    # Rounding to 8 bits at each of 5 steps.
    assert 1e-6 < result["rows"][0]["error"] < 5 * 2**-8
    assert "12.0%" in command.shown(recurrence.TABLES, result)[0]
    assert recurrence.notes(result) == ["memory: 0 GB/s"]


def test_which_problems_are_measured_on_which_device():
    assert recurrence.calls_of((784, 32, 128), "gpu") > 10
    assert recurrence.calls_of((784, 512, 512), "gpu") == 5
    assert recurrence.calls_of((784, 512, 512), "cpu") == 1
    for size in recurrence.SIZES["gpu"]:
        assert size in recurrence.NARROW


def test_errors_are_those_of_all_states_and_gradients():
    generator = np.random.default_rng(1)
    x, g = (jnp.asarray(generator.normal(size=(7, 4, 3)), jnp.float32) for _ in range(2))
    u, key = jnp.array([-1.0, 0.5, 1.0]), jax.random.key(3)
    sampled = functools.partial(sampled_independent_recurrence, key, rate=recurrence.RATE)
    for f, keys in ((plain, ()), (sampled, (key,))):
        got = jax.jit(functools.partial(with_gradients, f))(x, u, g)
        expected = exact(x, u, g, *keys)
        assert error_of(got, expected) < 1e-6
        for wrong in range(3):
            changed = [2 * a if i == wrong else a for i, a in enumerate(got)]
            assert error_of(changed, expected) > 0.5
    assert error_of(got, exact(x, u, g, jax.random.key(4))) > 0.1
