"""Files of the UAI format: what they say, what is wrong with others, and inference in them."""

import pathlib
import random

import jax
import numpy as np
import pytest

import cgjax as cg
from train.data.uai import (
    parse_evidence,
    parse_markov,
    parse_uai,
    read_evidence,
    read_markov,
    read_uai,
)
from train.models.bayesian_network import network, observed, tables
from train.models.markov_network import with_switches
from train.report.files import DataFileError

# The last variable, which has three states, is a parent of the first.
GARDEN = """BAYES
3
2 2 3
3
2 2 0
1 2
3 0 2 1

6
 0.1 0.9
 0.5 0.5
 1.0 0.0
3
 0.2 0.3 0.5
12
 0.4 0.6  0.3 0.7  0.2 0.8
 0.9 0.1  0.5 0.5  0 1
"""

RING = """MARKOV
3
2 3 2
4
2 0 1
2 1 2
2 0 2
1 1
6
 1.0 2.5 0.5
 4.0 0.0 1.0
6  3 1  1 2  0.5 1
4  10 1 1 7
3  1 1 2
"""


def joint(text: str) -> np.ndarray:
    """The product of all factors, for all states."""
    network = parse_markov(text)
    names = list(network.states)
    total = np.ones([len(network.states[n]) for n in names])
    for scope, table in network.factors:
        order = np.argsort([names.index(v) for v in scope])
        shape = [len(network.states[n]) if n in scope else 1 for n in names]
        total = total * table.transpose(order).reshape(shape)
    return total


def marginals(p: np.ndarray) -> list[np.ndarray]:
    return [p.sum(tuple(k for k in range(p.ndim) if k != v)) / p.sum() for v in range(p.ndim)]


def test_a_bayesian_network(tmp_path):
    (tmp_path / "garden.uai").write_text(GARDEN)
    (tmp_path / "garden.uai.evid").write_text("1\n1 1\n")
    variables = read_uai(tmp_path / "garden.uai")
    assert [(v.name, v.parents) for v in variables] == [
        ("x2", ()),
        ("x0", ("x2",)),
        ("x1", ("x0", "x2")),
    ]
    # Row-major, the last variable fastest: P(x1 | x0 = 1, x2 = 0) = 0.9, 0.1.
    np.testing.assert_array_equal(variables[2].table[1, 0], [0.9, 0.1])
    states = {v.name: v.states for v in variables}
    seen = read_evidence(tmp_path / "garden.uai.evid", states)
    assert seen == {"x1": "1"}
    p = joint(GARDEN)
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-12)
    p[:, 0] = 0
    net = network(variables)
    means = cg.exact_marginals(cg.condition(net, observed(variables, seen)))(tables(variables))
    for name, expected in zip(("x0", "x1", "x2"), marginals(p), strict=True):
        np.testing.assert_allclose(means[name], expected, rtol=1e-5, atol=1e-7)


def test_a_markov_network(tmp_path):
    (tmp_path / "ring.uai").write_text(RING)
    model = with_switches(read_markov(tmp_path / "ring.uai"))
    p = joint(RING)

    @jax.jit
    def run(tables):
        net = cg.condition(model.net, model.evidence)
        log = cg.log_evidence(model.net)(model.evidence, tables)
        return cg.exact_marginals(net)(tables), log, cg.mode(net)(tables)

    means, log, mode = run(model.tables)
    np.testing.assert_allclose(log + model.log_scale, np.log(p.sum()), rtol=1e-5)
    best = np.unravel_index(p.argmax(), p.shape)
    for k, (name, expected) in enumerate(zip(means, marginals(p), strict=True)):
        np.testing.assert_allclose(means[name], expected, rtol=1e-5, atol=1e-7)
        assert mode[name].argmax() == best[k]
    # A directed network is a product of factors, too.
    assert len(parse_markov(GARDEN).factors) == 3
    nothing = RING.replace("1.0 2.5 0.5\n 4.0 0.0 1.0", "0 0 0 0 0 0")
    with pytest.raises(ValueError, match="factor of x0, x1 is 0 for all states"):
        with_switches(parse_markov(nothing))


