"""Files of Bayesian networks: what they say, what is wrong with others, and inference in them."""

import random

import jax
import numpy as np
import pytest

import cgjax as cg
from train.data.bayesian_networks import parse_bif, read_bif
from train.models.bayesian_network import network, observed, tables
from train.report.files import DataFileError

GARDEN = """
network garden { property "drawn by hand"; }
variable wet { type discrete [ 3 ] { no, little, much }; }  // comes before its parents
variable rain { type discrete[2]{yes,no}; property position = (3, 4); }
variable sprinkler { type discrete [ 2 ] { on, off }; }
/* distributions
*/
probability ( rain ) { table 0.2, 0.8; }
probability ( sprinkler | rain ) { (yes) 0.01, 0.99; (no) 4.0e-1, 0.6; }
probability ( wet | rain, sprinkler ) {
  (yes, on) 0, 0.1, 0.9;
  (no, off) 1, 0, 0;
  default 0.2, 0.5, 0.3;
}
"""


def joint() -> np.ndarray:
    """P(rain, sprinkler, wet)."""
    rain = np.array([0.2, 0.8])
    sprinkler = np.array([[0.01, 0.99], [0.4, 0.6]])
    wet = np.broadcast_to([0.2, 0.5, 0.3], (2, 2, 3)).copy()
    wet[0, 0], wet[1, 1] = [0, 0.1, 0.9], [1, 0, 0]
    return rain[:, None, None] * sprinkler[:, :, None] * wet


def test_reading_and_inference(tmp_path):
    path = tmp_path / "garden.bif"
    path.write_text(GARDEN)
    variables = read_bif(path)
    assert [(v.name, v.parents) for v in variables] == [
        ("rain", ()),
        ("sprinkler", ("rain",)),
        ("wet", ("rain", "sprinkler")),
    ]
    assert variables[2].states == ("no", "little", "much")
    net, parameters, p = network(variables), tables(variables), joint()

    @jax.jit
    def posterior(wet):
        evidence = {"wet": wet}
        means = cg.exact_marginals(cg.condition(net, evidence))(parameters)
        return means, cg.log_evidence(net)(evidence, parameters)

    for k, state in enumerate(variables[2].states):
        means, log = posterior(observed(variables, {"wet": state})["wet"])
        total = p[:, :, k].sum()
        np.testing.assert_allclose(log, np.log(total), rtol=1e-5)
        np.testing.assert_allclose(means["rain"], p[:, :, k].sum(1) / total, rtol=1e-5)
        np.testing.assert_allclose(means["sprinkler"], p[:, :, k].sum(0) / total, rtol=1e-5)
    impossible = observed(variables, {"rain": "no", "sprinkler": "off", "wet": "much"})
    with pytest.raises(ValueError, match="probability 0"):
        cg.log_evidence(net)(impossible, parameters)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.2, 0.8;", "0.2, 0.7;", "line 8: the probabilities of 'rain' do not add up to 1"),
        ("0.2, 0.8;", "0.2;", "line 8: expected 2 probabilities, got 1"),
        ("0.2, 0.8;", "0.2, x;", "line 8: expected probabilities, got '0.2 x'"),
        ("0.2, 0.8;", "-1, 2;", "line 8: expected numbers from 0 to 1"),
        ("(no, off)", "(no, of)", r"line 12: expected a state of each of \['rain', 'sprinkler'\]"),
        ("default 0.2, 0.5, 0.3;", "", "line 14: 'wet' has no probabilities for some states of"),
        ("(no) 4.0e-1", "(yes) 4.0e-1", "line 9: a second row of 'sprinkler' for the same states"),
        ("yes,no", "yes,no#", r"expected a state of each of \['rain'\], got \['no'\]"),
        (GARDEN, " ", "expected a network in BIF"),
        ("( rain )", "( rains )", "'rains' is no variable"),
        ("{ table 0.2, 0.8; }", "{", "expected 'table', 'default' or a row"),
        ("[ 3 ]", "[ 2 ]", "line 3: expected 2 different states of 'wet'"),
        ("variable sprinkler", "variable rain", "line 5: a second variable 'rain'"),
        ("( rain ) { table 0.2, 0.8; }", "(rain|wet) {default 0.2, 0.8;}", "parents of each other"),
        ("(yes) 0.01, 0.99; (no) 4.0e-1, 0.6;", "table 0, 1, 0, 1;", "which has parents"),
        ("network garden", "netzwerk garden", "line 2: expected 'network', 'variable'"),
    ],
)
def test_bad_files(old, new, message):
    assert old in GARDEN
    with pytest.raises(DataFileError, match=message):
        parse_bif(GARDEN.replace(old, new, 1))


def test_what_is_quoted_is_no_comment_and_names_have_all_characters(tmp_path):
    path = tmp_path / "odd.bif"
    text = GARDEN.replace('"drawn by hand"', '"https://a/*b"').replace("rain", "Niederschlag_ü'")
    path.write_text(text.replace("little", '"a little, *"'), encoding="utf-8-sig")
    variables = read_bif(path)
    assert [v.name for v in variables] == ["Niederschlag_ü'", "sprinkler", "wet"]
    assert variables[2].states == ("no", "a little, *", "much")
    np.testing.assert_array_equal(variables[2].table, parse_bif(GARDEN)[2].table)


def test_missing_files(tmp_path):
    with pytest.raises(DataFileError, match="none.bif: No such file"):
        read_bif(tmp_path / "none.bif")


def test_whatever_the_text_an_error_is_a_data_file_error():
    rng = random.Random(0)
    words = GARDEN.split()
    for _ in range(300):
        changed = list(words)
        for _ in range(rng.randrange(1, 4)):
            k = rng.randrange(len(changed))
            changed[k : k + rng.randrange(3)] = rng.choices([*words, "{", ")", "1e999", "\0"], k=1)
        try:
            variables = parse_bif(" ".join(changed))
        except DataFileError:
            continue
        seen: set[str] = set()
        for v in variables:
            assert seen.issuperset(v.parents)
            np.testing.assert_allclose(v.table.sum(-1), 1.0, rtol=1e-6)
            seen.add(v.name)
