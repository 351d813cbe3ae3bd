"""The rows of a layered drawing, and the order of what stands in each.

Boxes stand in rows below all that they depend on. Lines of one box that pass a row share a place in
it, so that they run as one trunk and cross no box. Several boxes with the same, several targets are
led to these through one junction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

HEIGHT = 46.0  # of a box
TITLE, TEXT = 13.0, 11.0  # font sizes
LOOP = 30.0  # the space at the side of a box for its loop
_LANE = 12.0  # the width of a trunk that passes a row
_SWEEPS = 24
_SAVED = 3  # lines that a junction has to save
JUNCTION = "junction"


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

    @property
    def downwards(self) -> bool:
        """Whether it leads from a row to a lower one."""
        return not (self.through_time or self.touching)


@dataclass(eq=False)
class Slot:
    """A place in a row: of a box or a junction, or of a trunk that passes."""

    row: int
    width: float
    box: Box | None = None
    right: float = 0.0  # space that is kept free at its right
    left: float = 0.0  # and at its left
    x: float = 0.0
    above: list[Slot] = field(default_factory=list, repr=False)
    below: list[Slot] = field(default_factory=list, repr=False)


class Layers(NamedTuple):
    """The rows of slots, the slot of each box by name, and the way of each line through rows."""

    grid: list[list[Slot]]
    slots: dict[str, Slot]
    ways: dict[Line, list[Slot]]


def width(text: str, size: float) -> float:
    """Of a text: enough for the sans-serif fonts of browsers and of Matplotlib."""
    return 0.57 * size * len(text)


def layers(boxes: Sequence[Box], lines: Sequence[Line]) -> Layers:
    """Finds the rows and the order in them.

    Args:
        boxes: the boxes, each after all that it depends on.
        lines: the lines, each once.
    """
    made = _slots(*_with_junctions(boxes, lines))
    _order(made.grid)
    place = {id(slot): k for row in made.grid for k, slot in enumerate(row)}
    for slot in (s for row in made.grid for s in row):
        slot.above.sort(key=lambda s: place[id(s)])
        slot.below.sort(key=lambda s: place[id(s)])
    return made


def _with_junctions(boxes: Sequence[Box], lines: Sequence[Line]) -> tuple[list[Box], list[Line]]:
    """Boxes and lines, in which a junction stands for the lines from all of some boxes to all of
    some others, where that saves lines."""
    targets: dict[str, list[str]] = {}
    for line in lines:
        if line.downwards:
            targets.setdefault(line.source, []).append(line.target)
    groups: dict[tuple[str, ...], list[str]] = {}
    for source, found in targets.items():
        groups.setdefault(tuple(found), []).append(source)
    boxes, lines = list(boxes), list(lines)
    for number, (found, sources) in enumerate(groups.items()):
        if len(found) * len(sources) - len(found) - len(sources) < _SAVED:
            continue
        junction = Box(f"{JUNCTION} {number}", JUNCTION, "", "")
        first = min(k for k, box in enumerate(boxes) if box.name in found)
        boxes.insert(first, junction)
        lines = [n for n in lines if not n.downwards or n.source not in sources]
        lines += [Line(source, junction.name) for source in sources]
        lines += [Line(junction.name, target) for target in found]
    return boxes, lines


def _rows(boxes: Sequence[Box], lines: Iterable[Line]) -> dict[str, int]:
    """The row of each box: below all that it depends on, and inputs just above what uses them."""
    sources: dict[str, list[str]] = {b.name: [] for b in boxes}
    for line in lines:
        if line.downwards:
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


def _box_width(box: Box) -> float:
    if box.kind == JUNCTION:
        return _LANE
    return max(0.62 * TITLE * len(box.title), width(box.text, TEXT), 40.0) + 22.0


def _slots(boxes: Sequence[Box], lines: Sequence[Line]) -> Layers:
    """Everything in its row."""
    rows = _rows(boxes, lines)
    loops = {line.target for line in lines if line.through_time}
    words = {line.target: line.touching for line in lines if line.touching}
    slots = {
        b.name: Slot(
            rows[b.name],
            _box_width(b),
            b,
            LOOP if b.name in loops else 0.0,
            LOOP + width(words[b.name], TEXT) if b.name in words else 0.0,
        )
        for b in boxes
    }
    grid: list[list[Slot]] = [[] for _ in range(max(rows.values(), default=0) + 1)]
    for slot in slots.values():
        grid[slot.row].append(slot)
    trunks: dict[tuple[str, int], Slot] = {}
    ways: dict[Line, list[Slot]] = {}
    for line in filter(lambda n: n.downwards, lines):
        way = [source := slots[line.source]]
        target = slots[line.target]
        for row in range(source.row + 1, target.row):
            if (line.source, row) not in trunks:
                trunks[line.source, row] = Slot(row, _LANE)
                grid[row].append(trunks[line.source, row])
            way.append(trunks[line.source, row])
        way.append(target)
        for above, below in zip(way, way[1:], strict=False):
            if below not in above.below:
                above.below.append(below)
                below.above.append(above)
        ways[line] = way
    return Layers(grid, slots, ways)


def _crossings(grid: Sequence[Sequence[Slot]]) -> int:
    total = 0
    for above, row in zip(grid, grid[1:], strict=False):
        place = {id(s): k for k, s in enumerate(row)}
        ends = [(upper, place[id(s)]) for upper, slot in enumerate(above) for s in slot.below]
        total += sum(
            (a - c) * (b - d) < 0 for i, (a, b) in enumerate(ends) for c, d in ends[i + 1 :]
        )
    return total


def _order(grid: list[list[Slot]]) -> None:
    """Orders every row so that few lines cross: by the mean place of the neighbours, and then by
    exchanging neighbours, repeatedly."""
    best, fewest = [list(row) for row in grid], _crossings(grid)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        for row in grid if downwards else reversed(grid):
            place = {id(s): k for line in grid for k, s in enumerate(line)}
            old = {id(s): k for k, s in enumerate(row)}

            def middle(
                slot: Slot, place: dict[int, int] = place, old: dict[int, int] = old
            ) -> tuple[float, int]:
                near = slot.above if downwards else slot.below  # noqa: B023
                own = old[id(slot)]
                return (sum(place[id(s)] for s in near) / len(near) if near else float(own)), own

            row.sort(key=middle)
        for row in grid:
            _exchange(row, {id(s): k for line in grid for k, s in enumerate(line)})
        if (count := _crossings(grid)) < fewest:
            best, fewest = [list(row) for row in grid], count
        if not fewest:
            break
    grid[:] = best


def _exchange(row: list[Slot], place: dict[int, int]) -> None:
    """Exchanges two slots beside each other where fewer of their lines cross then."""

    def crossing(left: Slot, right: Slot) -> int:
        pairs = [(left.above, right.above), (left.below, right.below)]
        return sum(place[id(a)] > place[id(b)] for one, other in pairs for a in one for b in other)

    for k in range(len(row) - 1):
        left, right = row[k : k + 2]
        if crossing(right, left) < crossing(left, right):
            row[k : k + 2] = right, left
