"""Graphical models from files of the UAI format, that of the inference competitions.

A file is a list of words: `BAYES` or `MARKOV`; the number of variables, and how many states each
has; the number of factors, and for each how many variables it is of and which; then for each factor
how many numbers its table has, and these, the states of the last variable varying fastest. In a
Bayesian network each factor is the distribution of its last variable given the others. Evidence has
a file of its own: how many variables were seen, and for each its number and that of its state.

Variables are called `x0`, `x1`, ..., their states `0`, `1`, ....
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.data.bayesian_networks import (
    TOLERANCE,
    Given,
    States,
    Tokens,
    Variable,
    ordered,
    text_of,
)


class Factor(NamedTuple):
    """A function of some variables, from 0 on.

    Attributes:
        scope: the names of its variables.
        table: (*states).
    """

    scope: tuple[str, ...]
    table: np.ndarray


class MarkovNetwork(NamedTuple):
    """A distribution that is proportional to a product of factors.

    Attributes:
        states: of each variable the names of its states.
        factors: the factors.
    """

    states: States
    factors: tuple[Factor, ...]


def read_uai(path: Path) -> tuple[Variable, ...]:
    """The variables of a Bayesian network, each after its parents.

    Raises:
        DataFileError: the file cannot be read, is no UAI file, or holds no Bayesian network: names
            the file, the line and what was expected.
    """
    return parse_uai(text_of(path), str(path))


def parse_uai(text: str, source: str = "the text") -> tuple[Variable, ...]:
    """The variables of a text, each after its parents, as `read_uai`."""
    tokens = Tokens(text, source)
    if tokens.found[:1] and tokens.found[0][0] == "MARKOV":
        tokens.next()
        raise tokens.error(
            "the network is undirected (MARKOV): its factors are no distributions of one variable "
            "given others. Read it by `read_markov`, for `train.models.markov_network`."
        )
    states, factors = _network(tokens)
    return tuple(ordered(tokens, states, _given(tokens, states, factors)))


def read_markov(path: Path) -> MarkovNetwork:
    """The factors of a network, directed or not.

    Raises:
        DataFileError: as `read_uai`.
    """
    return parse_markov(text_of(path), str(path))


def parse_markov(text: str, source: str = "the text") -> MarkovNetwork:
    """The factors of a text, as `read_markov`."""
    tokens = Tokens(text, source)
    states, factors = _network(tokens)
    return MarkovNetwork(states, tuple(Factor(scope, table) for scope, table, _ in factors))


def read_evidence(path: Path, states: States) -> dict[str, str]:
    """What was seen: variables and their states, by name.

    Args:
        path: a file, by custom `NAME.uai.evid`.
        states: of each variable of the network the names of its states.

    Raises:
        DataFileError: as `read_uai`.
    """
    return parse_evidence(text_of(path), states, str(path))


def parse_evidence(text: str, states: States, source: str = "the text") -> dict[str, str]:
    """What a text says was seen, as `read_evidence`."""
    tokens = Tokens(text, source)
    count = _whole(tokens, "how many variables were seen")
    left = len(tokens.found) - 1
    if left != 2 * count and count == 1 and left:  # of the older files, which may hold several
        count = _whole(tokens, "how many variables were seen")
    if len(tokens.found) - tokens.place != 2 * count:
        raise tokens.error(
            f"expected {count} variables and their states, {2 * count} numbers, got "
            f"{len(tokens.found) - tokens.place}."
        )
    found: dict[str, str] = {}
    for _ in range(count):
        name = _variable(tokens, states)
        state = str(_whole(tokens, f"the number of a state of {name!r}"))
        if state not in states[name]:
            raise tokens.error(f"{name!r} has {len(states[name])} states, from 0 on; got {state}.")
        if name in found:
            raise tokens.error(f"{name!r} was seen twice.")
        found[name] = state
    return found


# A factor's variables, its table, and the line where that ends.
_Factors = list[tuple[tuple[str, ...], np.ndarray, int]]


def _network(tokens: Tokens) -> tuple[States, _Factors]:
    """The states of the variables, and the factors."""
    if (kind := tokens.next()) not in ("BAYES", "MARKOV"):
        raise tokens.error(f"expected 'BAYES' or 'MARKOV', got {kind!r}.")
    states: States = {}
    for k in range(_whole(tokens, "the number of variables")):
        count = _whole(tokens, f"the number of states of variable {k}")
        if not 1 <= count <= len(tokens.found):
            raise tokens.error(f"variable {k} cannot have {count} states.")
        states[f"x{k}"] = tuple(map(str, range(count)))
    scopes = []
    for k in range(_whole(tokens, "the number of factors")):
        size = _whole(tokens, f"the number of variables of factor {k}")
        scope = tuple(_variable(tokens, states) for _ in range(size))
        if len(set(scope)) != len(scope):
            raise tokens.error(f"a variable comes twice in factor {k}: {', '.join(scope)}.")
        scopes.append(scope)
    factors = [(scope, *_table(tokens, states, scope)) for scope in scopes]
    if not tokens.done():
        raise tokens.error(f"expected the end of the file, got {tokens.next()!r}.")
    return states, factors


def _table(tokens: Tokens, states: States, scope: tuple[str, ...]) -> tuple[np.ndarray, int]:
    shape = [len(states[v]) for v in scope]
    count = _whole(tokens, "the number of entries of a table")
    if count != math.prod(shape):
        raise tokens.error(
            f"expected {math.prod(shape)} entries for the states of {', '.join(scope) or 'nothing'}"
            f", got {count}."
        )
    numbers = []
    for _ in range(count):
        word = tokens.next()
        try:
            numbers.append(float(word))
        except ValueError:
            raise tokens.error(f"expected a number, got {word!r}.") from None
        if not (math.isfinite(numbers[-1]) and numbers[-1] >= 0):
            raise tokens.error(f"expected a finite number from 0 on, got {word}.")
    return np.array(numbers).reshape(shape), tokens.place


def _given(tokens: Tokens, states: States, factors: _Factors) -> Given:
    """Of each variable its parents and its distribution."""
    given: Given = {}
    for scope, table, place in factors:
        tokens.place = place
        if not scope:
            raise tokens.error("a factor of no variable is no distribution.")
        *parents, name = scope
        if name in given:
            raise tokens.error(f"a second distribution of {name!r}, the last of its factor.")
        sums = table.sum(-1, keepdims=True)
        if not (np.abs(sums - 1) <= TOLERANCE).all():
            raise tokens.error(
                f"the probabilities of {name!r}, the last variable of its factor, do not add up to "
                "1 in every row."
            )
        given[name] = tuple(parents), table / sums
    if missing := [name for name in states if name not in given]:
        raise tokens.error(f"no factor is the distribution of {', '.join(missing)}.")
    return given


def _whole(tokens: Tokens, what: str) -> int:
    word = tokens.next()
    if not word.isascii() or not word.isdigit() or len(word) > 18:
        raise tokens.error(f"expected {what}, a whole number, got {word!r}.")
    return int(word)


def _variable(tokens: Tokens, states: States) -> str:
    """A variable by its number."""
    number = _whole(tokens, "the number of a variable")
    if f"x{number}" not in states:
        raise tokens.error(f"expected a variable from 0 to {len(states) - 1}, got {number}.")
    return f"x{number}"
