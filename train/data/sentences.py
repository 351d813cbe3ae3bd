"""Sentences with a tag for each word: published corpora from their files, and a generated one.

CoNLL-U has ten columns a word, of which the second and the fourth are read (form and universal part
of speech); a line starts with the word's number, "3-4" for a range of words and "3.1" for an empty
node, both of which are left out, and comments start with "#". Its extract in three columns (form,
universal and language's own tag) is read too. IOB2 has two: the word, and "O", "B-TYPE" for the
first word of an entity or "I-TYPE" for a later one. Columns are set apart by tabs, sentences by
empty lines. Files may be gzipped.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from train.data import archives
from train.report.files import DataFileError, open_regular

UNIVERSAL = tuple(
    "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split()
)
EMERGING = tuple("corporation creative-work group location person product".split())
OUTSIDE = "O"
PARTS = ("train", "validation", "test")
# The names that the files of a part may have, in a folder, with or without ".gz".
FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "ewt": {
        part: (f"en_ewt-ud-{short}.conllu", f"{short}.conllu", f"{short}.tsv")
        for part, short in zip(PARTS, ("train", "dev", "test"), strict=True)
    },
    "wnut17": {
        "train": ("wnut17train.conll", "train.conll"),
        "validation": ("emerging.dev.conll", "dev.conll"),
        "test": ("emerging.test.annotated", "test.conll"),
    },
}
_RANGE = re.compile(r"\d+-\d+|\d+\.\d+")


Words = list[tuple[str, str]]  # of a sentence so far, with their tags


class Sentence(NamedTuple):
    """Words, and as many tags."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


class Corpus(NamedTuple):
    """What a tagger learns from, and is tested on."""

    train: tuple[Sentence, ...]
    validation: tuple[Sentence, ...]
    test: tuple[Sentence, ...]
    tags: tuple[str, ...]  # all of them, in the order of the states of a chain
    entities: bool  # whether the tags say by IOB2 where entities begin and end
    source: str  # where the sentences came from, in words

    @property
    def digest(self) -> str:
        """SHA-256 of the sentences: the same from other files."""
        return hashlib.sha256(repr((self[:3], self.tags)).encode()).hexdigest()


def segment_tags(types: Sequence[str]) -> tuple[str, ...]:
    """The tags of IOB2 for types of entities.

    Example:
        >>> segment_tags(["person"])
        ('O', 'B-person', 'I-person')
    """
    return (OUTSIDE, *(f"{letter}-{kind}" for kind in types for letter in "BI"))


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Corpus:
    """A corpus by name: "grammar", which is generated, or one of `FILES` from the folder with its
    files; ValueError for another. DataFileError if there is no folder, a file is missing, or one
    has a line that is not as it should be, which the message names."""
    if name == "grammar":
        from train.data import grammar

        return grammar.corpus()
    if name not in FILES:
        raise ValueError(f"no corpus {name!r}; there are grammar, {', '.join(FILES)}")
    if data_dir is None:
        raise DataFileError(
            f"{name} is not part of any package: give the folder that holds its files with "
            "--data-dir, or take --data grammar, which needs none. docs/data.md says where they are"
        )
    entities = name == "wnut17"
    tags = segment_tags(EMERGING) if entities else UNIVERSAL
    paths = [_found(Path(data_dir).expanduser(), FILES[name][part]) for part in PARTS]
    parts = [read(path, tags, entities) for path in paths]
    counts = ", ".join(f"{len(part)} {word}" for part, word in zip(parts, PARTS, strict=True))
    source = f"{', '.join(path.name for path in paths)}: {counts} sentences"
    return Corpus(*parts, tags=tags, entities=entities, source=source)


def _found(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.exists():
                return path
    raise DataFileError(
        f"{folder} holds none of {', '.join(names)}, with or without .gz: --data-dir is the folder "
        "with the files; docs/data.md says where they are."
    )


def read(path: Path, tags: Sequence[str], entities: bool) -> tuple[Sentence, ...]:
    """The sentences of a file, whose columns its name tells: IOB2 with entities, else ".tsv" is the
    extract and any other CoNLL-U. DataFileError for a line that is not as it should be, a tag that
    is none of these, or no sentence."""
    with open_regular(path) as file, archives.naming(path):
        content = archives.whole(archives.unpacked(file))
    word_of = _iob2 if entities else _extract if ".tsv" in path.suffixes else _conllu
    found = tuple(_sentences(content, str(path), word_of, tags))
    if not found:
        raise DataFileError(f"{path}: holds no sentence.")
    return found


def _sentences(
    content: bytes,
    name: str,
    word_of: Callable[[str, Words], tuple[str, str] | None],
    tags: Sequence[str],
) -> Iterator[Sentence]:
    words: Words = []
    for number, line in enumerate([*content.split(b"\n"), b""], 1):
        try:
            told = line.decode().removesuffix("\r").removeprefix("\ufeff" * (number == 1))
            if told.strip():
                word = word_of(told, words)
                if word is not None:
                    if word[1] not in tags:
                        raise ValueError(f"an unknown tag {word[1]!r}; expected {', '.join(tags)}")
                    words.append(word)
                continue
        except ValueError as error:  # as is what bytes raise that are no UTF-8
            raise DataFileError(f"{name}, line {number}: {error}.") from error
        if words:
            yield Sentence(*(tuple(column) for column in zip(*words, strict=True)))
        words = []


def _columns(line: str, names: Sequence[str]) -> list[str]:
    found = line.split("\t")
    if len(found) != len(names) or not all(found):
        raise ValueError(
            f"{len(found)} columns, {'one of them empty, ' * (not all(found))}in {line[:60]!r}; "
            f"expected {len(names)} with a tab between them: {', '.join(names)}"
        )
    return found


_CONLLU = "ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC".split()


def _conllu(line: str, words: Words) -> tuple[str, str] | None:
    if line.startswith("#"):
        return None
    number, form, _, tag, *_ = _columns(line, _CONLLU)
    if _RANGE.fullmatch(number):
        return None
    if number != str(len(words) + 1):
        raise ValueError(f"a word with the number {number!r}; expected {len(words) + 1}")
    return form, tag


def _extract(line: str, words: Words) -> tuple[str, str]:
    del words
    form, tag, _ = _columns(line, ("FORM", "UPOS", "XPOS"))
    return form, tag


def _iob2(line: str, words: Words) -> tuple[str, str]:
    word, tag = _columns(line, ("the word", "its tag"))
    before = words[-1][1] if words else OUTSIDE
    letter, _, kind = tag.partition("-")
    if letter == "I" and before not in (f"B-{kind}", tag):
        place = f"behind {before!r}" if words else "at the beginning of a sentence"
        raise ValueError(
            f"the tag {tag!r} {place}; expected B-{kind}: in IOB2 the first word of an entity has B"
        )
    return word, tag
