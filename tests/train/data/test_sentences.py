"""Sentences with tags: their files, whatever the lines, and the generated corpus."""

import gzip
import pathlib
import random
from collections import defaultdict

import hypothesis
import pytest
from hypothesis import strategies as st

from train.data import grammar, sentences
from train.data.sentences import EMERGING, UNIVERSAL, Sentence, load, read, segment_tags
from train.report.files import DataFileError
from train.tagging.scores import invalid_steps

CONLLU = """\
# text = Don't.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\t_\t0\troot\t_\t_
2\tn't\tnot\tPART\tRB\t_\t1\tadvmod\t_\t_
2.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t_\t_
3\t.\t.\tPUNCT\t.\t_\t1\tpunct\t_\t_

1\tYes\tyes\tINTJ\tUH\t_\t0\troot\t_\t_
"""
EXTRACT = "Do\tAUX\tVB\nn't\tPART\tRB\n.\tPUNCT\t.\n\nYes\tINTJ\tUH\n"
SPOKEN = (
    Sentence(("Do", "n't", "."), ("AUX", "PART", "PUNCT")),
    Sentence(("Yes",), ("INTJ",)),
)
IOB2 = "Ada\tB-person\nKing\tI-person\nin\tO\nPar\u00eds\tB-location\n\n@me\tO\n"
NAMED = (
    Sentence(("Ada", "King", "in", "Par\u00eds"), ("B-person", "I-person", "O", "B-location")),
    Sentence(("@me",), ("O",)),
)
TAGS = segment_tags(EMERGING)
DIGEST = "df212c55b5d49816b8250d4562905437e286fa9df03e22318b42caea94b810bf"


def written(folder: pathlib.Path, name: str, content: str | bytes) -> pathlib.Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.conllu", CONLLU),
        ("a.conllu", "\ufeff" + CONLLU.replace("\n", "\r\n")),
        ("a.conllu.gz", gzip.compress(CONLLU.encode())),
        ("a.tsv", EXTRACT),
        ("a.tsv.gz", gzip.compress(EXTRACT.encode())),
    ],
)
def test_words_and_universal_parts_of_speech(tmp_path, name, content):
    assert read(written(tmp_path, name, content), UNIVERSAL, False) == SPOKEN


@pytest.mark.parametrize("content", [IOB2, "\n\t\n" + IOB2.replace("\n\n", "\n\n \n") + "\n"])
def test_entities(tmp_path, content):
    assert read(written(tmp_path, "a.conll", content), TAGS, True) == NAMED


LINES = CONLLU.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.conllu", CONLLU.replace("PUNCT", "DOT"), "line 6: an unknown tag 'DOT'; expected ADJ,"),
        ("a.conllu", CONLLU.replace("\tUH\t", " "), "line 8: 8 columns, in '1.tYes.*10 with a tab"),
        ("a.conllu", "".join(LINES[:3] + LINES[5:]), "line 4: a word with the number '3'; exp.* 2"),
        ("a.conllu", CONLLU.replace("\tAUX\t", "\t\t"), "line 3: 10 columns, one of them empty"),
        ("a.tsv", EXTRACT + "No\n", "line 6: 1 columns, .*expected 3 .*: FORM, UPOS, XPOS"),
        (
            "a.conll",
            "a\tB-person\nb\tI-group\n",
            "line 2: .*behind 'B-person'; .*B-group",
        ),
        ("a.conll", "a\tO\n\nb\tI-group\n", "line 3: .*'I-group' at the beginning of a sentence"),
        ("a.conll", "a\tO\nb\tB-river\n", "line 2: an unknown tag 'B-river'; expected O, B-corp"),
        ("a.conll", "a\tO\textra\n", "line 1: 3 columns, .*expected 2"),
        ("a.conll", b"a\tO\n\xff\tO\n", "line 2: 'utf-8' codec can't decode"),
        ("a.conll", "\n\n", "holds no sentence"),
        ("a.conll.gz", gzip.compress(IOB2.encode())[:-9], "truncated, damaged"),
    ],
)
def test_lines_that_are_wrong_are_named(tmp_path, name, content, told):
    entities = name.startswith("a.conll") and not name.startswith("a.conllu")
    with pytest.raises(DataFileError, match=f"{name}.*{told}"):
        read(written(tmp_path, name, content), TAGS if entities else UNIVERSAL, entities)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.data())
