"""The experiment from the sentences to a JSON for each cell; see `train.tagging`."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cgjax import metrics
from train.data import sentences
from train.data.sentences import Corpus, Sentence
from train.models.tagger import Shape
from train.report import machine, results
from train.report.files import held
from train.tagging import training
from train.tagging.features import FEATURES, Encoded, Vocabulary
from train.tagging.figure import draw
from train.tagging.scores import entity_scores, invalid_steps
from train.tagging.settings import Cell, Config
from train.tagging.table import Cells, line, read, short_tables

TITLE = "tags of sentences"
SOURCE = "[A] section 3"
EVALUATED = 64  # sentences at a time; no figure depends on it but by roundings


class Problem(NamedTuple):
    """Sentences as arrays, by part, and what they were."""

    corpus: Corpus
    vocabulary: Vocabulary
    encoded: dict[str, Encoded]

    @classmethod
    def of(cls, corpus: Corpus) -> "Problem":
        """With the vocabulary of the training sentences."""
        vocabulary = Vocabulary.of(corpus.train)
        encoded = {
            part: Encoded.of(vocabulary, corpus, getattr(corpus, part)) for part in sentences.PARTS
        }
        return cls(corpus, vocabulary, encoded)

    def shape(self, config: Config, cell: Cell) -> Shape:
        """The network of a cell."""
        widths = tuple(feature.size for feature in FEATURES)
        tags, sizes = self.corpus.tags, self.vocabulary.sizes
        return Shape(cell.encoder, cell.head, config.hidden, tags, sizes, widths)


def main(config: Config, command: str, console: Any) -> Cells:
    """Trains and tests what is not there yet. DataFileError for bad data, CheckpointError if a
    result in the folder was made with other settings."""
    corpus = first(sentences.load(config.data, config.data_dir), config.sentences)
    problem, say, digest = Problem.of(corpus), results.said_on(console), corpus.digest
    todo = {cell: config.facts_of(cell) | {"corpus SHA-256": digest} for cell in config.cells}

    def make(cell: Cell) -> dict[str, Any]:
        identity = machine.identity("sequential")
        told: dict[str, Any] = {"data": corpus.source, "settings": todo[cell]}
        # The commit of before the training: it may change in the meantime.
        origin = results.origin(TITLE, SOURCE, command=command, identity=identity, **told)
        return origin | made(config, cell, problem)

    say(f"{corpus.source}; results go to {config.folder}")
    with held(config.folder):
        kept = results.cells(config.folder, todo, console, make=make, read=read, line=line)
        draw([config.folder / cell.file for cell in kept], config.folder / "figure.png")
    found = [*kept.values()]
    console.print(*(grid.rich() for grid in short_tables(found)))
    say(f"{config.folder}/*.json, {config.folder}/figure.png")
    return found


def first(corpus: Corpus, number: int | None) -> Corpus:
    """A corpus with the first sentences of each part only."""
    if number is None:
        return corpus
    parts = {part: getattr(corpus, part)[:number] for part in sentences.PARTS}
    return corpus._replace(**parts, source=f"{corpus.source}, the first {number} of each part")


def made(config: Config, cell: Cell, problem: Problem) -> dict[str, Any]:
    """What the JSON of a cell says of its runs."""
    shape = problem.shape(config, cell)
    rates = training.rates_of(cell, config.drop_rate, config.pcff_rate)
    runs, size = [], 0
    for seed in config.seeds:
        began = time.monotonic()
        params, history = training.trained(shape, config, rates, seed, problem.encoded["train"])
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        run = {"seed": seed, "seconds": round(time.monotonic() - began, 1), "loss": history}
        for part in ("validation", "test"):
            known = training.predictions(shape, params, EVALUATED, problem.encoded[part])
            run[part] = figures(problem.corpus, getattr(problem.corpus, part), known)
        runs.append(run)
    sizes = {}
    for part in sentences.PARTS:
        some = getattr(problem.corpus, part)
        words = sum(len(sentence.words) for sentence in some)
        sizes |= {f"{part} sentences": len(some), f"{part} words": words}
    return {"sizes": sizes | {"parameters": size}, "runs": runs}


def figures(
    corpus: Corpus, part: Sequence[Sentence], known: training.Predictions
) -> dict[str, float | int]:
    """What is told of predictions: shares in [0, 1], nats, and the number of invalid steps."""
    right = [sentence.tags for sentence in part]
    told = [tuple(corpus.tags[state] for state in states) for states in known.tags]
    words = sum(map(len, right))
    wrong = sum(a != b for x, y in zip(right, told, strict=True) for a, b in zip(x, y, strict=True))
    states = {tag: number for number, tag in enumerate(corpus.tags)}
    labels = np.array([states[tag] for tags in right for tag in tags], np.int32)
    found: dict[str, float | int] = {
        "error": wrong / words,
        "sentences right": sum(x == y for x, y in zip(right, told, strict=True)) / len(right),
        "nll per sentence": known.nll / len(right),
        "nll per word": known.nll / words,
        "ece": float(metrics.ece(known.marginals, labels)),
    }
    if corpus.entities:
        found |= entity_scores(right, told)._asdict()
        found["invalid steps"] = sum(map(invalid_steps, told))
    return found