STATES = {"x0": ("0", "1"), "x1": ("0", "1", "2")}


def test_evidence_in_both_forms():
    assert parse_evidence("2 1 2 0 1", STATES) == {"x1": "2", "x0": "1"}
    assert parse_evidence("1\n2 1 2 0 1", STATES) == {"x1": "2", "x0": "1"}
    assert parse_evidence("1 0 1", STATES) == {"x0": "1"}
    assert parse_evidence("0", STATES) == parse_evidence("1\n0", STATES) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1 3", "'x1' has 3 states, from 0 on; got 3"),
        ("1 2 0", "expected a variable from 0 to 1, got 2"),
        ("2\n0 0\n0 1", "line 3: 'x0' was seen twice"),
        ("2 0 0", "expected 2 variables and their states, 4 numbers, got 2"),
        ("2\n1 0 0\n1 0 1", "expected 2 variables and their states, 4 numbers, got 6"),
        ("", "the file ends"),
    ],
)
def test_bad_evidence(text, message):
    with pytest.raises(DataFileError, match=message):
        parse_evidence(text, STATES)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("BAYES", "Bayes", "line 1: expected 'BAYES' or 'MARKOV', got 'Bayes'"),
        ("BAYES", "MARKOV", "line 1: the network is undirected .MARKOV.*`read_markov`"),
        ("\n2 2 3\n", "\n2 2 0\n", "line 3: variable 2 cannot have 0 states"),
        (
            "\n2 2 3\n",
            "\n2 2.0 3\n",
            "line 3: expected .*states of variable 1, a whole",
        ),
        ("2 2 0", "2 3 0", "line 5: expected a variable from 0 to 2, got 3"),
        ("2 2 0", "2 0 0", "line 5: a variable comes twice in factor 0"),
        ("1 2\n", "2 0 2\n", "expected 6 entries for the states of x0, x2, got 3"),
        ("\n12\n", "\n11\n", "line 15: expected 12 entries for the states of x0, x2, x1, got 11"),
        ("0.3 0.5", "0.3 0.4", "line 14: the probabilities of 'x2', .* do not add up to 1"),
        ("0.3 0.5", "0.3 a", "line 14: expected a number, got 'a'"),
        ("0.3 0.5", "0.3 -1", "line 14: expected a finite number from 0 on, got -1"),
        (" 0 1\n", " 0\n", "the file ends"),
        (" 0 1\n", " 0 1 1\n", "line 17: expected the end of the file, got '1'"),
        ("3 0 2 1", "3 1 2 0", "line 17: a second distribution of 'x0'"),
        ("1 2\n", "0\n", "expected 1 entries for the states of nothing, got 3"),
    ],
)
def test_bad_files(old, new, message):
    assert old in GARDEN
    with pytest.raises(DataFileError, match=message):
        parse_uai(GARDEN.replace(old, new, 1))


def test_variables_without_a_distribution_and_circles():
    with pytest.raises(DataFileError, match="no factor is the distribution of x1"):
        parse_uai("BAYES 2 2 2 1 1 0 2 0.5 0.5")
    with pytest.raises(DataFileError, match="x0, x1 are parents of each other"):
        parse_uai("BAYES 2 2 2 2 2 0 1 2 1 0 4 1 0 0 1 4 1 0 0 1")
    with pytest.raises(DataFileError, match="a factor of no variable"):
        parse_uai("BAYES 1 2 1 0 1 1.0")
    with pytest.raises(DataFileError, match=r"none.uai: No such file"):
        read_uai(pathlib.Path("none.uai"))


def test_whatever_the_text_an_error_is_a_data_file_error():
    rng = random.Random(0)
    for text in (GARDEN, RING):
        words = text.split()
        for _ in range(200):
            changed: list[str] = [*words]
            for _ in range(rng.randrange(1, 3)):
                k = rng.randrange(len(changed))
                extra = [*words, "1e999", "9" * 5000, "\0", "-0", "99999999"]
                changed[k : k + rng.randrange(3)] = rng.choices(extra, k=1)
            for parse in (parse_uai, parse_markov):
                try:
                    parse(" ".join(changed))
                except DataFileError:
                    continue
