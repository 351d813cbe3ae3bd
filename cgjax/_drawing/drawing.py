"""Draws a directed graph in layers: where boxes and lines go.

Boxes stand in rows below all that they depend on. A line that passes rows has a place of its own in
each of them, so that it crosses no box. Lines through time do not count for the rows; they are
dashed and go around at the side. What touches within a box is a loop without arrow, at its other
side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Point = tuple[float, float]

HEIGHT = 46.0  # of a box
_ROW_GAP, _COLUMN_GAP, _MARGIN = 44.0, 26.0, 18.0
_LANE = 12.0  # the width of a line that passes a row
_LOOP = 30.0  # the space at the side of a box for its loop
_TURN = 16.0  # how far from a box a line through time turns, less than a gap
TITLE, TEXT = 13.0, 11.0  # font sizes
_SWEEPS, _PLACINGS = 12, 40
_STRAIGHT = 8.0  # how much more it matters that a line is straight than where a box is


class Box(NamedTuple):
    """A vertex: what it is called in the graph, its kind, and the two lines of text in it."""

    name: str
    kind: str
    title: str
    text: str


class Line(NamedTuple):
    """An edge between two boxes, by name; one of a box to itself, without direction, has words."""

    source: str
    target: str
    through_time: bool = False
    touching: str = ""


class Placed(NamedTuple):
    """A box with its centre and size."""

    box: Box
    x: float
    y: float
    width: float
    height: float


class Curve(NamedTuple):
    """A line as Bezier curves: the first point, then three points for each piece.

    One without direction has words, which end at `end`.
    """

    points: tuple[Point, ...]
    through_time: bool
    touching: str = ""
    end: Point = (0.0, 0.0)


class Drawing(NamedTuple):
    """Everything with its place; y grows downwards."""

    width: float
    height: float
    boxes: tuple[Placed, ...]
    curves: tuple[Curve, ...]


@dataclass(eq=False)
class _Slot:
    """A place in a row: of a box, or of a line that passes."""

    row: int
    width: float
    box: Box | None = None
    right: float = 0.0  # space that is kept free at its right
    left: float = 0.0  # and at its left
    x: float = 0.0
    above: list[_Slot] = field(default_factory=list, repr=False)
    below: list[_Slot] = field(default_factory=list, repr=False)


def _text_width(box: Box) -> float:
    return max(0.62 * TITLE * len(box.title), _width(box.text, TEXT), 40.0) + 22.0


def _width(text: str, size: float) -> float:
    # Wide enough for the sans-serif fonts of browsers and of Matplotlib.
    return 0.57 * size * len(text)


def _rows(boxes: Sequence[Box], lines: Sequence[Line]) -> dict[str, int]:
    """The row of each box: below all that it depends on, and inputs just above what uses them."""
    sources: dict[str, list[str]] = {b.name: [] for b in boxes}
    for line in lines:
        if not (line.through_time or line.touching):
            sources[line.target].append(line.source)
    rows: dict[str, int] = {}
    for box in boxes:  # in topological order
        rows[box.name] = max((rows[s] + 1 for s in sources[box.name]), default=0)
    for box in boxes:
        if not sources[box.name]:
            used = [rows[t] for t, origin in sources.items() if box.name in origin]
            rows[box.name] = min(used, default=1) - 1
    last = max(rows.values(), default=0)
    for box in boxes:
        if box.kind == "result" and rows[box.name] >= last - 1:
            rows[box.name] = last
    return rows


def _slots(
    boxes: Sequence[Box], lines: Sequence[Line]
) -> tuple[list[list[_Slot]], dict[str, _Slot], dict[Line, list[_Slot]]]:
    """The slots by row and by box, and the way of each line through the rows."""
    rows = _rows(boxes, lines)
    loops = {line.target for line in lines if line.through_time}
    words = {line.target: line.touching for line in lines if line.touching}
    slots = {
        b.name: _Slot(
            rows[b.name],
            _text_width(b),
            b,
            _LOOP if b.name in loops else 0.0,
            _LOOP + _width(words[b.name], TEXT) if b.name in words else 0.0,
        )
        for b in boxes
    }
    grid: list[list[_Slot]] = [[] for _ in range(max(rows.values(), default=0) + 1)]
    for slot in slots.values():
        grid[slot.row].append(slot)
    ways: dict[Line, list[_Slot]] = {}
    for line in lines:
        if line.through_time or line.touching:
            continue
        source, target = slots[line.source], slots[line.target]
        lanes = [_Slot(row, _LANE) for row in range(source.row + 1, target.row)]
        for lane in lanes:
            grid[lane.row].append(lane)
        way = [source, *lanes, target]
        for above, below in zip(way, way[1:], strict=False):
            above.below.append(below)
            below.above.append(above)
        ways[line] = way
    return grid, slots, ways


def _crossings(grid: Sequence[Sequence[_Slot]]) -> int:
    total = 0
    for row in grid:
        place = {id(s): k for k, s in enumerate(row)}
        ends = [
            (upper, place[id(s)])
            for upper, source in enumerate(grid[row[0].row - 1] if row and row[0].row else [])
            for s in source.below
        ]
        total += sum(
            (a - c) * (b - d) < 0 for i, (a, b) in enumerate(ends) for c, d in ends[i + 1 :]
        )
    return total


def _order(grid: list[list[_Slot]]) -> None:
    """Orders every row so that few lines cross: by the mean place of the neighbours, repeatedly."""
    best, fewest = [list(row) for row in grid], _crossings(grid)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        for row in grid if downwards else reversed(grid):
            place = {id(s): k for line in grid for k, s in enumerate(line)}
            old = {id(s): k for k, s in enumerate(row)}

            def middle(
                slot: _Slot, place: dict[int, int] = place, old: dict[int, int] = old
            ) -> tuple[float, int]:
                near = slot.above if downwards else slot.below  # noqa: B023
                own = old[id(slot)]
                return (sum(place[id(s)] for s in near) / len(near) if near else float(own)), own

            row.sort(key=middle)
        if (count := _crossings(grid)) < fewest:
            best, fewest = [list(row) for row in grid], count
    grid[:] = best


def _spread(row: Sequence[_Slot], wanted: Sequence[float]) -> None:
    """Puts slots as near as possible (least squares) to where they want to be, without overlap."""
    offsets = [0.0]
    for left, right in zip(row, row[1:], strict=False):
        gap = left.width / 2 + left.right + _COLUMN_GAP + right.left + right.width / 2
        offsets.append(offsets[-1] + gap)
    # Pool adjacent violators: blocks of slots that touch move together.
    blocks: list[tuple[float, float, int]] = []
    for slot, target, offset in zip(row, wanted, offsets, strict=True):
        weight, count = (1.0 if slot.box else _STRAIGHT), 1
        total = weight * (target - offset)
        while blocks and blocks[-1][0] / blocks[-1][1] > total / weight:
            before, heavy, number = blocks.pop()
            total, weight, count = total + before, weight + heavy, count + number
        blocks.append((total, weight, count))
    starts = [total / weight for total, weight, count in blocks for _ in range(count)]
    for slot, start, offset in zip(row, starts, offsets, strict=True):
        slot.x = start + offset


def _place(grid: Sequence[Sequence[_Slot]]) -> None:
    for row in grid:
        _spread(row, [0.0] * len(row))
    for sweep in range(_PLACINGS):
        downwards = sweep % 2 == 0
        for row in grid if downwards else reversed(grid):
            wanted = []
            for slot in row:
                near = slot.above if downwards else slot.below
                if sweep >= _PLACINGS // 2 or not near:
                    near = [*slot.above, *slot.below]
                # A line's way should be straight, which counts more than the middle of a box.
                lanes = [s.x for s in near if s.box is None and slot.box is None]
                xs = lanes or [s.x for s in near] or [slot.x]
                wanted.append(sum(xs) / len(xs))
            _spread(row, wanted)


def drawing(boxes: Sequence[Box], lines: Sequence[Line]) -> Drawing:
    """Finds the place of everything.

    Args:
        boxes: the boxes, each after all that it depends on.
        lines: the lines.
    """
    grid, slots, ways = _slots(boxes, list(dict.fromkeys(lines)))
    _order(grid)
    _place(grid)
    around = [line for line in dict.fromkeys(lines) if line.through_time]
    everything = [s for row in grid for s in row]
    left = min((s.x - s.width / 2 - s.left for s in everything), default=0.0)
    shift = _MARGIN - left
    for slot in everything:
        slot.x += shift

    def top(row: int) -> float:
        return _MARGIN + row * (HEIGHT + _ROW_GAP)

    curves = [_down(way, _ports(ways, way), top) for way in ways.values()]
    curves += [
        _around(slots[n.source], slots[n.target], grid, k, top) for k, n in enumerate(around)
    ]
    curves += [_loop(slots[n.target], n.touching, top) for n in lines if n.touching]
    placed = [
        Placed(s.box, s.x, top(s.row) + HEIGHT / 2, s.width, HEIGHT)
        for s in everything
        if s.box is not None
    ]
    right = [p.x + p.width / 2 for p in placed] + [x for c in curves for x, _ in c.points]
    bottom = [p.y + p.height / 2 for p in placed] + [y for c in curves for _, y in c.points]
    return Drawing(
        max(right, default=0.0) + _MARGIN,
        max(bottom, default=0.0) + _MARGIN,
        tuple(placed),
        tuple(curves),
    )


def _ports(ways: Mapping[Line, list[_Slot]], way: list[_Slot]) -> tuple[float, float]:
    """Where a line leaves and where it arrives: lines at one box keep a distance."""

    def port(box: _Slot, lines: list[list[_Slot]], towards: int) -> float:
        ordered = sorted(lines, key=lambda w: w[towards].x)
        step = min(14.0, 0.6 * box.width / len(ordered))
        place = next(k for k, w in enumerate(ordered) if w is way)
        return box.x + step * (place - (len(ordered) - 1) / 2)

    leaving = [w for w in ways.values() if w[0] is way[0]]
    arriving = [w for w in ways.values() if w[-1] is way[-1]]
    return port(way[0], leaving, 1), port(way[-1], arriving, -2)


def _down(way: list[_Slot], ports: tuple[float, float], top: Callable[[int], float]) -> Curve:
    """A line from row to row, straight through the rows that it passes."""
    x, y = ports[0], top(way[0].row) + HEIGHT
    points: list[Point] = [(x, y)]
    for slot in way[1:]:
        last = slot is way[-1]
        new_x, new_y = (ports[1] if last else slot.x), top(slot.row)
        half = (new_y - y) / 2
        points += [(x, y + half), (new_x, new_y - half), (new_x, new_y)]
        x, y = new_x, new_y
        if not last:
            y += HEIGHT
            points += [(x, new_y + HEIGHT / 3), (x, new_y + 2 * HEIGHT / 3), (x, y)]
    return Curve(tuple(points), False)


def _loop(slot: _Slot, words: str, top: Callable[[int], float]) -> Curve:
    """A line without direction at the left of a box, and its words before it."""
    x, y, d = slot.x - slot.width / 2, top(slot.row) + HEIGHT / 2, HEIGHT / 4
    far = x - 1.2 * _LOOP
    points = ((x, y + d), (far, y + 2 * d), (far, y - 2 * d), (x, y - d))
    return Curve(points, False, words, (x - _LOOP, y + TEXT / 3))


def _around(
    source: _Slot,
    target: _Slot,
    grid: Sequence[Sequence[_Slot]],
    number: int,
    top: Callable[[int], float],
) -> Curve:
    """A line through time: a loop at the box, or around everything between the two rows."""
    start = (source.x + source.width / 2, top(source.row) + HEIGHT / 2)
    end = (target.x + target.width / 2, top(target.row) + HEIGHT / 2)
    if source is target:
        (x, y), d = start, HEIGHT / 4
        far = x + 1.2 * _LOOP
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
