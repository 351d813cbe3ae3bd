"""The benchmark of evidence: networks as asked for, pyAgrum's tables, and what is told."""

import sys
import types
from typing import Any

import numpy as np
import pytest

from benchmarks import command, evidence


def test_generated_networks_have_the_size_that_was_asked_for():
    variables: Any = ()
    for size in evidence.SIZES.values():
        variables = evidence.generated(size)
        assert len(variables) == size.nodes
        assert sum(len(v.parents) for v in variables) == size.arcs
        assert max(len(v.parents) for v in variables) <= size.parents
        assert max(len(v.states) for v in variables) <= size.states
        known: set[str] = set()
        for v in variables:
            assert known.issuperset(v.parents)
            known.add(v.name)
            np.testing.assert_allclose(v.table.sum(-1), 1.0, rtol=1e-12)
    samples = evidence.drawn(variables, 4000)
    first = variables[0]
    shares = np.bincount(samples[first.name], minlength=len(first.states)) / 4000
    # Five standard errors of a share of one half.
    np.testing.assert_allclose(shares, first.table, atol=5 * 0.5 / 4000**0.5)


def pyagrum_made_up() -> types.ModuleType:
    """What the benchmark uses of pyAgrum; the answer of its engine is always uniform."""
    made: Any = types.ModuleType("pyagrum")
    filled: dict[str, list[float]] = {}

    class BayesNet:
        def __init__(self):
            self.names: dict[str, int] = {}

        def add(self, variable):
            self.names[variable[0]] = len(variable[2])

        def addArc(self, parent, child):
            assert {parent, child} <= set(self.names)

        def cpt(self, name):
            return types.SimpleNamespace(fillWith=lambda numbers: filled.update({name: numbers}))

    class LazyPropagation:
        def __init__(self, model):
            self.model, self.evidence = model, {}

        def setEvidence(self, found):
            self.evidence = found

        def makeInference(self):
            assert all(isinstance(k, int) for k in self.evidence.values())

        def posterior(self, name):
            size = self.model.names[name]
            return types.SimpleNamespace(toarray=lambda: np.full(size, 1 / size))

    made.BayesNet, made.LazyPropagation, made.filled = BayesNet, LazyPropagation, filled
    made.LabelizedVariable = lambda name, text, states: (name, text, states)
    return made


def test_figures_beside_pyagrum(monkeypatch: pytest.MonkeyPatch):
    made: Any = pyagrum_made_up()
    monkeypatch.setitem(sys.modules, "pyagrum", made)
    monkeypatch.setattr(evidence, "find_spec", lambda name: True)
    monkeypatch.setattr(evidence, "QUICK", {})
    monkeypatch.setattr(evidence, "SIZES", {"small": evidence.Size(5, 5, 2, 3)})
    (result,) = evidence.measure(True)
    rows = {row["implementation"]: row for row in result["rows"]}
    assert list(rows) == ["exact", "messages", "pyAgrum"]
    # The engine's answer is wrong, which is told; messages are compared with what is exact.
    assert rows["exact"]["error"] > 0.05 and 0 < rows["messages"]["error"] < 0.2
    assert rows["pyAgrum"]["speedup"] == 1 and rows["exact"]["speedup"] > 0
    assert rows["messages"]["rounds"] >= 2 and "queries_milliseconds" not in rows["messages"]
    assert "small" in command.shown(evidence.TABLES, result)[0]
    # Of a table the node varies fastest, then its first parent.
    [v] = [v for v in evidence.generated(evidence.Size(5, 5, 2, 3)) if len(v.parents) == 2][:1]
    flat = made.filled[v.name]
    assert flat[: len(v.states)] == pytest.approx(v.table[0, 0])
    assert flat[len(v.states) : 2 * len(v.states)] == pytest.approx(v.table[1, 0])


def test_a_folder_without_files_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="holds no file NAME.bif"):
        evidence.networks(False, str(tmp_path))
