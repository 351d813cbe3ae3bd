"""What is done to sum a product of tables, and for the derivatives by all their entries.

Every table is multiplied once, so that derivatives are rounds too, from the last to the first: that
of the entry i is sum_t g_{r(i, t)} x_{j(i, t)}. Large contractions stay matrix products between
the rounds. This file only counts.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cgjax.inference._contraction import Contraction
from cgjax.inference._rounds import FIRST, UNIT, Block, Large, Loop, Writer

# Contractions of more terms are done one by one.
MOST_TERMS = 1 << 12

Axes = tuple[int, ...]


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


def _upwards(tree: _Tree, number: int, starts: Mapping[int, int]) -> Block:
    """The terms of a contraction."""
    step, sizes = tree.steps[number], tree.sizes
    a, b, result = (tree.axes[k] for k in (step.left, step.right, tree.result(number)))
    every = (*result, *(v for v in dict.fromkeys((*a, *b)) if v not in result))
    left = starts[step.left] + _numbers(a, sizes, every)
    right = starts[step.right] + _numbers(b, sizes, every)
    rows = math.prod(sizes[v] for v in result)
    terms = np.stack([left, right], -1).reshape(rows, -1, 2)
    return Block(terms, np.full(rows, UNIT))


def _downwards(
    tree: _Tree, number: int, mine: int, other: int, up: Mapping[int, int], down: Mapping[int, int]
) -> Block:
    """The terms of the derivatives by the entries of one of two tables."""
    sizes, table = tree.sizes, tree.result(number)
    a, b, result = (tree.axes[k] for k in (mine, other, table))
    every = (*a, *(v for v in b if v not in a))
    over = _numbers(result, sizes, every)
    right = up[other] + _numbers(b, sizes, every)
    rows = math.prod(sizes[v] for v in a)
    terms = np.stack([down[table] + over, right, up[table] + over], -1).reshape(rows, -1, 3)
    return Block(terms, up[mine] + np.arange(rows))


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
    writer = Writer(FIRST + sum(map(tree.size, small)))
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
    writer = Writer(FIRST + 1)
    for levels, alone in reversed(phases):
        for n in reversed(alone):
            step = steps[n]
            for k in (step.left, step.right):
                if not tree.own[k]:
                    downs[k] = writer.reserve(tree.size(k))
            ends = (place(downs, k) for k in (step.left, step.right, tree.result(n)))
            writer.items.append(Large(n, *ends))
        for _, numbers in sorted(levels.items(), reverse=True):
            pairs = [(n, steps[n].left, steps[n].right) for n in numbers]
            pairs += [(n, right, left) for n, left, right in pairs]
            found = writer.level([_downwards(tree, n, a, b, entry, downs) for n, a, b in pairs])
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
    ends = (None if x is None else int(places[x]) for x in (item.left, item.right, item.result))
    return Large(item.step, *ends)
