"""Straight lines that are broken at some places, with or without a jump: kinks and decisions.

|x|, max, min, clip, sign, comparisons, `where` and everything that is made of them and of straight
lines: between two cuts each operation is one on straight lines, and where two lines cross there is
a new cut. However such a function is written, it becomes the same cuts and lines.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from cgjax._beliefs.curves.form import (
    IDENTITY,
    Coefficient,
    Form,
    Function,
    Known,
    Line,
    Operation,
    equal,
    minus,
    number,
    over,
    pick,
    pick_line,
    plus,
    same_line,
)
from cgjax._beliefs.curves.pieces import End, Rule, compared, larger, largest, least, rule_of
from cgjax._beliefs.curves.polynomial import Polynomial
from cgjax._gaussian import closed
from cgjax._gaussian.numerics import root, wide

_MOST = 8  # cuts: more are integrated

_C = TypeVar("_C", bound=Coefficient)


@dataclass(frozen=True, eq=False)
class Broken(Form):
    """Lines between cuts.

    Attributes:
        unit: the line of the variable that it is a function of.
        breaks: the cuts, in ascending order, as values of the unit.
        lines: those before the first cut, between the cuts, and after the last.
        continuous: whether it is known not to jump.
    """

    unit: Line
    breaks: tuple[Coefficient, ...]
    lines: tuple[Line, ...]
    continuous: bool

    @property
    def cuts(self) -> tuple[Coefficient, ...]:
        """The cuts, as values of the variable."""
        slope, offset = self.unit
        slope = pick(compared(operator.eq, slope, 0.0), 1.0, slope)
        return tuple(over(plus(c, minus(offset)), slope) for c in self.breaks)

    @property
    def is_level(self) -> bool:
        """Whether all lines are known to be level, as those of a decision."""
        return all(line.is_level for line in self.lines)

    @classmethod
    def after(cls, operation: Operation) -> Form | None:
        """Whatever makes lines of lines."""
        if not operation.is_real or operation.rounds or operation.stops:
            return None
        parts = _over_one_unit(operation.operands)
        if parts is None:
            return None
        unit, pieces = parts
        if operation.primitive is lax.clamp_p:
            raised = _combined(unit, pieces[:2], larger(1))
            found = raised and _combined(unit, [raised, pieces[2]], larger(-1))
        else:
            rule = rule_of(operation)
            found = rule and _combined(unit, pieces, rule)
        if not found:
            return None
        if not found.breaks:
            return Polynomial.straight(unit, found.lines[0])
        return found if len(found.breaks) <= _MOST else None

    def over_variable(self) -> Broken:
        """The same as a function of the variable itself."""
        if same_line(self.unit, IDENTITY):
            return self
        slope = self.unit.slope
        rising = compared(operator.gt, slope, 0.0)
        level = compared(operator.eq, slope, 0.0)
        cuts, lines = self.cuts, [line.of(self.unit) for line in self.lines]
        turned = zip(cuts, reversed(cuts), strict=True)
        breaks = tuple(pick(rising, a, b) for a, b in turned)
        here = self.at(self.unit.offset)
        lines = [
            pick_line(level, Line(0.0, here), pick_line(rising, a, b))
            for a, b in zip(lines, reversed(lines), strict=True)
        ]
        return Broken(IDENTITY, breaks, tuple(lines), self.continuous)

    def at(self, u: Coefficient) -> Coefficient:
        """The value at a place."""
        return self.line_from(u).at(u)

    def line_from(self, start: End) -> Line:
        """The line from a place on."""
        line = self.lines[0]
        if start is not None:
            for cut, after in zip(self.breaks, self.lines[1:], strict=True):
                line = pick_line(compared(operator.le, cut, start), after, line)
        return line

    def moments(
        self, function: Function, mean: jax.Array, variance: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """In closed form."""
        if any(number(line.offset) is None for line in self.lines):
            # What a mask has filled with infinity is that for sure.
            lines = tuple(Line(line.slope, _or_0(line.offset)) for line in self.lines)
            found = replace(self, lines=lines)._of_finite(function, mean, variance)
            here = jnp.asarray(function(mean), found[0].dtype)
            filled = jnp.isinf(here)
            return jnp.where(filled, here, found[0]), jnp.where(filled, 0, found[1])
        return self._of_finite(function, mean, variance)

    def _of_finite(
        self, function: Function, mean: jax.Array, variance: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        m, v = self.unit.moments(mean, variance)
        m, v = (jnp.broadcast_to(a, mean.shape) for a in (m, v))
        if len(self.breaks) == 1:
            centre, spread = self._bent(m, v)
        elif len(self.breaks) == 2 and self.continuous and self._is_clipped():
            centre, spread = self._clipped(m, v)
        else:
            centre, spread = self._several(m, v)
        if self.continuous:
            return centre, spread
        # Where a known value lies at a jump, which side it is on is a matter of the function.
        known, here = v <= 0, wide(jnp.asarray(function(mean), mean.dtype))
        tie = known & jnp.any(jnp.stack([m == jnp.asarray(c, m.dtype) for c in self.breaks]), 0)
        return jnp.where(known, here, centre), jnp.where(tie, 0, spread)

    def _bent(self, m: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of a line that is broken once."""
        (at,), (left, right) = self.breaks, self.lines
        slopes = number(left.slope), number(right.slope)
        smooth = self.continuous or number(_jump(at, left, right)) == 0
        if not smooth or None in slopes or not any(slopes):
            at = _within(at, m, v)
            sides = [(_float(side.slope), _float(side.offset)) for side in (left, right)]
            return closed.bent(m, v, _float(at), *sides)
        # The steeper side upwards on the right, where nothing cancels: mirrored, and turned over.
        below, above = (float(s.real) for s in slopes if s is not None)
        distance = m - _within(at, m, v)
        if abs(below) > abs(above):
            distance, below, above = -distance, -above, -below
        level = _value_at(at, left, right, m)
        if below * above < 0:
            up, _ = closed.rectified(distance, v)
            down, _ = closed.rectified(-distance, v)
            if above == -below:
                spread = above**2 * (v - 4 * up * down)
            else:
                share = closed.upper(distance, v)
                spread = v * (above**2 * share + below**2 * (1 - share))
                spread = spread - (above - below) ** 2 * up * down
            return level + above * up - below * down, jnp.maximum(spread, 0)
        centre, spread = closed.rectified(distance, v, below / above)
        centre, spread = level + above * centre, above**2 * spread
        at = _array(at, m)
        none = jnp.isinf(at)  # a limit of infinity is none
        if number(at) is not None or not self.continuous:
            return centre, spread
        line = pick_line(at < 0, right, left)
        whole = line.moments(m, v)
        return jnp.where(none, whole[0], centre), jnp.where(none, whole[1], spread)

    def _is_clipped(self) -> bool:
        slope = number(self.lines[1].slope)
        return self.lines[0].is_level and self.lines[2].is_level and bool(slope)

    def _clipped(self, m: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of a line that is cut off at both ends."""
        low, line, high = self.lines
        m, v = line.moments(m, v)
        ends = [low.offset, high.offset]
        slope = number(line.slope)
        if slope is not None and slope.real < 0:
            ends.reverse()
        low_, high_ = (_within(_array(e, m), m, v) for e in ends)
        return closed.clipped(m, v, low_, high_)

    def _several(self, m: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of any."""
        here = jnp.asarray(self.at(m), m.dtype)
        cuts = [_array(_within(c, m, v), m) for c in self.breaks]
        lines = [tuple(_array(c, m) for c in line) for line in self.lines]
        return closed.in_pieces(m, v, here, cuts, lines)


def _or_0(x: Coefficient) -> Coefficient:
    """A number, or 0 in place of infinity."""
    return x if number(x) is not None else jnp.where(jnp.isinf(x), 0, x)


def _float(x: Coefficient) -> jax.Array | float:
    known = number(x)
    return jnp.asarray(x) if known is None else float(known.real)


def _array(x: Coefficient, like: jax.Array) -> jax.Array:
    return jnp.asarray(x, like.dtype)


def _within(at: _C, m: jax.Array, v: jax.Array) -> _C | jax.Array:
    """A cut that is infinitely far as one that is far enough."""
    if number(at) is not None and math.isfinite(_float(at)):  # type: ignore[arg-type]
        return at
    place = _array(at, m)
    far = m + jnp.sign(place) * (40 * root(v) + 1)
    return jnp.where(jnp.isinf(place), far, place)


def _jump(at: Coefficient, left: Line, right: Line) -> Coefficient:
    return plus(right.at(at), minus(left.at(at)))


def _value_at(at: Coefficient, left: Line, right: Line, m: jax.Array) -> jax.Array:
    """The value at the cut of a line that does not jump, from the more level side."""
    flatter = left if left.is_level else right
    return _array(flatter.at(at), m)


# -- operations


def _over_one_unit(operands: Sequence[Form]) -> tuple[Line, list[Broken]] | None:
    """The operands as broken lines of one line, without or with cuts; None if one is no such."""
    units = []
    for f in operands:
        if isinstance(f, Broken) or (isinstance(f, Polynomial) and f.own is not None):
            units.append(f.unit)
        elif not isinstance(f, Known):
            return None
    unit = units[0] if all(same_line(u, units[0]) for u in units) else IDENTITY
    pieces = []
    for f in operands:
        if isinstance(f, Known):
            pieces.append(Broken(unit, (), (f.line,), True))
        elif isinstance(f, Broken):
            pieces.append(f if same_line(f.unit, unit) else f.over_variable())
        elif isinstance(f, Polynomial):
            line = f.own if same_line(f.unit, unit) else f.line
            assert line is not None
            pieces.append(Broken(unit, (), (line,), True))
    return unit, pieces


def _combined(unit: Line, parts: Sequence[Broken], rule: Rule) -> Broken | None:
    cuts = _merged([c for part in parts for c in part.breaks])
    breaks: list[Coefficient] = []
    lines: list[Line] = []
    for low, high in pairwise([None, *cuts, None]):
        found = rule.of([part.line_from(low) for part in parts], low, high)
        if found is None:
            return None
        if low is not None:
            breaks.append(low)
        breaks += found[0]
        lines += found[1]
    continuous = not rule.jumps and all(part.continuous for part in parts)
    return _simplified(unit, breaks, lines, continuous)


def _merged(cuts: Sequence[Coefficient]) -> list[Coefficient]:
    """Cuts in ascending order, each once where that is known."""
    once: list[Coefficient] = []
    for cut in cuts:
        if not any(equal(cut, other) for other in once):
            once.append(cut)
    if all(number(c) is not None for c in once):
        return sorted(once, key=lambda c: float(c))  # type: ignore[arg-type]
    # An exchange of neighbours, as often as is needed: there are few.
    for end in range(len(once) - 1, 0, -1):
        for k in range(end):
            a, b = once[k], once[k + 1]
            once[k], once[k + 1] = least(a, b), largest(a, b)
    return once


def _simplified(
    unit: Line, breaks: Sequence[Coefficient], lines: Sequence[Line], continuous: bool
) -> Broken:
    kept: list[Coefficient] = []
    between = [lines[0]]
    for cut, line in zip(breaks, lines[1:], strict=True):
        where = number(cut)
        if where == -math.inf:
            between[-1] = line
        elif where != math.inf and not same_line(between[-1], line):
            kept.append(cut)
            between.append(line)
    return Broken(unit, tuple(kept), tuple(between), continuous)
