"""Taggers: what a network computes, how it learns, the whole command, and the claims."""

import functools
import json
import pathlib
import shutil
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from tests.train.made_up import ROOT
from train import figure
from train.data import sentences
from train.models.encoders import encoder
from train.models.tagger import Tagger
from train.report.claims import ABSENT, FAILS, HOLDS, OPEN
from train.report.files import DataFileError
from train.tagging import experiment, table, training
from train.tagging.__main__ import cli
from train.tagging.claims import claims, expected
from train.tagging.settings import Cell, Config, Encoder, Head, Regulariser
from train.tagging.training import Predictions, Rates

# What is compiled is shared: the functions below train what the command trains.
TINY = Config(
    encoders=("window",),
    heads=("constrained",),
    regularisers=("dropout",),
    seeds=(0, 1),
    sentences=24,
    hidden=4,
    batch_size=8,
    learning_rate=0.05,
    epochs=3,
)
OPTIONS = (
    "--encoders window --heads constrained --regularisers dropout --seeds 0 1 --sentences 24 "
    "--hidden 4 --batch-size 8 --learning-rate 0.05 --epochs 3"
).split()
CELL = Cell("window", "constrained", "dropout")
PROBLEM = experiment.Problem.of(experiment.first(sentences.load("grammar"), TINY.sentences))
SHAPE = PROBLEM.shape(TINY, CELL)
TRAIN = PROBLEM.encoded["train"]
SMALL = SHAPE._replace(widths=(4, 2, 2, 2, 2))


# --- networks -------------------------------------------------------------------------------------


def test_recurrences_begin_at_the_ends_of_a_sentence():
    """In a batch with padding they are what a loop over the words of each sentence gives."""
    net: Any = Tagger(SMALL._replace(encoder="recurrent", head="softmax"), nnx.Rngs(0))
    batch = next(TRAIN.batches(8))
    found = jax.jit(lambda words, lengths: net(words, lengths)[0].unary)(batch.words, batch.lengths)
    tables = [np.asarray(each.embedding[...]) for each in net.embeddings]
    assert len({*batch.lengths.tolist()}) > 1
    for row, length in enumerate(batch.lengths):
        padded = np.pad(batch.words[row, :length], ((1, 1), (0, 0)))
        embedded = np.concatenate([t[padded[:, i]] for i, t in enumerate(tables)], -1)
        windows = np.stack([embedded[t : t + 3].reshape(-1) for t in range(length)])
        states = []
        for layer, order in ((net.encoder.forward, 1), (net.encoder.backward, -1)):
            inner = windows @ np.asarray(layer.input.kernel[...]) + np.asarray(
                layer.input.bias[...]
            )
            state, every = np.zeros(2), np.zeros((length, 2))
            for t in range(length)[::order]:
                state = np.maximum(inner[t] + np.asarray(layer.recurrent[...]) * state, 0)
                every[t] = state
            states.append(every)
        output = net.output.unary
        expected = np.concatenate(states, -1) @ np.asarray(output.kernel[...])
        expected += np.asarray(output.bias[...])
        # float32 rounding.
        np.testing.assert_allclose(found[row, :length], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["bayesian", "gru"])
def test_encoders_see_the_sentence_and_nothing_behind_it(name):
    """Each word of a padded sentence is known from both of its sides, and from nowhere else."""
    layer: Any = encoder(name, 3, 6, nnx.Rngs(1))
    x = np.random.default_rng(1).normal(size=(3, 5, 3)).astype(np.float32)
    run = jax.jit(layer)
    found = run(x, np.array([5, 3, 1]))
    assert found.shape == (3, 5, layer.nodes)
    other, first, last = x.copy(), x.copy(), x.copy()
    other[1, 3:], other[2, 1:], first[:, 0], last[1, 2] = 7, -7, 7, -7
    by_other, by_first, by_last = (run(v, np.array([5, 3, 1])) for v in (other, first, last))
    for row, length in enumerate((5, 3, 1)):
        np.testing.assert_array_equal(found[row, :length], by_other[row, :length])
        assert (np.abs(found - by_first)[row, :length].max(-1) > 1e-4).all()
    assert (np.abs(found - by_last)[1, :3].max(-1) > 1e-4).all()
    if name == "gru":
        theirs = nnx.Bidirectional(*(nnx.RNN(_flax_cell(way)) for way in _ways(layer)))
        expected = theirs(jnp.asarray(x[:1]))
        np.testing.assert_allclose(found[:1], expected, atol=1e-6)  # float32 rounding


