"""Draws a directed graph in layers: where boxes and lines go.

Rows and the order in them are found first (`layers`), then where everything is in its row
(`places`), then the curves. Lines through time do not count for either; they are dashed and go
around at the side. What touches within a box is a loop without arrow, at its other side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cgjax._drawing.layers import HEIGHT, JUNCTION, LOOP, TEXT, Box, Line, Slot, layers
from cgjax._drawing.places import place

Point = tuple[float, float]

_ROW_GAP, _MARGIN = 38.0, 18.0
_TURN = 16.0  # how far from a box a line through time turns, less than a gap
_PORTS = 14.0  # between two lines at one box


class Placed(NamedTuple):
    """A box with its centre and size."""

    box: Box
    x: float
    y: float
    width: float
    height: float


class Curve(NamedTuple):
    """A line as Bezier curves: the first point, then three points for each piece.

    One without direction has words, which end at `end`; one to a junction has no arrow.
    """

    points: tuple[Point, ...]
    through_time: bool
    touching: str = ""
    end: Point = (0.0, 0.0)
    arrow: bool = True


class Drawing(NamedTuple):
    """Everything with its place; y grows downwards. Junctions are points."""

    width: float
    height: float
    boxes: tuple[Placed, ...]
    curves: tuple[Curve, ...]
    junctions: tuple[Point, ...] = ()


def drawing(boxes: Sequence[Box], lines: Sequence[Line]) -> Drawing:
    """Finds the place of everything.

    Args:
        boxes: the boxes, each after all that it depends on.
        lines: the lines.
    """
    lines = list(dict.fromkeys(lines))
    grid, slots, ways = layers(boxes, lines)
    place(grid)
    around = [line for line in lines if line.through_time]
    everything = [s for row in grid for s in row]
    left = min((s.x - s.width / 2 - s.left for s in everything), default=0.0)
    shift = _MARGIN - left
    for slot in everything:
        slot.x += shift
    tops = _tops(grid)
    top = tops.__getitem__

    curves = [_down(way, top) for way in ways.values()]
    curves += [
        _around(slots[n.source], slots[n.target], grid, k, top) for k, n in enumerate(around)
    ]
    curves += [_loop(slots[n.target], n.touching, top) for n in lines if n.touching]
    placed = [
        Placed(s.box, s.x, top(s.row) + HEIGHT / 2, s.width, HEIGHT)
        for s in everything
        if s.box is not None and s.box.kind != JUNCTION
    ]
    junctions = tuple(
        (s.x, top(s.row)) for s in everything if s.box is not None and s.box.kind == JUNCTION
    )
    right = [p.x + p.width / 2 for p in placed] + [x for c in curves for x, _ in c.points]
    bottom = [p.y + p.height / 2 for p in placed] + [y for c in curves for _, y in c.points]
    return Drawing(
        max(right, default=0.0) + _MARGIN,
        max(bottom, default=0.0) + _MARGIN,
        tuple(placed),
        tuple(curves),
        junctions,
    )


def _tops(grid: Sequence[Sequence[Slot]]) -> list[float]:
    """The ordinate of each row; one of junctions alone has no height."""
    tops = [_MARGIN]
    for row in grid:
        tops.append(tops[-1] + _ROW_GAP + max((_height(slot) for slot in row), default=0.0))
    return tops


def _height(slot: Slot) -> float:
    return 0.0 if slot.box is None or slot.box.kind == JUNCTION else HEIGHT


def _port(box: Slot, ends: Sequence[Slot], end: Slot) -> float:
    """Where the line to one of several ends is at a box: they keep a distance, and one that is
    straight stays so."""
    if _height(box) == 0:
        return box.x
    ordered = sorted(ends, key=lambda s: s.x)
    straight = [k for k, s in enumerate(ordered) if abs(s.x - box.x) < 1]
    middle = straight[0] if straight else (len(ordered) - 1) / 2
    step = min(_PORTS, 0.4 * box.width / max(middle, len(ordered) - 1 - middle, 1))
    return box.x + step * (ordered.index(end) - middle)


def _down(way: Sequence[Slot], top: Callable[[int], float]) -> Curve:
    """A line from row to row, straight through the rows that it passes."""
    source, target = way[0], way[-1]
    last_x = _port(target, target.above, way[-2])
    x, y = _port(source, source.below, way[1]), top(source.row) + _height(source)
    points: list[Point] = [(x, y)]
    for slot in way[1:]:
        last = slot is target
        new_x, new_y = (last_x if last else slot.x), top(slot.row)
        half = (new_y - y) / 2
        points += [(x, y + half), (new_x, new_y - half), (new_x, new_y)]
        x, y = new_x, new_y
        if not last:
            y = top(slot.row + 1) - _ROW_GAP
            third = (y - new_y) / 3
            points += [(x, new_y + third), (x, new_y + 2 * third), (x, y)]
    return Curve(tuple(points), False, arrow=_height(target) > 0)


def _loop(slot: Slot, words: str, top: Callable[[int], float]) -> Curve:
    """A line without direction at the left of a box, and its words before it."""
    x, y, d = slot.x - slot.width / 2, top(slot.row) + HEIGHT / 2, HEIGHT / 4
    far = x - 1.2 * LOOP
    points = ((x, y + d), (far, y + 2 * d), (far, y - 2 * d), (x, y - d))
    return Curve(points, False, words, (x - LOOP, y + TEXT / 3))


def _around(
    source: Slot,
    target: Slot,
    grid: Sequence[Sequence[Slot]],
    number: int,
    top: Callable[[int], float],
) -> Curve:
    """A line through time: a loop at the box, or around everything between the two rows."""
    start = (source.x + source.width / 2, top(source.row) + HEIGHT / 2)
    end = (target.x + target.width / 2, top(target.row) + HEIGHT / 2)
    if source is target:
        (x, y), d = start, HEIGHT / 4
        far = x + 1.2 * LOOP
        return Curve(((x, y + d), (far, y + 2 * d), (far, y - 2 * d), (x, y - d)), True)
    rows = grid[min(source.row, target.row) : max(source.row, target.row) + 1]
    far = max(s.x + s.width / 2 + s.right for row in rows for s in row) + 16.0 + 10.0 * number
    down = (start[0], start[1] + 8.0), (end[0], end[1] - 8.0)
    if source.row < target.row:
        down = (start[0], start[1] - 8.0), (end[0], end[1] + 8.0)
    (x, y), (u, v) = down
    # Boxes further right in a row are passed in the gap next to it, on the way to the other row.
    up = source.row >= target.row
    leave, arrive = [
        None
        if all(s.box is None or s.x <= end.x for s in grid[end.row])
        else top(end.row) + (HEIGHT + _TURN if below else -_TURN)
        for end, below in ((source, not up), (target, up))
    ]
    points: list[Point] = [(x, y)]
    if leave is not None:
        points += [(x + _TURN, y), (x, leave), (x + _TURN, leave)]
        x, y = points[-1]
    y_end = v if arrive is None else arrive
    points += [(far, y), (far, y), (far, (y + y_end) / 2), (far, y_end), (far, y_end)]
    if arrive is not None:
        points += [(u + _TURN, arrive), (u, arrive), (u + _TURN, v)]
    return Curve((*points, (u, v)), True)
