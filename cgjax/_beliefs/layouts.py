"""Where the elements of an array stand in another one: what reshapes, transposes, copies leave.

An axis is written in digits, as a number is: the element at (d1, d2, …) of an axis with the digits
((n1, s1), (n2, s2), …) is number `d1 s1 + d2 s2 + …` of the other array, its base, in row-major
order. A digit of stride 0 holds copies. So a base of shape (3, 8) has the layout ((3, 8),), ((8,
1),); reshaped to (3, 4, 2) it has ((3, 8),), ((4, 2),), ((2, 1),), and one number for each four of
them, repeated, ((3, 8),), ((2, 4), (4, 0)).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import JaxprEqn

from cgjax._program.jaxprs import aval, bind
from cgjax._program.primitives import facts

Digit = tuple[int, int]  # size, stride
Digits = tuple[Digit, ...]
Shape = tuple[int, ...]

# Moves that no rule below knows are looked at element by element up to this size.
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Layout:
    """The digits of each axis, outermost first, as few as possible and none of size 1."""

    axes: tuple[Digits, ...]

    @property
    def shape(self) -> Shape:
        """The shape of the array."""
        return tuple(math.prod(n for n, _ in digits) for digits in self.axes)

    @property
    def digits(self) -> Digits:
        """All digits, outermost first."""
        return tuple(d for digits in self.axes for d in digits)

    def without(self, axes: Sequence[int]) -> "Layout":
        """The layout without some axes."""
        return Layout(tuple(d for k, d in enumerate(self.axes) if k not in axes))


def identity(shape: Sequence[int]) -> Layout:
    """The layout of the base itself."""
    strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    return Layout(tuple(_shortest([d]) for d in zip(shape, strides, strict=True)))


def repeated(shape: Sequence[int]) -> Layout:
    """The layout of one number, repeated."""
    return Layout(tuple(_shortest([(n, 0)]) for n in shape))


def is_complete(layout: Layout, size: int) -> bool:
    """Whether each element of a base of some size is there once."""
    expected = 1
    for n, stride in sorted(layout.digits, key=lambda d: d[1]):
        if stride != expected:
            return False
        expected *= n
    return expected == size


def _shortest(digits: Sequence[Digit]) -> Digits:
    out: list[Digit] = []
    for n, stride in digits:
        if n == 1:
            continue
        if out and out[-1][1] == n * stride:
            out[-1] = (out[-1][0] * n, stride)
        else:
            out.append((n, stride))
    return tuple(out)


def aligned(one: Digits, other: Digits) -> list[tuple[Digit, Digit]] | None:
    """The digits of an axis in two layouts, cut to the same sizes; None where they cannot be."""
    first, second, pairs = list(one), list(other), []
    while first and second:
        (n, s), (m, t) = first.pop(), second.pop()
        size = min(n, m)
        if n % size or m % size:
            return None
        pairs.insert(0, ((size, s), (size, t)))
        if n > size:
            first.append((n // size, s * size))
        if m > size:
            second.append((m // size, t * size))
    return None if first or second else pairs


def united(one: Layout, other: Layout) -> Layout | None:
    """The layout of which both are, but for copies; None where they differ in more."""
    axes = []
    for a, b in zip(one.axes, other.axes, strict=True):
        pairs = aligned(a, b)
        if pairs is None or any(s != t and s and t for (_, s), (_, t) in pairs):
            return None
        axes.append(_shortest([(n, max(s, t)) for (n, s), (_, t) in pairs]))
    found = Layout(tuple(axes))
    return None if has_twice(found) else found


def refined(shape: Sequence[int], digits: Sequence[Digit]) -> Shape | None:
    """A shape cut finer, so that each of the digits is some of its axes; None if it cannot be.

    It has no axes of size 1.
    """
    size = math.prod(shape)
    marks = {1, size}
    for n, stride in (*identity(shape).digits, *digits):
        if stride:
            marks |= {stride, n * stride}
    ordered = sorted(marks, reverse=True)
    if size < 1 or any(a % b for a, b in zip(ordered, ordered[1:], strict=False)):
        return None
    return tuple(a // b for a, b in zip(ordered, ordered[1:], strict=False))


def axes_of(digits: Sequence[Digit], fine: Shape) -> frozenset[int]:
    """The axes of a refined shape that some digits are made of."""
    strides = [math.prod(fine[k + 1 :]) for k in range(len(fine))]
    return frozenset(
        k for k, stride in enumerate(strides) if any(s and s <= stride < n * s for n, s in digits)
    )


def _atoms(layout: Layout, fine: Shape) -> list[tuple[int, int | None]]:
    """(size, axis of the refined shape) of each digit of the layout; None for copies."""
    strides = {math.prod(fine[k + 1 :]): k for k in range(len(fine))}
    atoms: list[tuple[int, int | None]] = []
    for n, stride in layout.digits:
        if not stride:
            atoms.append((n, None))
            continue
        step, found = n * stride, []
        while step > stride:
            k = next(k for s, k in strides.items() if s * fine[k] == step)
            found.append((fine[k], k))
            step //= fine[k]
        atoms += found
    return atoms


def order(layout: Layout, fine: Shape) -> list[int]:
    """The axes of the refined shape in the order in which the layout has them."""
    return [k for _, k in _atoms(layout, fine) if k is not None]


def is_of_axes(layout: Layout, fine: Shape) -> bool:
    """Whether each digit of a layout is some whole axes of the refined shape."""
    marks = {math.prod(fine[k:]) for k in range(len(fine) + 1)}
    return all({stride, n * stride} <= marks for n, stride in layout.digits if stride)


def has_twice(layout: Layout) -> bool:
    """Whether a digit stands along two axes, as in the diagonal of a matrix that is spread."""
    steps = sorted((s, n) for n, s in layout.digits if s)
    return any(s * n > t for (s, n), (t, _) in zip(steps, steps[1:], strict=False))


def laid(array: jax.Array, layout: Layout, fine: Shape) -> jax.Array:
    """An array of a refined shape, of size 1 where it does not vary, in a layout."""
    atoms = _atoms(layout, fine)
    kept = order(layout, fine)
    rest = [k for k in range(len(fine)) if k not in kept]
    array = jnp.broadcast_to(array, [fine[k] if k in kept else 1 for k in range(len(fine))])
    array = jnp.transpose(array, kept + rest)
    array = array.reshape([1 if k is None else n for n, k in atoms])
    return jnp.broadcast_to(array, [n for n, _ in atoms]).reshape(layout.shape)


def unlaid(array: jax.Array, layout: Layout, fine: Shape) -> jax.Array:
    """An array in a layout in the refined shape, of size 1 where the layout has no digits."""
    atoms = _atoms(layout, fine)
    array = array.reshape([n for n, _ in atoms])
    array = array[tuple(0 if k is None else slice(None) for _, k in atoms)]
    kept = order(layout, fine)
    array = jnp.transpose(array, np.argsort(kept).tolist())
    return array.reshape([n if k in kept else 1 for k, n in enumerate(fine)])


# -- what moves do to a layout


def may_move(eqn: JaxprEqn) -> bool:
    """Whether an operation takes all from one array, but perhaps for what fills other places."""
    known = facts(eqn)
    return known.moves and (not known.mixes or len(known.data.of(len(eqn.invars))) == 1)


def moved(layout: Layout, eqn: JaxprEqn, operands: Sequence[object]) -> Layout | None:
    """The layout after an operation that moves the first operand's elements, or copies them.

    None where the elements are not there as they were, or if they cannot be told while tracing.

    Args:
        layout: of the first operand.
        eqn: the operation.
        operands: of which all but the first say where.
    """
    if not may_move(eqn) or len(eqn.outvars) != 1:
        return None
    rule = _MOVES.get(eqn.primitive.name)
    if rule is not None:
        return rule(layout, eqn)
    return looked_at(layout, eqn, operands)


def looked_at(layout: Layout, eqn: JaxprEqn, operands: Sequence[object]) -> Layout | None:
    """The layout after any move, from where it takes the numbers of the elements.

    Operands without numbers of their own, None, are arrays in the same layout.
    """
    shape = tuple(aval(eqn.outvars[0]).shape)
    rest = [x for x in operands if x is not None]
    if any(isinstance(x, Tracer) for x in rest) or 0 in shape:
        return None
    if any(jnp.issubdtype(jnp.result_type(x), jnp.inexact) for x in rest):
        return None  # further data, which say of no element where it is
    if max(math.prod(layout.shape), math.prod(shape)) > _LARGEST:
        return None
    places = np.zeros(layout.shape, np.int32).reshape(-1)
    digits = layout.digits
    index = np.unravel_index(np.arange(places.size), [n for n, _ in digits]) if digits else ()
    for (_, stride), number in zip(digits, index, strict=True):
        places = places + np.asarray(number, np.int32) * stride
    numbers = np.asarray(places, np.int32).reshape(layout.shape)
    # What fills places is the same whichever the numbers are.
    found, others = (
        _numbers_after(eqn, [start + numbers if x is None else x for x in operands])
        for start in (0, 1)
    )
    if not np.array_equal(found + 1, others):
        return None
    return _of_places(found)


def _numbers_after(eqn: JaxprEqn, operands: Sequence[object]) -> np.ndarray:
    with jax.ensure_compile_time_eval():
        (found,) = bind(eqn, list(map(jnp.asarray, operands)))
    return np.asarray(found)


def _of_places(places: np.ndarray) -> Layout | None:
    if places.flat[0] != 0:
        return None
    axes, total = [], np.zeros((), np.int64)
    for axis, size in enumerate(places.shape):
        line = places[tuple(slice(None) if k == axis else 0 for k in range(places.ndim))]
        digits = _of_line(line)
        if digits is None:
            return None
        axes.append(digits)
        total = total + line.reshape([size if k == axis else 1 for k in range(places.ndim)])
    return Layout(tuple(axes)) if np.array_equal(total, places) else None


def _of_line(line: np.ndarray) -> Digits | None:
    digits: list[Digit] = []
    while line.size > 1:
        step = int(line[1] - line[0])
        fits = line == np.arange(line.size) * step + line[0]
        size = line.size if fits.all() else int(np.argmin(fits))
        if step < 0 or line.size % size:
            return None
        blocks = line.reshape(-1, size)
        if not np.array_equal(blocks, blocks[:, :1] + np.arange(size) * step):
            return None
        digits.insert(0, (size, step))
        line = blocks[:, 0]
    return _shortest(digits)


def _reshape(layout: Layout, eqn: JaxprEqn) -> Layout | None:
    digits, axes = list(layout.digits), []
    if eqn.params.get("dimensions") is not None:
        return None
    for size in reversed(aval(eqn.outvars[0]).shape):
        found: list[Digit] = []
        while size > 1:
            n, stride = digits.pop()
            part = math.gcd(n, size)
            if part == 1 or (part < n and part < size):
                return None
            found.insert(0, (part, stride))
            if part < n:
                digits.append((n // part, stride * part))
            size //= part
        axes.insert(0, _shortest(found))
    return Layout(tuple(axes))


def _transpose(layout: Layout, eqn: JaxprEqn) -> Layout:
    return Layout(tuple(layout.axes[a] for a in eqn.params["permutation"]))


def _broadcast(layout: Layout, eqn: JaxprEqn) -> Layout:
    shape, before = eqn.params["shape"], layout.shape
    axes = list(repeated(shape).axes)
    for k, axis in enumerate(eqn.params["broadcast_dimensions"]):
        if before[k] == shape[axis]:
            axes[axis] = layout.axes[k]
    return Layout(tuple(axes))


def _squeeze(layout: Layout, eqn: JaxprEqn) -> Layout:
    return layout.without([d % len(layout.axes) for d in eqn.params["dimensions"]])


def _expand(layout: Layout, eqn: JaxprEqn) -> Layout:
    axes = list(layout.axes)
    for d in sorted(d % len(aval(eqn.outvars[0]).shape) for d in eqn.params["dimensions"]):
        axes.insert(d, ())
    return Layout(tuple(axes))


def _tile(layout: Layout, eqn: JaxprEqn) -> Layout:
    pairs = zip(layout.axes, eqn.params["reps"], strict=True)
    return Layout(tuple(_shortest([(number, 0), *digits]) for digits, number in pairs))


_MOVES: dict[str, Callable[[Layout, JaxprEqn], Layout | None]] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "expand_dims": _expand,
    "tile": _tile,
}
