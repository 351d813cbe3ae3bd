"""Characters of a text: the readings against enumeration, and what the command leaves behind."""

import itertools
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.made_up import left_behind, refused
from train.characters import claims, figure, training
from train.characters.__main__ import cli
from train.characters.settings import Config, Reading
from train.data.texts import cut
from train.models import reader

SYMBOLS, STATES = 3, 2
TEXT = np.array([0, 2, 1, 1])
SHORT = "--characters 3000 --seeds 0 1 --states 4 --length 2 --piece 16 --samples 2 --pcff 0.3"


@pytest.fixture(scope="module")
def weights():
    made = reader.initial(jax.random.key(0), SYMBOLS, STATES)
    keys = jax.random.split(jax.random.key(1), 2)
    seen = jax.random.normal(keys[0], made.seen.shape)
    return made._replace(seen=seen, bias=0.5 * jax.random.normal(keys[1], made.bias.shape))


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def in_numpy(weights) -> Any:
    return jax.tree.map(lambda a: np.asarray(a, np.float64), weights)


def enumerated(weights):
    """Of all states of TEXT: log p(states, text), log q(states given text), by NumPy."""
    w = in_numpy(weights)
    steps = len(TEXT) - 1
    found = []
    for spins in itertools.product((-1.0, 1.0), repeat=steps * STATES):
        states = np.reshape(spins, (steps, STATES))
        before, log_p, log_q = np.zeros(STATES), 0.0, 0.0
        for t in range(steps):
            e = w.read[TEXT[t]] + before @ w.recurrent + w.bias
            proposal = e + w.seen[TEXT[t + 1]]
            # P(s) is proportional to exp(s e).
            log_p += (states[t] * e - np.log(2 * np.cosh(e))).sum()
            log_q += (states[t] * proposal - np.log(2 * np.cosh(proposal))).sum()
            log_p += log_softmax(states[t] @ w.output + w.output_bias)[TEXT[t + 1]]
            before = states[t]
        found.append((log_p, log_q))
    return np.array(found).T


def test_bounds_are_those_of_enumeration(weights):
    log_p, log_q = enumerated(weights)
    likelihood = np.log(np.exp(log_p).sum())
    elbo = (np.exp(log_q) * (log_p - log_q)).sum()
    assert elbo < likelihood - 0.05
    text, count = jnp.asarray(TEXT), 4000
    keys = jax.random.split(jax.random.key(2), count)
    found = jax.jit(training.evidence_bound)(keys[0], weights, jnp.tile(text, (count, 1)))
    assert abs(found.mean() - elbo) < 5 * found.std() / count**0.5
    several = jax.jit(training.bounds(500, SYMBOLS))
    bound = several(keys[:40], weights, jnp.tile(text, (40, 1)))
    # The mean of weights has no bias; 40 logarithms of means of 500 are within a few thousandths.
    total = jax.nn.logsumexp(bound.log_weights) - math.log(40 * 500)
    error = jnp.exp(bound.log_weights - likelihood).std() / (40 * 500) ** 0.5
    assert abs(total - likelihood) < 5 * error
    assert abs(bound.value.mean() - likelihood) < 0.02
    single = bound.log_weights.ravel()
    assert abs(single.mean() - elbo) < 5 * single.std() / single.size**0.5
    # In closed form, given the states before, the divergence varies less.
    assert found.std() < single.std()