def _flax_cell(layer: Any) -> nnx.GRUCell:
    """Flax's cell with a layer's weights."""
    cell = nnx.GRUCell(layer.input.in_features, layer.features, rngs=nnx.Rngs(0))
    nnx.update(cell.dense_i, nnx.state(layer.input))
    nnx.update(cell.dense_h, nnx.state(layer.recurrent))
    return cell


def _ways(layer: Any) -> tuple[Any, Any]:
    return layer.forward, layer.backward


def test_encoders_have_as_many_parameters():
    """As the page says, of 128 nodes and 432 inputs."""
    names: tuple[Encoder, ...] = get_args(Encoder)
    made = [nnx.eval_shape(lambda n=n: encoder(n, 432, 128, nnx.Rngs(0))) for n in names]
    counts = [sum(x.size for x in jax.tree.leaves(nnx.state(net, nnx.Param))) for net in made]
    assert dict(zip(names, counts, strict=True)) == {
        "window": 55424,
        "recurrent": 55552,
        "bayesian": 55808,
        "gru": 54360,
        "gru_wide": 190848,
    }
    assert [net.nodes for net in made] == [128, 128, 128, 40, 128]


def test_a_chain_sees_the_marginals_of_another_or_a_sample():
    """PCFF of the lower chain alone; the hidden nodes keep their values."""
    shape = SMALL._replace(head="stacked")
    net = Tagger(shape, nnx.Rngs(0))
    _, params, _ = cg.functional(net)
    batch = next(TRAIN.batches(8))

    @jax.jit
    def found(key, rate):
        top, lower = training.sampled(shape, key, params, Rates(lower=rate), batch)
        return top.unary, lower.unary

    (top, lower), (again, same), (sampled, below), (other, _) = (
        found(jax.random.key(seed), rate) for seed, rate in ((0, 0.0), (1, 0.0), (0, 1.0), (1, 1.0))
    )
    np.testing.assert_array_equal(top, again)
    np.testing.assert_array_equal(lower, same)
    np.testing.assert_array_equal(lower, below)
    assert all(np.abs(a - b).max() > 0.01 for a, b in ((top, sampled), (sampled, other)))


def test_rates_of_regularisers():
    names = ("none", "dropout", "pcff", "pcff_tags")
    found = [training.rates_of(CELL._replace(regulariser=name), 0.25, 0.5) for name in names]
    assert found == [(0, 0, 0), (0.25, 0, 0), (0, 0.5, 0), (0, 0, 0.5)]


# --- training -------------------------------------------------------------------------------------


@functools.cache
def learnt(seed):
    rates = training.rates_of(CELL, TINY.drop_rate, TINY.pcff_rate)
    return training.trained(SHAPE, TINY, rates, seed, TRAIN)


def predicted():
    return training.predictions(SHAPE, learnt(0)[0], experiment.EVALUATED, PROBLEM.encoded["test"])


def test_training_learns_and_repeats():
    params, losses = learnt(0)
    # Seven tags that are equally probable have log(7) = 1.95 nats each.
    assert len(losses) == TINY.epochs and 2.3 > losses[0] > losses[-1] + 0.3
    learnt.cache_clear()
    again, same = learnt(0)
    assert same == losses != learnt(1)[1]
    jax.tree.map(np.testing.assert_array_equal, params, again)


def test_predictions_keep_the_rules():
    """What IOB2 forbids has no probability, and the most probable tags are allowed ones."""
    known, part = predicted(), PROBLEM.corpus.test
    assert [len(tags) for tags in known.tags] == [len(sentence.words) for sentence in part]
    # float32 rounding.
    np.testing.assert_allclose(known.marginals.sum(-1), 1, atol=1e-5)
    first = np.cumsum([0] + [len(tags) for tags in known.tags[:-1]])
    inside = [tag.startswith("I-") for tag in PROBLEM.corpus.tags]
    assert (known.marginals[first][:, inside] == 0).all() and (known.marginals >= 0).all()
    found = experiment.figures(PROBLEM.corpus, part, known)
    assert found["invalid steps"] == 0 and found["nll per sentence"] > found["nll per word"] > 0


