"""The benchmark of the recurrence notices a fast wrong implementation."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import recurrence
from benchmarks.recurrence import error, exact, plain, with_gradients


def test_errors_are_those_of_states_and_gradients(monkeypatch):
    functions = {"plain": plain, "wrong": lambda x, u: plain(x, 1.01 * u)}
    monkeypatch.setattr(recurrence, "implementations", lambda platform: {"none": functions})
    result = recurrence.measure(True, [(9, 2, 3)])
    rows = {(r["implementation"], r["part"]): r for r in result["rows"]}
    assert len(rows) == 4
    assert rows["plain", "forward"]["error"] < 1e-6 < 1e-3 < rows["wrong", "forward"]["error"]
    assert rows["plain", "forward"]["speedup"] == 1
    assert rows["wrong", "forward and backward"]["milliseconds"] > 0
    recurrence.show(result)


def test_the_exact_recurrence_is_that_of_the_plain_one():
    generator = np.random.default_rng(1)
    x, g = (jnp.asarray(generator.normal(size=(7, 1, 3)), jnp.float32) for _ in range(2))
    u = jnp.array([-1.0, 0.5, 1.0])
    states, dx, _ = jax.jit(lambda: with_gradients(plain, x, u, g))()
    assert error((states[:, 0], dx[:, 0]), exact(x[:, 0], u, g[:, 0])) < 1e-6
    assert error((states[:, 0], 2 * dx[:, 0]), exact(x[:, 0], u, g[:, 0])) > 0.5
