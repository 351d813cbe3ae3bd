"""Bayesian networks from files of the Bayesian Interchange Format (BIF).

A file has a block for each variable, `variable rain { type discrete [ 2 ] { yes, no }; }`, and one
for each distribution, `probability ( wet | rain ) { (yes) 0.9, 0.1; (no) 0.2, 0.8; }`: a row for
each configuration of the parents, `default` for those that have none, and `table` for variables
without parents. Of others a `table` is refused, since programs disagree on the order of its
numbers. Properties and comments (`//`, `/* */`) are left out.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.report.files import DataFileError, open_regular

# Probabilities are written with few digits: a row may add up to so much more or less than 1.
TOLERANCE = 0.01
# What is quoted, what is not, and signs: nothing but space is left out.
_TOKEN = re.compile(r'"[^"]*"|[^\s"{}()\[\]|,;]+|["{}()\[\]|,;]')
# Behind what is quoted, where a comment's sign may stand, as in an address.
_COMMENT = re.compile(r'"[^"\n]*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
# Of each variable its states, and of each that has a distribution its parents and its table.
States = dict[str, tuple[str, ...]]
Given = dict[str, tuple[tuple[str, ...], np.ndarray]]


class Variable(NamedTuple):
    """One variable, given its parents.

    Attributes:
        name: its name.
        states: the names of its states.
        parents: the names of its parents.
        table: the probabilities, (*states of the parents, states), rows adding up to 1.
    """

    name: str
    states: tuple[str, ...]
    parents: tuple[str, ...]
    table: np.ndarray


class Tokens:
    """The words and signs of a file, read one after the other."""

    def __init__(self, text: str, source: str):
        text = _COMMENT.sub(lambda m: m[0] if m[0][0] == '"' else _blank(m[0]), text)
        self.found = [(m[0], text.count("\n", 0, m.start()) + 1) for m in _TOKEN.finditer(text)]
        self.source, self.place = source, 0

    def error(self, what: str) -> DataFileError:
        """An error at the word that was read last."""
        at = max(0, min(self.place, len(self.found)) - 1)
        line = self.found[at][1] if self.found else 1
        return DataFileError(f"{self.source}, line {line}: {what}")

    def done(self) -> bool:
        return self.place == len(self.found)

    def next(self) -> str:
        if self.done():
            raise self.error("the file ends in the middle of a block.")
        self.place += 1
        return self.found[self.place - 1][0].strip('"')

    def expect(self, *words: str) -> None:
        for word in words:
            if (got := self.next()) != word:
                raise self.error(f"expected {word!r}, got {got!r}.")

    def until(self, end: str) -> list[str]:
        """The words up to a sign, without commas."""
        found = []
        while (word := self.next()) != end:
            if word != ",":
                found.append(word)
        return found

    def numbers(self) -> list[float]:
        """Probabilities up to the end of the line."""
        words = self.until(";")
        try:
            found = [float(word) for word in words]
        except ValueError:
            raise self.error(f"expected probabilities, got {' '.join(words)!r}.") from None
        if not all(math.isfinite(x) and 0 <= x <= 1 for x in found):
            raise self.error(f"expected numbers from 0 to 1, got {found}.")
        return found


def _blank(text: str) -> str:
    """As many lines."""
    return " " + "\n" * text.count("\n")


def read_bif(path: Path) -> tuple[Variable, ...]:
    """The variables of a file, each after its parents.

    Raises:
        DataFileError: the file cannot be read, is no BIF, or holds no Bayesian network: names the
            file, the line and what was expected.
    """
    return parse_bif(text_of(path), str(path))


def text_of(path: Path) -> str:
    """The text of a file.

    Raises:
        DataFileError: the file cannot be read, or is no text.
    """
    with open_regular(path) as file:
        try:
            return file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataFileError(f"{path}: {error}. Such a file is text in UTF-8.") from error


def parse_bif(text: str, source: str = "the text") -> tuple[Variable, ...]:
    """The variables of a text in BIF, each after its parents, as `read_bif`."""
    tokens, states, given = Tokens(text, source), {}, {}
    while not tokens.done():
        match tokens.next():
            case "network":
                tokens.until("{")
                tokens.until("}")
            case "variable":
                _variable(tokens, states)
            case "probability":
                _probability(tokens, states, given)
            case word:
                raise tokens.error(
                    f"expected 'network', 'variable' or 'probability', got {word!r}."
                )
    if not states:
        raise tokens.error("expected a network in BIF, and there is no variable.")
    if missing := [name for name in states if name not in given]:
        raise tokens.error(f"no probabilities for {', '.join(missing)}.")
    return tuple(ordered(tokens, states, given))


def _variable(tokens: Tokens, states: States) -> None:
    name = tokens.next()
    tokens.expect("{")
    if name in states:
        raise tokens.error(f"a second variable {name!r}.")
    while (word := tokens.next()) != "}":
        if word != "type":
            tokens.until(";")  # a property
            continue
        tokens.expect("discrete", "[")
        count = tokens.until("]")
        tokens.expect("{")
        states[name] = tuple(tokens.until("}"))
        tokens.expect(";")
        if [str(len(states[name]))] != count or len(set(states[name])) != len(states[name]):
            raise tokens.error(f"expected {''.join(count)} different states of {name!r}.")
    if not states.get(name):
        raise tokens.error(f"the variable {name!r} has no states.")


def _probability(tokens: Tokens, states: States, given: Given) -> None:
    tokens.expect("(")
    words = tokens.until(")")
    name, parents = words[0] if words else "", tuple(words[2:])
    if words[1:2] not in ([], ["|"]):
        raise tokens.error(f"expected one variable, and parents after '|', got {words}.")
    if unknown := [v for v in (name, *parents) if v not in states]:
        raise tokens.error(f"{unknown[0]!r} is no variable of the network.")
    if name in given or len({name, *parents}) != len(parents) + 1:
        raise tokens.error(f"a variable comes twice in the probabilities of {name!r}.")
    shape = tuple(len(states[v]) for v in (*parents, name))
    table, rows = np.full(shape, np.nan), set[tuple[int, ...]]()
    tokens.expect("{")
    while (word := tokens.next()) != "}":
        if word == "property":
            tokens.until(";")
            continue
        if word not in ("table", "default", "("):
            raise tokens.error(f"expected 'table', 'default' or a row, got {word!r}.")
        if word == "table" and parents:
            raise tokens.error(
                f"a table for {name!r}, which has parents: give rows, `(yes) 0.9, 0.1;`."
            )
        row = _row(tokens, states, parents) if word == "(" else ()
        numbers = tokens.numbers()
        if len(numbers) != shape[-1]:
            raise tokens.error(f"expected {shape[-1]} probabilities, got {len(numbers)}.")
        if word == "default":
            table = np.where(np.isnan(table), numbers, table)
        else:
            if row in rows:
                raise tokens.error(f"a second row of {name!r} for the same states of its parents.")
            rows.add(row)
            table[row] = numbers
    if np.isnan(table).any():
        raise tokens.error(f"{name!r} has no probabilities for some states of its parents.")
    sums = table.sum(-1, keepdims=True)
    if not (np.abs(sums - 1) <= TOLERANCE).all():
        raise tokens.error(f"the probabilities of {name!r} do not add up to 1 in every row.")
    given[name] = parents, table / sums


def _row(tokens: Tokens, states: States, parents: Sequence[str]) -> tuple[int, ...]:
    """The numbers of the states that a row is for."""
    named = tokens.until(")")
    if len(named) != len(parents) or any(
        s not in states[v] for s, v in zip(named, parents, strict=True)
    ):
        raise tokens.error(f"expected a state of each of {list(parents)}, got {named}.")
    return tuple(states[v].index(s) for s, v in zip(named, parents, strict=True))


def ordered(tokens: Tokens, states: States, given: Given) -> Iterator[Variable]:
    """The variables after their parents."""
    left = dict(states)
    while left:
        ready = [v for v in left if not any(p in left for p in given[v][0])]
        if not ready:
            raise tokens.error(f"{', '.join(left)} are parents of each other.")
        for v in ready:
            del left[v]
            yield Variable(v, states[v], *given[v])