def test_figures_of_predictions():
    """One wrong tag, which opens an entity in the middle."""
    corpus = PROBLEM.corpus._replace(
        test=(
            sentences.Sentence(("a", "b", "c"), ("B-person", "I-person", "O")),
            sentences.Sentence(("d",), ("O",)),
        )
    )
    states = {tag: number for number, tag in enumerate(corpus.tags)}
    told = [["B-person", "I-group", "O"], ["O"]]
    marginals = np.full((4, len(states)), 0.1 / (len(states) - 1), np.float32)
    for row, tag in enumerate(sum(told, [])):
        marginals[row, states[tag]] = 0.9
    tags = [np.array([states[tag] for tag in row]) for row in told]
    found = experiment.figures(corpus, corpus.test, Predictions(6.0, tags, marginals))
    assert found.pop("ece") == pytest.approx(0.9 - 0.75, abs=1e-6)
    assert found == {
        "error": 0.25,
        "sentences right": 0.5,
        "nll per sentence": 3.0,
        "nll per word": 1.5,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "invalid steps": 1,
    }


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole command, once."""
    out = tmp_path_factory.mktemp("tagging") / "out"
    assert cli([*OPTIONS, "--out", str(out)]) == 0
    return out


def test_the_command_leaves_a_result_of_each_cell(finished):
    result = json.loads((finished / CELL.file).read_text())
    assert result["command"].startswith("python -m train.tagging --encoders window")
    assert {"commit", "machine", "data", "settings", "sizes"} <= result.keys()
    assert [run["seed"] for run in result["runs"]] == [0, 1]
    assert result["sizes"]["train sentences"] == 24 and result["sizes"]["parameters"] > 1000
    # What the same functions give elsewhere, to the last bit.
    assert result["runs"][0]["loss"] == learnt(0)[1]
    expected = experiment.figures(PROBLEM.corpus, PROBLEM.corpus.test, predicted())
    assert result["runs"][0]["test"] == expected
    assert (finished / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_goes_on_with_what_is_not_there(finished, capsys):
    before = (finished / CELL.file).read_bytes()
    assert cli([*OPTIONS, "--out", str(finished)]) == 0
    assert "was there" in capsys.readouterr().out
    assert cli([*OPTIONS[:-1], "4", "--out", str(finished)]) == 1
    assert "epochs: 3 there, 4 now" in capsys.readouterr().err
    assert (finished / CELL.file).read_bytes() == before


def test_the_table_and_the_figure_are_made_of_the_file(finished, tmp_path):
    result = table.read(finished / CELL.file)
    (grid,) = table.tables([result])
    assert "F1 %" in grid.head and grid.lines[0][:3] == ["window", "constrained chain", "dropout"]
    assert grid.lines[0][-1] == "2"
    (short,) = table.short_tables([result])
    assert [*short.head] == ["test sentences", "F1 %", "sentences right %", "NLL a word", "ECE %"]
    assert short.lines[0][1] == grid.lines[0][grid.head.index("F1 %")]
    assert table.line(result).startswith("window-constrained-dropout: F1 % ")
    out = tmp_path / "figure.svg"
    assert figure.cli([str(finished / CELL.file), "--out", str(out)]) == 0
    assert "<!-- entity F1 (%) -->" in out.read_text()
    for run in result["runs"]:
        del run["test"]["ece"]
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(result))
    with pytest.raises(DataFileError, match="bad.json is no result of `python -m train.tagging`"):
        table.read(bad)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"hidden": 3}, "hidden is 3; expected an even number"),
        ({"data_dir": "x"}, "data_dir is x; expected None for grammar"),
        ({"data": "ewt", "heads": ("constrained",)}, "constrained is for entities, not for ewt"),
        ({"seeds": (1, 1)}, "none twice"),
    ],
)
def test_settings_that_do_not_fit(settings, told):
    with pytest.raises(ValueError, match=told):
        Config(**settings)


def test_a_corpus_without_its_files_is_told(capsys, tmp_path):
    assert cli(["--data", "ewt", "--out", str(tmp_path / "out")]) == 1
    assert "error: ewt is not part of any package" in capsys.readouterr().err


def test_cells_fit_the_data():
    assert len(Config().cells) == len({*Config().cells}) == 26
    parts = Config(data="ewt").cells
    assert len(parts) == 20 and all(cell.head != "constrained" for cell in parts)
    assert all(c.head == "stacked" for c in Config().cells if c.regulariser == "pcff_tags")


# --- claims ---------------------------------------------------------------------------------------


def write(results: pathlib.Path, data: str, cell: Cell, seeds=(0, 1, 2), **figures: float) -> None:
    """A result with figures that differ a little between seeds."""
    known = {"nll per word": 0.4, "nll per sentence": 7.0, "ece": 0.05, "sentences right": 0.4}
    known |= {"f1": 0.13, "invalid steps": 30.0} if data == "wnut17" else {}
    config = Config(data=data, seeds=tuple(seeds))  # pyright: ignore[reportArgumentType]
    runs = [
        {
            "seed": seed,
            "test": {k: v * (1 + 0.001 * seed) for k, v in (known | figures).items()},
        }
        for seed in seeds
    ]
    path = results / "tagging" / data / cell.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"settings": config.facts_of(cell), "runs": runs}))


def verdicts(results: pathlib.Path) -> list[str]:
    return [claim.verdict for claim in expected(results)]


@pytest.mark.parametrize("seeds", [3, 2])
def test_claims_take_three_seeds(tmp_path, seeds):
    assert verdicts(tmp_path) == [ABSENT] * 12
    some = range(seeds)
    for data in ("wnut17", "ewt"):
        write(tmp_path, data, Cell("window", "softmax", "none"), some)
        better = {"nll per sentence": 6.0, "sentences right": 0.45, "ece": 0.01}
        better |= {"f1": 0.15} if data == "wnut17" else {}
        write(tmp_path, data, Cell("window", "chain", "none"), some, **better)
    constrained = {"f1": 0.12, "invalid steps": 0, "ece": 0.01}
    write(tmp_path, "wnut17", Cell("window", "constrained", "none"), some, **constrained)
    found = expected(tmp_path)
    decided = [HOLDS, FAILS, HOLDS, HOLDS, HOLDS, ABSENT, HOLDS, HOLDS, *[ABSENT] * 4]
    if seeds == 2:  # counts decide by themselves
        decided = [OPEN if i in (0, 1, 2, 3, 4, 7) else v for i, v in enumerate(decided)]
    assert [claim.verdict for claim in found] == decided
    assert found[0].evidence.startswith("WNUT window none +2.00")
    assert claims(tmp_path) == found[:2]
    assert found[6].evidence.startswith(f"0 in {seeds} runs; a chain without constraints 30.0")


def test_one_case_that_fails_is_told(tmp_path):
    cases: tuple[tuple[Regulariser, float], ...] = ("none", 0.15), ("dropout", 0.10)
    for regulariser, f1 in cases:
        write(tmp_path, "wnut17", Cell("window", "softmax", regulariser))
        write(tmp_path, "wnut17", Cell("window", "chain", regulariser), f1=f1, ece=0.1)
    assert verdicts(tmp_path)[0] == FAILS and verdicts(tmp_path)[7] == FAILS
    pcff = Cell("window", "chain", "pcff")
    write(tmp_path, "wnut17", pcff, f1=0.2)
    write(tmp_path, "wnut17", Cell("window", "constrained", "none"), **{"invalid steps": 1})
    assert verdicts(tmp_path)[6] == FAILS and verdicts(tmp_path)[8] == HOLDS
    shutil.copytree(tmp_path / "tagging" / "wnut17", tmp_path / "tagging" / "again")
    with pytest.raises(ValueError, match="holds wnut17 window-.*.json twice"):
        expected(tmp_path)


def test_units_are_compared_with_the_same_tags_and_regulariser(tmp_path):
    heads: tuple[Head, ...] = ("softmax", "chain")
    for head in heads:
        write(tmp_path, "wnut17", Cell("gru", head, "none"))
        write(tmp_path, "wnut17", Cell("bayesian", head, "none"), f1=0.15)
    units, probable = expected(tmp_path)[-2:]
    assert units.verdict == HOLDS and units.evidence.startswith("WNUT softmax none +2.00")
    assert "WNUT chain none +2.00" in units.evidence and probable.verdict == OPEN


def test_claims_leave_out_short_trainings(tmp_path):
    cell = Cell("window", "constrained", "none")
    write(tmp_path, "wnut17", cell, **{"invalid steps": 1})
    path = tmp_path / "tagging" / "wnut17" / cell.file
    result = json.loads(path.read_text())
    result["settings"]["epochs"] = 1
    path.write_text(json.dumps(result))
    assert verdicts(tmp_path) == [ABSENT] * 12


def test_the_results_of_the_repository_are_whole():
    found = table.read_all(ROOT / "results" / "tagging")
    assert all(run["test"]["ece"] < 1 for result in found for run in result["runs"])
    for result in found:
        assert " + changes" not in result["commit"], result["command"]
