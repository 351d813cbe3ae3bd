"""Rounds of small contractions: which entries of which tables they multiply, and in what loops.

A program with a few operations for each of some hundred contractions takes minutes to compile. So
the entries of all small tables stand in one array, and those contractions that do not need each
other's results are one *round*: with the numbers i and j of entries,

    x_r = sum_t x_{i(r, t)} x_{j(r, t)}.

Long sums are made in parts, in rounds after each other; rounds of about the same shape are one
loop. This file only counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

# The entries that are 0 and 1, which come first.
ZERO, UNIT, FIRST = 0, 1, 2
# Costs in products: of one more round, and of one more loop, which has to be compiled.
_ROUND, _LOOP = 1 << 9, 1 << 15
_CAPS = tuple(1 << k for k in range(1, 13))


class Loop(NamedTuple):
    """Rounds of one shape, after each other.

    Attributes:
        starts: where the results of each round go.
        left, right: the entries that are multiplied, (rounds, results, terms).
        over: of derivatives, the results that the entries went into; the same shape.
        own: of derivatives, the entries themselves, (rounds, results).
    """

    starts: np.ndarray
    left: np.ndarray
    right: np.ndarray
    over: np.ndarray
    own: np.ndarray


class Large(NamedTuple):
    """One contraction by itself: its number, and where tables stand that are entries, if they are.

    Attributes:
        step: the number of the contraction.
        left, right, result: the first entry of each table, None where it is an array of its own.
    """

    step: int
    left: int | None
    right: int | None
    result: int | None


class Block(NamedTuple):
    """Rows of terms: (rows, terms, columns), and for each row the entry that it is of."""

    terms: np.ndarray
    own: np.ndarray


@dataclass
class _Round:
    """Blocks whose rows are done together."""

    blocks: list[Block] = field(default_factory=list)
    first: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        return (
            sum(b.terms.shape[0] for b in self.blocks),
            max(b.terms.shape[1] for b in self.blocks),
        )


class Writer:
    """Writes rounds down; entries are numbered without gaps, and find their places in the end.

    Args:
        first: how many entries there are before.
    """

    def __init__(self, first: int):
        self.count = first
        self.first = first
        self.items: list[_Round | Large | tuple[int, int]] = []

    def reserve(self, size: int) -> int:
        """Room for a table that a large contraction makes."""
        self.items.append((self.count, size))
        self.count += size
        return self.count - size

    def level(self, blocks: Sequence[Block]) -> list[int]:
        """Adds contractions that do not need each other's results; where each one's begin."""
        cap = min(_CAPS, key=lambda cap: _padded(blocks, cap))
        found = [0] * len(blocks)
        pending = dict(enumerate(blocks))
        while pending:
            this, later = _Round(first=self.count), {}
            for k, (terms, own) in pending.items():
                rows, width, columns = terms.shape
                found[k] = self.count
                if width > cap:  # parts of the sum first
                    parts = -(-width // cap)
                    filled = np.zeros((rows, parts * cap, columns), np.int64)
                    filled[:, :, 2:] = UNIT
                    filled[:, :width] = terms
                    terms = filled.reshape(rows * parts, cap, columns)
                    numbers = self.count + np.arange(rows * parts).reshape(rows, parts)
                    sums = np.stack([numbers, *[np.full_like(numbers, UNIT)] * (columns - 1)], -1)
                    later[k] = Block(sums, np.full(rows, UNIT))
                    own = np.repeat(own, parts)
                this.blocks.append(Block(terms, own))
                self.count += len(terms)
            self.items.append(this)
            pending = later
        return found

    def done(self) -> tuple[list[Loop | Large], np.ndarray, int]:
        """What is done, the place of each entry, and how many places there are."""
        places = np.zeros(self.count, np.int64)
        places[: self.first] = np.arange(self.first)
        end, runs = self.first, []
        for is_round, group in itertools.groupby(self.items, lambda x: isinstance(x, _Round)):
            if not is_round:
                for item in group:
                    if not isinstance(item, Large | _Round):
                        first, size = item
                        places[first : first + size] = np.arange(end, end + size)
                        end += size
                    runs.append(item)
                continue
            rounds = [x for x in group if isinstance(x, _Round)]
            for some in _loops(rounds):
                width = max(r.shape[0] for r in some)
                for r in some:
                    rows = r.shape[0]
                    places[r.first : r.first + rows] = np.arange(end, end + rows)
                    end += width
                runs.append(some)
        items: list[Loop | Large] = []
        for run in runs:
            if isinstance(run, list):
                items.append(_loop(run, places))
            elif isinstance(run, Large):
                items.append(run)
        return items, places, end


def _padded(blocks: Sequence[Block], cap: int) -> int:
    """How many products are made if sums have at most so many terms at a time."""
    shapes, cost = [b.terms.shape[:2] for b in blocks], 0
    while shapes:
        rows = sum(r * -(-t // cap) for r, t in shapes)
        cost += rows * min(cap, max(t for _, t in shapes)) + _ROUND
        shapes = [(r, -(-t // cap)) for r, t in shapes if t > cap]
    return cost


def _loops(rounds: Sequence[_Round]) -> list[list[_Round]]:
    """Rounds in groups, so that little is done in vain."""
    shapes = np.array([r.shape for r in rounds])
    cost, cut = [0.0], [0]
    for end in range(1, len(rounds) + 1):
        largest = np.maximum.accumulate(shapes[:end][::-1], axis=0).prod(1)
        each = np.array(cost)[::-1] + largest * np.arange(1, end + 1) + _LOOP
        best = int(each.argmin())
        cost.append(float(each[best]))
        cut.append(end - 1 - best)
    found, end = [], len(rounds)
    while end:
        found.append(list(rounds[cut[end] : end]))
        end = cut[end]
    return found[::-1]


def _loop(rounds: Sequence[_Round], places: np.ndarray) -> Loop:
    """The indices of rounds, with terms of 0 where there are fewer."""
    width, most = (max(r.shape[k] for r in rounds) for k in range(2))
    columns = rounds[0].blocks[0].terms.shape[2]
    terms = np.full((len(rounds), width, most, columns), ZERO, np.int64)
    terms[..., 2:] = UNIT
    own = np.full((len(rounds), width), UNIT, np.int64)
    for k, r in enumerate(rounds):
        row = 0
        for block in r.blocks:
            count, num = block.terms.shape[:2]
            terms[k, row : row + count, :num] = block.terms
            own[k, row : row + count] = block.own
            row += count
    # Of derivatives only the first column is of entries of their own.
    left = places[terms[..., 0]]
    right = places[terms[..., 1]] if columns == 2 else terms[..., 1]
    over = terms[..., 2] if columns == 3 else left[..., :0]
    starts = places[[r.first for r in rounds]]
    return Loop(*(x.astype(np.int32) for x in (starts, left, right, over, own)))
