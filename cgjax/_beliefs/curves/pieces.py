"""What operations make of straight lines over an interval: cuts in it, and lines between them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from cgjax._beliefs.curves.form import (
    Coefficient,
    Known,
    Line,
    Operation,
    is_inexact,
    minus,
    number,
    over,
    pick,
    pick_line,
    plus,
    times,
)
from cgjax._beliefs.curves.polynomial import applied

Truth = bool | jax.Array
End = Coefficient | None  # of an interval; None for infinity
Parts = tuple[list[Coefficient], list[Line]]  # cuts in an interval, and the lines between them


@dataclass(frozen=True)
class Rule:
    """What an operation makes of lines over an interval.

    Attributes:
        of: from the lines and the ends of the interval to cuts in it and lines.
        jumps: whether the result may jump where the operands do not.
    """

    of: Callable[[Sequence[Line], End, End], Parts | None]
    jumps: bool = False


def least(a: Coefficient, b: Coefficient) -> Coefficient:
    """The smaller one."""
    return pick(compared(operator.le, a, b), a, b)


def largest(a: Coefficient, b: Coefficient) -> Coefficient:
    """The larger one."""
    return pick(compared(operator.le, a, b), b, a)


def compared(operation: Callable[..., Truth], a: Coefficient, b: Coefficient) -> Truth:
    """A comparison, known if both numbers are, or if they are one."""
    if a is b:
        return bool(operation(0.0, 0.0))
    first, second = number(a), number(b)
    if first is None or second is None:
        return operation(jnp.asarray(a), b)
    return bool(operation(first, second))


def _sides(
    line: Line, low: End, high: End, at_level: Callable[..., Truth] = operator.gt
) -> tuple[list[Coefficient], list[Truth]]:
    """Where in an interval a line is positive: a cut where it crosses 0, and the answers beside it.

    Args:
        line: the line.
        low, high: the ends of the interval.
        at_level: says of a level line, by its offset, whether it counts as positive.
    """
    slope, offset = line
    if line.is_level:
        return [], [compared(at_level, offset, 0.0)]
    level = compared(operator.eq, slope, 0.0)
    cut = minus(over(offset, pick(level, 1.0, slope)))
    rises, falls = (compared(o, slope, 0.0) for o in (operator.gt, operator.lt))
    if number(slope) is None:
        flat = level & compared(at_level, offset, 0.0)
        rises, falls = rises | flat, falls | flat
    if low is not None and compared(operator.le, cut, low) is True:
        return [], [rises]
    if high is not None and compared(operator.ge, cut, high) is True:
        return [], [falls]
    if low is not None:
        cut = largest(cut, low)
    if high is not None:
        cut = least(cut, high)
    return [cut], [falls, rises]


def _difference(a: Line, b: Line) -> Line:
    return Line(*(plus(x, minus(y)) for x, y in zip(a, b, strict=True)))


def _truth(which: Truth) -> Line:
    if isinstance(which, bool):
        return Line(0.0, float(which))
    return Line(0.0, jnp.asarray(which, jnp.float32))


def larger(sign: int) -> Rule:
    """The larger (sign 1) or the smaller (sign -1) of two lines."""

    def of(lines: Sequence[Line], low: End, high: End) -> Parts:
        first, second = lines
        cuts, sides = _sides(_difference(first, second), low, high)
        chosen = [
            pick_line(s, first, second) if sign > 0 else pick_line(s, second, first) for s in sides
        ]
        return cuts, chosen

    return Rule(of)


def _size(lines: Sequence[Line], low: End, high: End) -> Parts:
    (line,) = lines
    cuts, sides = _sides(line, low, high)
    turned = Line(*map(minus, line))
    return cuts, [pick_line(s, line, turned) for s in sides]


def _sign(lines: Sequence[Line], low: End, high: End) -> Parts:
    (line,) = lines
    cuts, above = _sides(line, low, high)
    _, not_below = _sides(line, low, high, operator.ge)
    pairs = zip(above, not_below, strict=True)
    return cuts, [Line(0.0, pick(a, 1.0, pick(b, 0.0, -1.0))) for a, b in pairs]


def _comparison(swapped: bool, at_level: Callable[..., Truth]) -> Rule:
    def of(lines: Sequence[Line], low: End, high: End) -> Parts:
        a, b = reversed(lines) if swapped else lines
        cuts, sides = _sides(_difference(a, b), low, high, at_level)
        return cuts, list(map(_truth, sides))

    return Rule(of, jumps=True)


def _equality(same: bool) -> Rule:
    def of(lines: Sequence[Line], low: End, high: End) -> Parts | None:
        slope, offset = _difference(*lines)
        level, zero = (compared(operator.eq, x, 0.0) for x in (slope, offset))
        if level is not True and not _is_infinite(offset):
            return None  # it may well hold of what is known
        line = _truth(zero if level is True else False)
        return [], [line if same else Line(0.0, plus(1.0, minus(line.offset)))]

    return Rule(of, jumps=True)


def _is_infinite(x: Coefficient) -> bool:
    known = number(x)
    return known is not None and math.isinf(known.real)


def _logic(of_offsets: Callable[..., Coefficient]) -> Rule:
    """Of decisions, which are 0 or 1."""

    def of(lines: Sequence[Line], low: End, high: End) -> Parts | None:
        if not all(line.is_level for line in lines):
            return None
        return [], [Line(0.0, of_offsets(*(line.offset for line in lines)))]

    return Rule(of, jumps=True)


def _not(a: Coefficient) -> Coefficient:
    return plus(1.0, minus(a))


def _and(a: Coefficient, b: Coefficient) -> Coefficient:
    return times(a, b)


def _or(a: Coefficient, b: Coefficient) -> Coefficient:
    return _not(times(_not(a), _not(b)))


def _xor(a: Coefficient, b: Coefficient) -> Coefficient:
    return plus(times(a, _not(b)), times(b, _not(a)))


def _finite(lines: Sequence[Line], low: End, high: End) -> Parts:
    return [], [Line(0.0, 1.0)]


def _chosen(lines: Sequence[Line], low: End, high: End) -> Parts | None:
    which, *cases = lines
    if not which.is_level or len(cases) != 2:
        return None
    return [], [pick_line(compared(operator.gt, which.offset, 0.0), cases[1], cases[0])]


def _multiplied(lines: Sequence[Line], low: End, high: End) -> Parts | None:
    a, b = sorted(lines, key=lambda line: line.is_level)
    if not b.is_level:
        return None
    return [], [Line(times(a.slope, b.offset), times(a.offset, b.offset))]


def _linear(operation: Operation) -> Rule | None:
    """Of an operation that is linear in what is random: the same of slopes and of offsets."""
    facts = operation.facts
    if not facts.is_linear([not isinstance(f, Known) for f in operation.operands]):
        return None
    inside = facts.linear.of(len(operation.operands))

    def of(lines: Sequence[Line], low: End, high: End) -> Parts:
        out = []
        for part in (0, 1):
            if facts.signs:
                total: Coefficient = 0.0
                for line, sign in zip(lines, facts.signs, strict=True):
                    total = plus(total, line[part] if sign > 0 else minus(line[part]))
                out.append(total)
            else:
                values = [
                    line[part] if i in inside else line.offset for i, line in enumerate(lines)
                ]
                out.append(applied(operation, values))
        return [], [Line(*out)]

    return Rule(of)


def rule_of(operation: Operation) -> Rule | None:
    """The rule of an operation, if there is one."""
    primitive, whole = operation.primitive, not is_inexact(operation.dtype)
    if primitive in _LOGIC:
        return _LOGIC[primitive] if operation.dtype == jnp.bool_ else None
    if primitive is lax.div_p and whole:
        return None  # the quotient is rounded
    if primitive is lax.select_n_p and isinstance(operation.operands[0], Known):
        return Rule(_chosen)
    if operation.facts.converts:
        return Rule(_unchanged)
    return _RULES.get(primitive) or _linear(operation)


def _unchanged(lines: Sequence[Line], low: End, high: End) -> Parts:
    return [], [lines[0]]


_LOGIC: dict[object, Rule] = {
    lax.not_p: _logic(_not),
    lax.and_p: _logic(_and),
    lax.or_p: _logic(_or),
    lax.xor_p: _logic(_xor),
}
_RULES: dict[object, Rule] = {
    lax.max_p: larger(1),
    lax.min_p: larger(-1),
    lax.abs_p: Rule(_size),
    lax.sign_p: Rule(_sign, jumps=True),
    lax.gt_p: _comparison(False, operator.gt),
    lax.ge_p: _comparison(False, operator.ge),
    lax.lt_p: _comparison(True, operator.gt),
    lax.le_p: _comparison(True, operator.ge),
    lax.eq_p: _equality(True),
    lax.ne_p: _equality(False),
    lax.is_finite_p: Rule(_finite, jumps=True),
    lax.select_n_p: Rule(_chosen, jumps=True),
    lax.mul_p: Rule(_multiplied),
}
