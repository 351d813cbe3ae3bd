"""Where what stands in the rows of a layered drawing has its place: the abscissae.

They minimise the sum over lines of how far each leads aside, |x - y| for its two ends, times how
much it matters that it is straight, without overlap in a row: a linear program (Gansner,
Koutsofios, North and Vo, "A technique for drawing directed graphs", 1993).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cgjax._drawing.layers import Slot

_COLUMN_GAP, _TRUNK_GAP = 26.0, 12.0  # beside a box, and between two trunks
# How much it matters that lines are straight: within a trunk, along the spine, from and to a trunk;
# and beside 1 for all others, that boxes are in the middle of their neighbours, and rows narrow.
_TRUNK, _SPINE, _END, _MIDDLE, _NARROW = 50.0, 50.0, 2.0, 0.1, 0.01
_CENTRE = 0.001  # that rows have one centre


class _Term(NamedTuple):
    """The weight of |sum of coefficient times abscissa|; the unknowns are known by number."""

    weight: float
    coefficients: dict[int, float]


def place(grid: Sequence[Sequence[Slot]]) -> None:
    """Gives every slot its x."""
    slots = [slot for row in grid for slot in row]
    if not slots:
        return
    # Imported when something is drawn: it takes as long as much of the library.
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    number = {id(slot): k for k, slot in enumerate(slots)}
    terms = list(_terms(grid, number))
    centre, unknowns = len(slots), len(slots) + 1
    cost = np.zeros(unknowns + len(terms))
    rows: list[tuple[dict[int, float], float]] = []  # sum of coefficient times unknown <= bound
    for k, term in enumerate(terms, unknowns):
        cost[k] = term.weight
        for sign in (1.0, -1.0):
            rows.append(({i: sign * c for i, c in term.coefficients.items()} | {k: -1.0}, 0.0))
    for row in grid:
        for left, right in zip(row, row[1:], strict=False):
            rows.append(({number[id(left)]: 1.0, number[id(right)]: -1.0}, -_distance(left, right)))
        cost[number[id(row[0])]] -= _NARROW
        cost[number[id(row[-1])]] += _NARROW
    entries = [(k, i, c) for k, (row, _) in enumerate(rows) for i, c in row.items()]
    where, unknown, values = zip(*entries, strict=True)
    matrix = coo_array((values, (where, unknown)), shape=(len(rows), len(cost)))
    least, most = np.full_like(cost, -np.inf), np.full_like(cost, np.inf)
    least[centre] = most[centre] = least[unknowns:] = 0.0
    found = linprog(
        cost, matrix, [bound for _, bound in rows], bounds=list(zip(least, most, strict=True))
    )
    assert found.status == 0, found.message
    for slot, x in zip(slots, found.x, strict=False):
        slot.x = float(x)


def _distance(left: Slot, right: Slot) -> float:
    """Between the middles of two slots beside each other."""
    gap = _COLUMN_GAP if left.box or right.box else _TRUNK_GAP
    return left.width / 2 + left.right + gap + right.left + right.width / 2


def _terms(grid: Sequence[Sequence[Slot]], number: Mapping[int, int]) -> Iterator[_Term]:
    """What is to be small."""
    spine = _spine(grid)
    for row in grid:
        for slot in row:
            own = number[id(slot)]
            for below in slot.below:
                trunks = (slot.box is None) + (below.box is None)
                weight = (1.0, _END, _TRUNK)[trunks]
                if spine.get(id(slot)) is below:
                    weight = _SPINE
                yield _Term(weight, {own: 1.0, number[id(below)]: -1.0})
            straight = id(slot) in spine, any(spine.get(id(s)) is slot for s in slot.above)
            for near, is_straight in zip((slot.below, slot.above), straight, strict=True):
                if slot.box and len(near) > 1 and not is_straight:
                    mean = {number[id(s)]: -1.0 / len(near) for s in near}
                    yield _Term(_MIDDLE, {own: 1.0} | mean)
        ends = (number[id(row[0])], number[id(row[-1])])
        middle = {ends[0]: 1.0} if ends[0] == ends[1] else dict.fromkeys(ends, 0.5)
        yield _Term(_CENTRE, middle | {len(number): -1.0})


def _spine(grid: Sequence[Sequence[Slot]]) -> dict[int, Slot]:
    """By its identity, for a box on a longest path the next box on it."""
    down, up = _depths(reversed(grid), "below"), _depths(grid, "above")
    spine = {}
    for slot in (s for row in grid for s in row if s.box):
        following = _middle(slot.below, down)
        if following is not None and _middle(following.above, up) is slot:
            spine[id(slot)] = following
    return spine


def _depths(grid: Iterator[Sequence[Slot]] | Sequence[Sequence[Slot]], side: str) -> dict[int, int]:
    """By identity, how many boxes in rows one after the other are on a side of each box."""
    depths: dict[int, int] = {}
    for slot in (s for row in grid for s in row if s.box):
        near = [s for s in getattr(slot, side) if s.box]
        depths[id(slot)] = max((depths[id(s)] + 1 for s in near), default=0)
    return depths


def _middle(near: Sequence[Slot], depths: Mapping[int, int]) -> Slot | None:
    """The box from which it is furthest, and of several the middle one, if there is one."""
    boxes = [s for s in near if s.box]
    furthest = max((depths[id(s)] for s in boxes), default=0)
    boxes = [s for s in boxes if depths[id(s)] == furthest]
    return boxes[len(boxes) // 2] if len(boxes) % 2 else None