def test_whatever_the_bytes(tmp_path_factory, data):
    """A reader gives sentences with tags that are known, or says what is wrong."""
    name, start, tags = data.draw(
        st.sampled_from([("a.conllu", CONLLU, UNIVERSAL), ("a.conll", IOB2, TAGS)])
    )
    content = bytearray(start.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = written(tmp_path_factory.getbasetemp(), name, bytes(content))
    try:
        found = read(path, tags, tags is TAGS)
    except DataFileError as error:
        assert str(path) in str(error)
    else:
        assert found
        for sentence in found:
            assert len(sentence.words) == len(sentence.tags) > 0 and all(sentence.words)
            assert {*sentence.tags} <= {*tags}
            assert tags is UNIVERSAL or not invalid_steps(sentence.tags)


def test_a_corpus_is_three_files(tmp_path):
    with pytest.raises(DataFileError, match="not part of any package.*--data grammar"):
        load("wnut17")
    with pytest.raises(DataFileError, match="none of wnut17train.conll, train.conll"):
        load("wnut17", tmp_path)
    with pytest.raises(ValueError, match="no corpus 'ptb'; there are grammar, ewt, wnut17"):
        load("ptb", tmp_path)
    written(tmp_path, "wnut17train.conll", IOB2)
    written(tmp_path, "emerging.dev.conll.gz", gzip.compress(IOB2.encode()))
    written(tmp_path, "test.conll", IOB2)
    corpus = load("wnut17", tmp_path)
    assert corpus[:3] == (NAMED, NAMED, NAMED) and corpus.entities and len(corpus.tags) == 13
    assert corpus.source.startswith("wnut17train.conll, emerging.dev.conll.gz, test.conll: 2 train")
    other = corpus._replace(test=NAMED[:1])
    assert corpus._replace(source="").digest == corpus.digest != other.digest


# --- the generated corpus -------------------------------------------------------------------------


def test_the_generated_corpus_is_the_same_everywhere():
    corpus = load("grammar")
    assert [len(part) for part in corpus[:3]] == [*grammar.SIZES.values()]
    assert corpus.digest == DIGEST
    assert grammar.corpus(1).digest != DIGEST


def test_words_of_the_generated_corpus_mean_several_things():
    corpus = load("grammar")
    tags_of = defaultdict(set)
    for sentence in corpus.train:
        assert 0 < len(sentence.words) == len(sentence.tags) <= grammar.LONGEST
        assert not invalid_steps(sentence.tags) and {*sentence.tags} <= {*corpus.tags}
        for word, tag in zip(*sentence, strict=True):
            tags_of[word.lower()].add(tag)
    for word in ("may", "grant", "rose", "bill"):
        assert {"O", "B-person", "I-person", "B-location", "B-group", "I-group"} <= tags_of[word]
    known = {word for sentence in corpus.train for word in sentence.words}
    fresh = [word for sentence in corpus.test for word in sentence.words if word not in known]
    assert 20 < len(fresh) < sum(len(sentence.words) for sentence in corpus.test) / 10


def test_a_group_is_told_by_its_last_word():
    """The tag of a word depends on words further away than its neighbours."""
    source, first = random.Random(5), defaultdict(set)
    for _ in range(3000):
        words, tags = grammar.sentence(source)
        for place in range(len(words) - 3):
            if tags[place] in ("B-person", "B-group"):
                first[" ".join(words[max(place - 1, 0) : place + 2])].add(tags[place])
    assert sum(len(found) == 2 for found in first.values()) > 20


def test_names_of_parts_are_those_of_a_corpus():
    assert sentences.Corpus._fields[:3] == sentences.PARTS
