"""Entities by the rules of CoNLL, and what an array of sentences holds. Nothing is compiled."""

import itertools

import numpy as np
import pytest

from train.data import grammar
from train.data.sentences import Corpus, Sentence
from train.tagging.features import FEATURES, Encoded, Vocabulary, normal, shape
from train.tagging.scores import Entity, Found, entities, entity_scores, invalid_steps


def words(*lines: str) -> list[list[str]]:
    return [line.split() for line in lines]


@pytest.mark.parametrize(
    ("right", "given", "expected"),
    [
        # Precision, recall and F1 as seqeval 1.2.2 gives them. With it, in its default mode, these
        # functions also agreed on 2,000 random sets of three sentences, most of them invalid.
        (words("O B-a I-a O B-b"), words("O B-a I-a O B-b"), (1.0, 1.0, 1.0)),
        (words("B-a I-a I-a O", "B-b O"), words("B-a I-a O O", "B-b B-a"), (1 / 3, 0.5, 0.4)),
        (words("B-a I-a B-a I-b"), words("I-a I-a I-a I-b"), (0.5, 1 / 3, 0.4)),
        (words("O O", "B-a"), words("O O", "O"), (0.0, 0.0, 0.0)),
        (
            words("B-a I-b I-b B-b O I-a I-a", "I-b", "O B-a I-a B-a"),
            words("B-a I-a I-b I-b O B-a I-a", "B-b", "O B-a I-a I-a"),
            (0.4, 2 / 7, 1 / 3),
        ),
    ],
)
def test_entities_count_as_in_the_shared_tasks(right, given, expected):
    np.testing.assert_allclose(entity_scores(right, given), expected, rtol=1e-12)
    precision, recall, f1 = entity_scores(given, right)
    np.testing.assert_allclose((recall, precision, f1), expected, rtol=1e-12)


def test_no_entities_are_no_merit():
    assert entity_scores(words("O O"), words("O O")) == Found(0.0, 0.0, 0.0)


def test_entities_that_break_the_rules():
    tags = "I-x-y B-x-y I-x-y O I-b I-x-y".split()
    assert entities(tags) == [
        Entity("x-y", 0, 0),
        Entity("x-y", 1, 2),
        Entity("b", 4, 4),
        Entity("x-y", 5, 5),
    ]
    assert invalid_steps(tags) == 3 and invalid_steps([]) == 0
    assert invalid_steps("B-a I-a I-a O B-b B-b I-b".split()) == 0


def test_properties_of_words():
    assert normal("Top10") == "top00" and shape("Top10!!") == "Xxd!" and shape("ÉCOLE") == "X"
    assert [feature.of("Walked2") for feature in FEATURES] == [
        *("walked0", "wal", "ed0", "d0", "Xxd"),
    ]


def test_only_training_words_have_numbers():
    train = (Sentence(("Ada", "met", "Ada", "met", "Bo"), ("O",) * 5),)
    vocabulary = Vocabulary.of(train)
    assert vocabulary.sizes == (4, 4, 4, 4, 4)  # two entries of each, padding and unknown
    found = vocabulary.numbers(("met", "Bo", "never"))
    assert (found[0] > 1).all() and (found[1:, :4] == 1).all()  # once is not enough
    assert found[1, 4] > 1  # a capital and small letters, as in "Ada"
    assert vocabulary.numbers(()).shape == (0, 5)


@pytest.fixture(scope="module")
def encoded() -> tuple[Corpus, Encoded]:
    corpus = grammar.corpus()
    long = corpus.train[0]
    long = Sentence(3 * long.words, 3 * long.tags)
    corpus = corpus._replace(train=(*corpus.train[:20], long, Sentence(("a",), ("O",))))
    return corpus, Encoded.of(Vocabulary.of(corpus.train), corpus, corpus.train)


def test_sentences_are_padded_to_few_lengths(encoded):
    corpus, arrays = encoded
    assert [*arrays.by_length] == [16, 32]
    for length, batch in arrays.by_length.items():
        for row, number in enumerate(batch.numbers):
            known, size = corpus.train[number], batch.lengths[row]
            assert size == len(known.words) <= length
            assert [corpus.tags[tag] for tag in batch.tags[row, :size]] == [*known.tags]
            assert (batch.words[row, :size] > 0).all() and (batch.words[row, size:] == 0).all()


def test_every_sentence_is_in_one_batch(encoded):
    """In an order that a generator makes; what fills up is empty."""
    corpus, arrays = encoded
    orders = []
    for random in (None, np.random.default_rng(0), np.random.default_rng(1)):
        batches = [*arrays.batches(4, random)]
        assert all(batch.words.shape[0] == 4 for batch in batches)
        numbers = np.concatenate([batch.numbers for batch in batches])
        assert sorted(numbers[numbers >= 0]) == [*range(len(corpus.train))]
        assert all((batch.lengths[batch.numbers < 0] == 0).all() for batch in batches)
        orders.append(numbers.tolist())
    assert all(a != b for a, b in itertools.combinations(orders, 2))
