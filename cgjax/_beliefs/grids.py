"""How positions lie in the grid that they come from: what reshapes and transposes leave of it.

An axis of positions is written in digits, outermost first, each of which steps along one axis of a
grid. So the rows of an image have the digit (axis 0, step 1, 8 of them); reshaped to (4, 2), they
are two axes, (axis 0, step 2, 4) and (axis 0, step 1, 2).
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from cgjax._beliefs.layouts import Digits


class Step(NamedTuple):
    """A digit of an axis of positions.

    Attributes:
        axis: the axis of the grid.
        length: how far along it one step leads.
        number: of places.
    """

    axis: int
    length: int
    number: int


# For each axis of positions its digits.
Grid: TypeAlias = tuple[tuple[Step, ...], ...]


def own(sizes: Sequence[int]) -> Grid:
    """Axes of positions that are those of the grid."""
    return tuple((Step(k, 1, n),) if n > 1 else () for k, n in enumerate(sizes))


def normal(grid: Sequence[tuple[Step, ...]]) -> Grid | None:
    """A grid in the smallest of its steps; None where its axes are those of the positions."""
    names: dict[int, int] = {}
    for step in (s for steps in grid for s in steps):
        names.setdefault(step.axis, len(names))
    least = smallest(s for steps in grid for s in steps)
    found = tuple(
        _joined(Step(names[s.axis], s.length // least[s.axis], s.number) for s in steps)
        for steps in grid
    )
    plain = all(len(steps) <= 1 and all(s.length == 1 for s in steps) for steps in found)
    return None if plain and len(names) == sum(map(bool, found)) else found


def _joined(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Digits that are one as one."""
    found: list[Step] = []
    for s in steps:
        outer = found[-1] if found else None
        if outer and (outer.axis, outer.length) == (s.axis, s.length * s.number):
            found[-1] = s._replace(number=outer.number * s.number)
        else:
            found.append(s)
    return tuple(found)


def smallest(steps: Iterable[Step]) -> dict[int, int]:
    """The smallest step along each axis of the grid."""
    found: dict[int, int] = {}
    for s in steps:
        found[s.axis] = min(s.length, found.get(s.axis, s.length))
    return found


def laid(axes: Sequence[Digits], shape: Sequence[int], grid: dict[int, tuple[Step, ...]]) -> Grid:
    """The grid after moves; axes whose places are not known become axes of the grid.

    Args:
        axes: for each axis of positions afterwards its digits, as of a layout.
        shape: of the array before.
        grid: for each axis of positions before its digits.
    """
    found: list[tuple[Step, ...]] = []
    for digits in axes:
        steps = [s for digit in digits for s in _of_digit(*digit, shape, grid) or (None,)]
        known = tuple(s for s in steps if s is not None)
        if len(known) < len(steps):
            return own([math.prod(n for n, _ in digits) for digits in axes])
        found.append(known)
    return tuple(found)


def _of_digit(
    number: int, stride: int, shape: Sequence[int], grid: dict[int, tuple[Step, ...]]
) -> list[Step] | None:
    """The steps of a digit of a layout, outermost first; None where they cannot be told."""
    found: list[Step] = []
    inner = 1
    for axis in reversed(range(len(shape))):
        outer = inner * shape[axis]
        low, high = max(stride, inner), min(stride * number, outer)
        if low < high:
            steps = _cut(grid.get(axis, ()), low // inner, high // low)
            if steps is None or low % inner or high % low:
                return None
            found = [*steps, *found]
        inner = outer
    return found if math.prod(s.number for s in found) == number else None


def _cut(steps: Sequence[Step], stride: int, number: int) -> list[Step] | None:
    """What every `stride`-th of the places of an axis, so many of them, are in the grid."""
    found: list[Step] = []
    inner = 1
    for step in reversed(steps):
        outer = inner * step.number
        low, high = max(stride, inner), min(stride * number, outer)
        if low < high:
            if low % inner or high % low:
                return None
            found.insert(0, Step(step.axis, step.length * (low // inner), high // low))
        inner = outer
    return found