def test_scores_are_bits_of_each_reading(weights):
    pieces = training.pieces_of(cut("ab c" * 60, "made up"), 3)
    assert pieces.train_x.shape[1] == 4
    np.testing.assert_array_equal(pieces.train_x[0, 1:], pieces.train_y[0])
    assert pieces.train_x[0, 3] == pieces.train_x[1, 0]  # one text, without a gap
    dataset = pieces._replace(test_x=TEXT[None].astype(np.uint8))
    scores = {
        name: training.scores(Reading(*reading), weights, dataset, SYMBOLS, 3000, 0)
        for name, reading in {
            "collapsed": ("collapsed",),
            "pcff": ("pcff", 1.0),
            "latent": ("straight_through",),
        }.items()
    }
    w = in_numpy(weights)
    state, nats = np.zeros(STATES), 0.0
    for t in range(3):
        state = np.tanh(w.read[TEXT[t]] + state @ w.recurrent + w.bias)
        nats -= log_softmax(state @ w.output + w.output_bias)[TEXT[t + 1]]
    bits = nats / 3 / math.log(2)
    assert scores["collapsed"] == {"feed-forward": pytest.approx(bits, abs=1e-5)}
    log_p, log_q = enumerated(weights)
    exact = -np.log(np.exp(log_p).sum()) / 3 / math.log(2)
    elbo = -(np.exp(log_q) * (log_p - log_q)).sum() / 3 / math.log(2)
    for name in ("pcff", "latent"):
        # All states sampled: both are of the same law of the text.
        assert scores[name]["bound"] == pytest.approx(exact, abs=0.03)
    assert scores["latent"]["one sample"] == pytest.approx(elbo, abs=0.06)
    assert scores["pcff"]["average"] == pytest.approx(scores["latent"]["average"], abs=0.03)
    assert scores["pcff"]["average"] < scores["pcff"]["one sample"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("characters")
    # No time for a second epoch: the program is the same, and compiled once.
    assert cli([*SHORT.split(), "--budget-seconds", "0", "--out", str(out)]) == 0
    first = json.loads((out / "result.json").read_text())
    assert cli([*SHORT.split(), "--out", str(out)]) == 0  # goes on
    return out, first


def test_the_command_leaves_a_result_and_goes_on(finished):
    out, first = finished
    result = left_behind(out)
    assert [run["reading"] for run in result["runs"][::2]] == [
        *("collapsed", "pcff", "straight_through", "vimco")
    ]
    assert all(run["epochs"] == 2 and run["best epoch"] == 2 for run in result["runs"])
    for run, before in zip(result["runs"], first["runs"], strict=True):
        assert before["status"] == "running" and before["epochs"] == 1
        assert run["history"]["train_loss"][:1] == before["history"]["train_loss"]
        assert run["history"]["train_loss"][1] < before["history"]["train_loss"][0]
    assert set(result["runs"][0]["test"]) == {"feed-forward"}
    assert set(result["runs"][-1]["test"]) == set(figure.WAYS)
    # A byte has 8 bits, whatever is predicted.
    assert all(0 < b < 8 for run in result["runs"] for b in run["test"].values())
    lines = figure.table(result).lines
    assert [line[0] for line in lines] == ["collapsed", "PCFF 0.3", "latent, ELBO", "latent, VIMCO"]
    assert lines[0][2:5] == ["-", "-", "-"]


def test_runs_side_by_side_are_three_programs():
    config = Config(seeds=(0, 1), mode="vmap", pcff=(0.3,))
    made = training.groups(config, SYMBOLS)
    assert [len(group.runs) for group in made] == [4, 2, 2]
    assert made[0].hyper.tolist() == pytest.approx([0, 0, 0.3, 0.3])
    assert len(training.groups(Config(seeds=(0, 1), mode="sequential", pcff=(0.3,)), 3)) == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data-dir .", "expected None for python, a text that Python ships"),
        (
            "--characters 2000 --piece 100",
            "piece is 100; expected less than the characters",
        ),
        ("--pcff 0.1 0.1", "expected probabilities in (0, 1], none twice"),
        ("--data kjv", "kjv is not part of any package"),
    ],
)
def test_bad_settings_say_what_was_wrong(words, message, tmp_path, capsys):
    assert message in refused(cli, words, tmp_path / "out", capsys)


def test_claims_count_differences(tmp_path):
    assert {claim.verdict for claim in claims.expected(tmp_path)} == {"not yet measured"}
    levels = {
        ("collapsed", 0.0): {"feed-forward": 2.0},
        ("pcff", 0.1): {"feed-forward": 1.9, "average": 2.1, "one sample": 2.3, "bound": 2.2},
        ("pcff", 0.5): {"feed-forward": 2.2, "average": 2.4, "one sample": 2.6, "bound": 2.5},
        ("straight_through", 0.0): {"feed-forward": 2.6, "bound": 2.5},
        ("vimco", 0.0): {"feed-forward": 3.1, "bound": 3.0},
    }
    runs = [
        {"reading": name, "rate": rate, "seed": seed}
        | {"test": {way: bits * (1 + 0.001 * seed) for way, bits in ways.items()}}
        for (name, rate), ways in levels.items()
        for seed in range(3)
    ]
    path = tmp_path / "characters" / "python" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"settings": {"data": "python"}, "runs": runs}))
    found = claims.expected(tmp_path)
    assert [claim.verdict for claim in found] == [
        *("holds", "does not hold", "holds", "holds", "holds")
    ]
    assert "PCFF 0.1 -0.100 ± 0.000" in found[0].evidence
