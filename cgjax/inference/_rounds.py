"""Which small contractions are done together, and which entries of which tables they multiply.

A program with a few operations for each of some hundred contractions takes minutes to compile. So
the entries of all small tables stand in one array, and those contractions that do not need each
other's results are one *round*: with the numbers i and j of entries,

    x_r = sum_t x_{i(r, t)} x_{j(r, t)}.

Rounds of about the same shape are one loop. Every table is multiplied once, so that derivatives are
rounds too, from the last to the first: that of the entry i is sum_t g_{r(i, t)} x_{j(i, t)}. Large
contractions stay matrix products between them. This file only counts.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cgjax.inference._contraction import Contraction

# Contractions of more terms are done one by one.
MOST_TERMS = 1 << 12
# The entries that are 0 and 1, which come first.
ZERO, UNIT, FIRST = 0, 1, 2
# Costs in products: of one more round, and of one more loop, which has to be compiled.
_ROUND, _LOOP = 1 << 9, 1 << 15
_CAPS = tuple(1 << k for k in range(1, 13))

Axes = tuple[int, ...]


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


class Plan(NamedTuple):
    """Two walks over all contractions: upwards to the sum, and down to its derivatives.

    Attributes:
        small: the leaves whose entries stand together, in order.
        up, down: what is done, in order.
        size_up, size_down: how many entries there are in each.
        root: where the sum stands.
        leaves: where the derivatives by the entries of the small leaves stand.
    """

    small: tuple[int, ...]
    up: tuple[Loop | Large, ...]
    down: tuple[Loop | Large, ...]
    size_up: int
    size_down: int
    root: int
    leaves: np.ndarray


@functools.lru_cache(maxsize=4096)
def _grid(sizes: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """The numbers of entries for all values of some variables, in order: one axis."""
    total = np.zeros((), np.int64)
    for size, stride in zip(sizes, strides, strict=True):
        total = total[..., None] + np.arange(size) * stride
    return total.reshape(-1)


def _numbers(axes: Axes, sizes: Mapping[int, int], every: Axes) -> np.ndarray:
    """The places in a table, of all values of the variables `every`."""
    stride, strides = 1, {}
    for v in reversed(axes):
        strides[v] = stride
        stride *= sizes[v]
    return _grid(tuple(sizes[v] for v in every), tuple(strides.get(v, 0) for v in every))


class _Block(NamedTuple):
    """Rows of terms: (rows, terms, columns), and for each row the entry that it is of."""

    terms: np.ndarray
    own: np.ndarray


@dataclass
class _Round:
    """Blocks whose rows are done together."""

    blocks: list[_Block] = field(default_factory=list)
    first: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        return (
            sum(b.terms.shape[0] for b in self.blocks),
            max(b.terms.shape[1] for b in self.blocks),
        )


class _Writer:
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

    def level(self, blocks: Sequence[_Block]) -> list[int]:
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
                    later[k] = _Block(sums, np.full(rows, UNIT))
                    own = np.repeat(own, parts)
                this.blocks.append(_Block(terms, own))
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


def _padded(blocks: Sequence[_Block], cap: int) -> int:
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


class _Tree:
    """Contractions of tables, in phases: small ones level by level, then large ones.

    Args:
        axes: the variables of each table, in the order of its axes; first those of the leaves.
        steps: the contractions.
        sizes: the number of states of each variable.
    """

    def __init__(
        self, axes: Sequence[Axes], steps: Sequence[Contraction], sizes: Mapping[int, int]
    ):
        self.sizes, self.steps = sizes, steps
        self.axes = list(axes)
        self.num_leaves = len(axes)
        self.large: list[bool] = []
        when = [(0, 0)] * len(axes)
        big = [False] * len(axes)
        self.phases: dict[int, tuple[dict[int, list[int]], list[int]]] = {}
        for number, step in enumerate(steps):
            a, b = self.axes[step.left], self.axes[step.right]
            self.axes.append(result_axes(a, b, step.result))
            terms = math.prod(sizes[v] for v in {*a, *b})
            self.large.append(terms > MOST_TERMS)
            pairs = [(when[k], big[k]) for k in (step.left, step.right)]
            if self.large[-1]:
                at = max(w for w, _ in pairs)[0], 0
            else:
                at = max((w[0] + 1, 0) if is_big else (w[0], w[1] + 1) for w, is_big in pairs)
            when.append(at)
            big.append(self.large[-1])
            levels, alone = self.phases.setdefault(at[0], ({}, []))
            if self.large[-1]:
                alone.append(number)
            else:
                levels.setdefault(at[1], []).append(number)
        users = {k: n for n, s in enumerate(steps) for k in (s.left, s.right)}
        # Where a table is an array of its own: what makes it and what takes it are both large.
        self.own = [
            (k < len(axes) or self.large[k - len(axes)]) and k in users and self.large[users[k]]
            for k in range(len(self.axes))
        ]

    def size(self, table: int) -> int:
        return math.prod(self.sizes[v] for v in self.axes[table])

    def result(self, number: int) -> int:
        return self.num_leaves + number


def result_axes(a: Axes, b: Axes, result: frozenset[int]) -> Axes:
    """The axes of a product: of both, of the one, of the other."""
    both = [v for v in a if v in b and v in result]
    left = [v for v in a if v not in b and v in result]
    right = [v for v in b if v not in a and v in result]
    return (*both, *left, *right)


def _upwards(tree: _Tree, number: int, starts: Mapping[int, int]) -> _Block:
    """The terms of a contraction."""
    step, sizes = tree.steps[number], tree.sizes
    a, b, result = (tree.axes[k] for k in (step.left, step.right, tree.result(number)))
    every = (*result, *(v for v in dict.fromkeys((*a, *b)) if v not in result))
    left = starts[step.left] + _numbers(a, sizes, every)
    right = starts[step.right] + _numbers(b, sizes, every)
    rows = math.prod(sizes[v] for v in result)
    terms = np.stack([left, right], -1).reshape(rows, -1, 2)
    return _Block(terms, np.full(rows, UNIT))


def _downwards(
    tree: _Tree, number: int, mine: int, other: int, up: Mapping[int, int], down: Mapping[int, int]
) -> _Block:
    """The terms of the derivatives by the entries of one of two tables."""
    sizes, table = tree.sizes, tree.result(number)
    a, b, result = (tree.axes[k] for k in (mine, other, table))
    every = (*a, *(v for v in b if v not in a))
    over = _numbers(result, sizes, every)
    right = up[other] + _numbers(b, sizes, every)
    rows = math.prod(sizes[v] for v in a)
    terms = np.stack([down[table] + over, right, up[table] + over], -1).reshape(rows, -1, 3)
    return _Block(terms, up[mine] + np.arange(rows))


def planned(
    axes: Sequence[Axes],
    steps: Sequence[Contraction],
    sizes: Mapping[int, int],
    order: Sequence[int],
) -> tuple[Plan, Sequence[Axes]]:
    """What is done to sum a product of tables, and for the derivatives by all their entries.

    Returns the axes of all tables, results included, too.

    Args:
        axes: the variables of each table, in the order of its axes.
        steps: contractions that leave one number.
        sizes: the number of states of each variable.
        order: the order in which the entries of small tables stand.
    """
    tree = _Tree(axes, steps, sizes)
    small = tuple(k for k in order if not tree.own[k])
    starts = dict(
        zip(small, itertools.accumulate(map(tree.size, small), initial=FIRST), strict=False)
    )
    writer = _Writer(FIRST + sum(map(tree.size, small)))
    phases = [tree.phases[p] for p in sorted(tree.phases)]

    def place(where: Mapping[int, int], table: int) -> int | None:
        return None if tree.own[table] else where[table]

    for levels, alone in phases:
        for _, numbers in sorted(levels.items()):
            blocks = [_upwards(tree, n, starts) for n in numbers]
            found = writer.level(blocks)
            starts |= zip(map(tree.result, numbers), found, strict=True)
        for n in alone:
            step, table = steps[n], tree.result(n)
            if not tree.own[table]:
                starts[table] = writer.reserve(tree.size(table))
            ends = (place(starts, k) for k in (step.left, step.right, table))
            writer.items.append(Large(n, *ends))
    up, at, size_up = writer.done()
    entry = {k: int(at[first]) for k, first in starts.items()}
    up = [_placed(x, at) for x in up]

    root = tree.result(len(steps) - 1)
    downs: dict[int, int] = {root: FIRST}
    writer = _Writer(FIRST + 1)
    for levels, alone in reversed(phases):
        for n in reversed(alone):
            step = steps[n]
            for k in (step.left, step.right):
                if not tree.own[k]:
                    downs[k] = writer.reserve(tree.size(k))
            ends = (place(downs, k) for k in (step.left, step.right, tree.result(n)))
            writer.items.append(Large(n, *ends))
        for _, numbers in sorted(levels.items(), reverse=True):
            pairs = [
                (n, *pair)
                for n in numbers
                for pair in itertools.permutations((steps[n].left, steps[n].right))
            ]
            found = writer.level([_downwards(tree, *p, entry, downs) for p in pairs])
            downs |= zip((mine for _, mine, _ in pairs), found, strict=True)
    down, at, size_down = writer.done()
    down = [_placed(x, at) for x in down]
    leaves = [at[downs[k] + np.arange(tree.size(k))] for k in small]
    plan = Plan(
        small,
        tuple(up),
        tuple(down),
        size_up,
        size_down,
        entry[root],
        np.concatenate([*leaves, np.zeros(0)]).astype(np.int32),
    )
    return plan, tree.axes


def _placed(item: Loop | Large, places: np.ndarray) -> Loop | Large:
    """A large contraction with the places of its entries."""
    if isinstance(item, Loop):
        return item
    return Large(item.step, *(None if x is None else int(places[x]) for x in item[1:]))
