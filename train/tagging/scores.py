"""Figures of merit of tags: of entities by the rules of CoNLL, of sentences, of probabilities.

An entity is right if its first word, its last word and its type are. Where tags break the rules of
IOB2, they are read as the evaluation of the CoNLL shared tasks reads them: "I-TYPE" begins an
entity unless the tag before is of the same type (Tjong Kim Sang and De Meulder, "Introduction to
the CoNLL-2003 shared task", 2003).
"""

from collections.abc import Sequence
from typing import NamedTuple

from train.data.sentences import OUTSIDE


class Entity(NamedTuple):
    """Words of a sentence from the first to the last, and what they name."""

    kind: str
    first: int
    last: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a sentence, in order.

    Example:
        >>> entities(["B-person", "I-person", "O", "I-group", "B-group"])
        [Entity(kind='person', first=0, last=1), Entity(kind='group', first=3, last=3), \
Entity(kind='group', first=4, last=4)]
    """
    found: list[Entity] = []
    before = ""  # the type of the entity that the word before belongs to
    for place, tag in enumerate(tags):
        letter, _, kind = tag.partition("-")
        if tag == OUTSIDE:
            before = ""
        elif letter == "I" and kind == before:
            found[-1] = found[-1]._replace(last=place)
        else:
            found.append(Entity(kind, place, place))
            before = kind
    return found


def invalid_steps(tags: Sequence[str]) -> int:
    """How many words have "I" where neither the beginning nor the inside of such an entity is
    before."""
    steps = zip(("", *tags[:-1]), tags, strict=True) if tags else ()
    return sum(
        tag.startswith("I-") and before not in (tag, f"B-{tag[2:]}") for before, tag in steps
    )


class Found(NamedTuple):
    """Entities found, and how good that is; of all types together."""

    precision: float  # the share of the found ones that are right; 0 for none
    recall: float  # the share of the right ones that are found; 0 for none
    f1: float  # 2 / (1 / precision + 1 / recall)


def entity_scores(right: Sequence[Sequence[str]], given: Sequence[Sequence[str]]) -> Found:
    """Entities of the given tags of sentences against the right ones.

    Example:
        >>> entity_scores([["B-person", "O", "B-group"]], [["B-person", "O", "B-person"]])
        Found(precision=0.5, recall=0.5, f1=0.5)
    """
    true = {(i, entity) for i, tags in enumerate(right) for entity in entities(tags)}
    told = {(i, entity) for i, tags in enumerate(given) for entity in entities(tags)}
    both = len(true & told)
    return Found(
        both / len(told) if told else 0.0,
        both / len(true) if true else 0.0,
        2 * both / (len(true) + len(told)) if true or told else 0.0,
    )
