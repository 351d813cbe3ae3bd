"""What a tagger sees of a word, and sentences as arrays of few lengths."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np

from train.data.sentences import Corpus, Sentence

SHORTEST = 16  # sentences are padded to this, or to the next power of two
_PADDING, _UNKNOWN = 0, 1
_LEAST = 2  # times that an entry is seen in training; others train the entry for what is unknown


def normal(word: str) -> str:
    """In small letters, each digit as 0."""
    return re.sub(r"\d", "0", word.lower())


def shape(word: str) -> str:
    """Which kinds of characters follow each other.

    Example:
        >>> shape("@McCoy2017"), shape("U.S.")
        ('@XxXxd', 'X.X.')
    """
    kinds = (
        "X" if c.isupper() else "x" if c.isalpha() else "d" if c.isdigit() else c for c in word
    )
    return re.sub(r"(.)\1+", r"\1", "".join(kinds))[:8]


class Feature(NamedTuple):
    """A property of a word, and how many numbers are learnt for each value of it."""

    of: Callable[[str], str]
    size: int


FEATURES = (
    Feature(normal, 64),
    Feature(lambda word: normal(word)[:3], 24),
    Feature(lambda word: normal(word)[-3:], 24),
    Feature(lambda word: normal(word)[-2:], 16),
    Feature(shape, 16),
)


class Vocabulary(NamedTuple):
    """The numbers of the values of each feature; 0 is for padding, 1 for what is unknown."""

    entries: tuple[dict[str, int], ...]

    @classmethod
    def of(cls, sentences: Sequence[Sentence]) -> Self:
        """Of training sentences: values that come twice."""
        tables = []
        for feature in FEATURES:
            counts = Counter(feature.of(word) for known in sentences for word in known.words)
            values = [value for value, count in counts.items() if count >= _LEAST]
            tables.append({value: number for number, value in enumerate(values, _UNKNOWN + 1)})
        return cls(tuple(tables))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers each feature has."""
        return tuple(len(table) + 2 for table in self.entries)

    def numbers(self, words: Sequence[str]) -> np.ndarray:
        """int32[words, features]."""
        rows = [
            [t.get(f.of(word), _UNKNOWN) for f, t in zip(FEATURES, self.entries, strict=True)]
            for word in words
        ]
        return np.array(rows, np.int32).reshape(len(words), len(FEATURES))


class Batch(NamedTuple):
    """Sentences of about the same length, padded; one of length 0 fills up."""

    words: np.ndarray  # int32[sentences, positions, features]
    tags: np.ndarray  # int32[sentences, positions], 0 in the padding
    lengths: np.ndarray  # int32[sentences]
    numbers: np.ndarray  # int64[sentences], those of the sentences; -1 for what fills up


class Encoded(NamedTuple):
    """Sentences as arrays, by the length that they are padded to."""

    by_length: dict[int, Batch]

    @classmethod
    def of(cls, vocabulary: Vocabulary, corpus: Corpus, sentences: Sequence[Sentence]) -> Self:
        """With the tags of the corpus as numbers."""
        states = {tag: number for number, tag in enumerate(corpus.tags)}
        groups: dict[int, list[int]] = {}
        for number, sentence in enumerate(sentences):
            length = max(SHORTEST, 1 << (len(sentence.words) - 1).bit_length())
            groups.setdefault(length, []).append(number)
        found = {}
        for length, numbers in sorted(groups.items()):
            words = np.full((len(numbers), length, len(FEATURES)), _PADDING, np.int32)
            tags = np.zeros((len(numbers), length), np.int32)
            for row, number in enumerate(numbers):
                known = sentences[number]
                words[row, : len(known.words)] = vocabulary.numbers(known.words)
                tags[row, : len(known.words)] = [states[tag] for tag in known.tags]
            lengths = np.array([len(sentences[number].words) for number in numbers], np.int32)
            found[length] = Batch(words, tags, lengths, np.array(numbers))
        return cls(found)

    def batches(self, size: int, order: np.random.Generator | None = None) -> Iterator[Batch]:
        """All sentences once, so many at a time; in the given order, or in a random one, in which
        batches of all lengths take turns."""
        picked = []
        for length, group in self.by_length.items():
            count = len(group.lengths)
            rows = np.arange(count) if order is None else order.permutation(count)
            picked += [(length, rows[first : first + size]) for first in range(0, count, size)]
        if order is not None:
            picked = [picked[i] for i in order.permutation(len(picked))]
        for length, rows in picked:
            yield _filled(Batch(*(array[rows] for array in self.by_length[length])), size)


def _filled(batch: Batch, size: int) -> Batch:
    missing = size - len(batch.lengths)
    if not missing:
        return batch

    def more(array: np.ndarray, value: int) -> np.ndarray:
        return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), constant_values=value)

    return Batch(*(more(a, v) for a, v in zip(batch, (_PADDING, 0, 0, -1), strict=True)))
