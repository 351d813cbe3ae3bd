"""The benchmark of chains tells a wrong gradient, and measures what is installed."""

from typing import Any

import jax.numpy as jnp
import pytest

from benchmarks import chains, command


def test_figures_and_a_fast_wrong_form(monkeypatch: pytest.MonkeyPatch):
    kernel = chains.kernel("two_passes")
    forms = {"scan": chains.scan, "two_passes": kernel, "wrong": lambda e, a: kernel(1.01 * e, a)}
    monkeypatch.setattr(chains, "losses", lambda: forms)
    monkeypatch.setattr(chains, "find_spec", lambda name: None)
    (result,) = chains.measure(True, [(2, 4, 3)])
    rows: dict[Any, Any] = {(r["part"], r["implementation"]): r for r in result["rows"]}
    errors = {name: rows["loss and gradients", name]["error"] for name in forms}
    assert max(errors["scan"], errors["two_passes"]) < 1e-6 < 1e-3 < errors["wrong"]
    assert rows["loss and gradients", "scan"]["speedup"] == 1
    assert rows["loss and gradients", "two_passes"]["times_two_passes"] == 1
    assert {("loss of a path", "network"), ("sample", "cgjax"), ("best path", "cgjax")} <= set(rows)
    assert {("bounds", "products in turn"), ("bounds of a sample", "filter")} <= set(rows)
    assert "loss of a path" in command.shown(chains.TABLES, result)[0]


def test_the_network_has_the_loss_of_the_functions():
    e, a, path, _ = chains.problem((2, 4, 3))
    assert jnp.allclose(chains.network(e, a, path), chains.functions(e, a, path), rtol=1e-6)
