"""Which tags may follow each other when segments of a sequence are written as tags."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

Scheme = Literal["IOB2", "IOB1", "BIOUL", "BMES"]


class Forbidden(NamedTuple):
    """Potentials of 0 for what a scheme allows, and of -inf for what it forbids.

    Attributes:
        start: of the first tag, (K,).
        transitions: of each tag (row) and the next one (column), (K, K).
        end: of the last tag, (K,).
    """

    start: Float[np.ndarray, " K"]
    transitions: Float[np.ndarray, "K K"]
    end: Float[np.ndarray, " K"]


class _Tags(NamedTuple):
    """The tags of a scheme, by what they say about the segment of their type."""

    letters: str
    open_after: str  # a segment of their type goes on behind them, or may
    must_go_on: str  # a segment of their type has to go on behind them
    inside: str  # they go on with a segment of their type


_SCHEMES = {
    "IOB2": _Tags("BIO", open_after="BI", must_go_on="", inside="I"),
    "BIOUL": _Tags("BIOUL", open_after="BI", must_go_on="BI", inside="IL"),
    "BMES": _Tags("BMESO", open_after="BM", must_go_on="BM", inside="ME"),
}
_OUTSIDE = "O"


def bio_transitions(labels: Sequence[str], scheme: Scheme = "IOB2") -> Forbidden:
    """What a tagging scheme allows, as potentials of a `LinearChain`.

    | scheme | tags of a segment | |
    |---|---|---|
    | "IOB2" | B I I | every segment begins with B |
    | "IOB1" | I I I | B only where it follows a segment of the same type |
    | "BIOUL" | B I L, or U alone | also called BILOU, BIOES with other letters |
    | "BMES" | B M E, or S alone | as for words of Chinese |

    Args:
        labels: the K tags in the order of the states, each a letter of the scheme alone, or with
            the type of its segment, "B-PER"; "O" is outside of all segments.
        scheme: the name of the scheme.

    Returns:
        `(start, transitions, end)` of 0 and -inf, to be added to a chain's potentials.

    Raises:
        ValueError: the scheme or a label is unknown, a label comes twice, or there is none.

    Example:
        >>> start, transitions, end = bio_transitions(["O", "B-PER", "I-PER"])
        >>> print(start)
        [  0.   0. -inf]
        >>> print(transitions)
        [[  0.   0. -inf]
         [  0.   0.   0.]
         [  0.   0.   0.]]

    Source: Ramshaw and Marcus, "Text chunking using transformation-based learning", 1995 (IOB1);
    Ratinov and Roth, "Design challenges and misconceptions in named entity recognition", 2009
    (BIOUL).
    """
    if scheme != "IOB1" and scheme not in _SCHEMES:
        known = ", ".join(["IOB1", *_SCHEMES])
        raise ValueError(f"The scheme is one of {known}, got {scheme!r}.")
    letters = "BIO" if scheme == "IOB1" else _SCHEMES[scheme].letters
    tags = [_split(label, letters, scheme) for label in labels]
    if not tags or len(set(tags)) < len(tags):
        raise ValueError(f"Labels are different tags, at least one, got {list(labels)!r}.")
    first, last = ("", ""), ("", "")  # what stands before the first and behind the last tag
    before, after = [first, *tags], [*tags, last]
    allowed = np.array([[_allowed(a, b, scheme) for b in after] for a in before])
    potentials = np.where(allowed, 0, -np.inf).astype(np.float32)
    return Forbidden(potentials[0, :-1], potentials[1:, :-1], potentials[1:, -1])


def _split(label: object, letters: str, scheme: str) -> tuple[str, str]:
    letter, _, kind = label.partition("-") if isinstance(label, str) else ("", "", "")
    well_formed = letter in tuple(letters) and bool(kind or label == letter)
    if not well_formed or (letter == _OUTSIDE and kind):
        raise ValueError(
            f"A label of the scheme {scheme} is one of {', '.join(letters)}, alone or with a type "
            f"as in 'B-PER' ('O' always alone), got {label!r}."
        )
    return letter, kind


def _allowed(before: tuple[str, str], after: tuple[str, str], scheme: str) -> bool:
    (left, left_kind), (right, right_kind) = before, after
    if scheme == "IOB1":
        return right != "B" or (left in ("B", "I") and left_kind == right_kind)
    tags = _SCHEMES[scheme]
    same = left_kind == right_kind
    if right and right in tags.inside:
        return bool(left) and left in tags.open_after and same
    return not left or left not in tags.must_go_on
