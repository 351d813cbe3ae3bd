"""Functions that are integrated: smooth ones, with kinks or jumps, and of positive numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from cgjax._beliefs.curves.closed import Exponential
from cgjax._beliefs.curves.form import (
    Coefficient,
    Crossing,
    Cut,
    Form,
    Function,
    Known,
    Line,
    Operation,
    equal,
    is_inexact,
    minus,
    number,
    over,
    pick,
    plus,
    same_line,
)
from cgjax._gaussian.blocks import Response, in_blocks, whole
from cgjax._gaussian.curve import Integral, curve_moments
from cgjax._gaussian.written import of_numbers, opened

_MOST = 8  # cuts that points are placed between

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class General(Form):
    """A function of which nothing is known but where it is not smooth.

    Attributes:
        at: the cuts, in any order: values of the variable.
        keeps_sign: lines that have to keep their sign for the function to be defined; the variable
            is then the log-normal one in which that line has the known moments.
        stopped: whether the function has parts whose derivatives are stopped, so that derivatives
            have to be the function's own.
    """

    at: tuple[Cut, ...] = ()
    keeps_sign: tuple[Line, ...] = ()
    stopped: bool = False

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """The cuts."""
        return self.at

    @property
    def domains(self) -> tuple[Line, ...]:
        """Lines that have to keep their sign."""
        return self.keeps_sign

    @property
    def resolved(self) -> bool:
        """Whether it is smooth."""
        return not self.at

    @classmethod
    def after(cls, operation: Operation) -> General:
        """Any function."""
        cuts = [c for f in operation.operands for c in f.cuts]
        cuts += _new_cuts(operation)
        domains = [d for f in operation.operands for d in f.domains]
        domains += _new_domains(operation)
        stopped = operation.stops or any(
            isinstance(f, General) and f.stopped for f in operation.operands
        )
        return cls(_once(cuts, _same_cut)[:_MOST], _once(domains, same_line), stopped)

    def moments(
        self, function: Function, mean: jax.Array, variance: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """By quadrature."""
        at = self.at
        if self.keeps_sign:
            # Where a log-normal tail matters, a cut in its place is no nearer to the truth.
            at = tuple(0.0 if isinstance(c, Crossing) else c for c in at)
        cuts = [place for c in at for place in _places(c, mean, variance)]
        if self.stopped and not cuts:
            cuts = [mean]
        if self.keeps_sign:
            return _of_log_normal(self.keeps_sign[0], function, mean, variance, cuts)
        return curve_moments(function, mean, variance, _kinks(cuts))

    def evaluated(
        self, function: Function, mean: jax.Array, variance: jax.Array, slopes: bool
    ) -> Response:
        """Block by block, if its cuts are known numbers and the rest has the variable's shape."""
        cuts = [None if isinstance(c, Crossing) else number(c) for c in self.at]
        known = sorted(c for c in cuts if isinstance(c, float | int))
        plain = len(known) == len(cuts) and not (self.keeps_sign or self.stopped)
        found = opened(function, mean) if plain else None
        if found is None:
            return whole(partial(self.moments, function), mean, variance, slopes)
        curve, arrays = found
        rule = Integral(curve, tuple(map(float, known)) or None)
        return in_blocks(rule, mean, variance, slopes, *arrays)


def _places(cut: Cut, mean: jax.Array, variance: jax.Array) -> list[jax.Array]:
    if isinstance(cut, Crossing):
        return cut.places(mean, variance)
    return [jnp.broadcast_to(jnp.asarray(cut, mean.dtype), mean.shape)]


def _same_cut(a: Cut, b: Cut) -> bool:
    if isinstance(a, Crossing) or isinstance(b, Crossing):
        return a is b
    return equal(a, b)


def _kinks(cuts: Sequence[jax.Array]) -> tuple[jax.Array, ...] | None:
    """The cuts in ascending order."""
    if len(cuts) < 2:
        return tuple(cuts) or None
    return tuple(jnp.sort(jnp.stack(cuts), 0))


def _once(items: Sequence[_T], same: Callable[[_T, _T], bool]) -> tuple[_T, ...]:
    kept: list[_T] = []
    for item in items:
        if not any(same(item, other) for other in kept):
            kept.append(item)
    return tuple(kept)


def _new_cuts(operation: Operation) -> list[Cut]:
    """Where the operation itself is not smooth: where its operands are equal, or one is 0."""
    facts, operands = operation.facts, operation.operands
    chooses = operation.primitive is lax.select_n_p
    if facts.curvature != "kinked" or not operation.is_real:
        return []
    if chooses or (facts.decides and not any(map(is_inexact, operation.kinds))):
        return []  # it is where the decision is made
    pairs = [(operands[0], other) for other in operands[1:]] or [(operands[0], Known(0.0))]
    functions = [(operation.functions[0], f) for f in operation.functions[1:]]
    functions = functions or [(operation.functions[0], lambda x: jnp.zeros_like(x))]
    found: list[Cut] = []
    for (a, b), (f, g) in zip(pairs, functions, strict=True):
        at = _crossing(a, b)
        found.append(Crossing(lambda x, f=f, g=g: f(x) - g(x)) if at is None else at)
    return found


def _crossing(a: Form, b: Form) -> Coefficient | None:
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Exponential) and isinstance(other, Known):
            ratio = over(other.value, one.factor)
            known = number(ratio)
            if known is not None and (isinstance(known, complex) or known <= 0):
                return None
            logarithm = jnp.log(jnp.maximum(ratio, jnp.finfo(jnp.float32).tiny))
            return _root(Line(one.of.slope, plus(one.of.offset, -logarithm)))
    if a.line is None or b.line is None:
        return None
    return _root(Line(*(plus(x, minus(y)) for x, y in zip(a.line, b.line, strict=True))))


def _root(line: Line) -> Coefficient:
    slope = line.slope
    slope = pick(bool(number(slope) == 0) if number(slope) is not None else slope == 0, 1.0, slope)
    return minus(over(line.offset, slope))


def _new_domains(operation: Operation) -> list[Line]:
    """What has to keep its sign: a straight line that only positive numbers may be put in for."""
    first, *others = operation.operands
    if operation.primitive is lax.div_p:
        lines = [f.line for f in others if not isinstance(f, Known)]
    elif operation.facts.positive and not isinstance(first, Known):
        lines = [first.line]
    else:
        lines = []
    return [line for line in lines if line is not None and not line.is_level]


def _of_log_normal(
    line: Line,
    function: Function,
    mean: jax.Array,
    variance: jax.Array,
    cuts: Sequence[jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """The moments of a function of a variable that keeps its sign, from points of its logarithm."""
    slope, offset = (jnp.asarray(a, mean.dtype) for a in line)
    slope = jnp.where(slope == 0, 1, slope)
    center = slope * mean + offset
    sign = jnp.where(center < 0, -1, 1).astype(mean.dtype)
    width = jnp.log1p(slope**2 * variance / center**2)

    def of_logarithm(points: jax.Array) -> jax.Array:
        return function((sign * jnp.exp(points) - offset) / slope)

    beyond = [jnp.maximum(sign * (slope * c + offset), jnp.finfo(mean.dtype).tiny) for c in cuts]
    at = [jnp.broadcast_to(jnp.log(b), mean.shape) for b in beyond]
    return curve_moments(of_logarithm, jnp.log(jnp.abs(center)) - width / 2, width, _kinks(at))


@dataclass(frozen=True, eq=False)
class Open(Form):
    """A smooth function of the variable and of arrays of its shape, closed but for these.

    Attributes:
        function: from the variable and the arrays.
        arrays: the arrays.
    """

    function: Callable[..., jax.Array]
    arrays: tuple[jax.Array, ...]

    @classmethod
    def after(cls, operation: Operation) -> Form | None:
        """None: what follows is a general function."""
        return None

    def moments(
        self, function: Function, mean: jax.Array, variance: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """By quadrature."""
        return curve_moments(function, mean, variance)

    def evaluated(
        self, function: Function, mean: jax.Array, variance: jax.Array, slopes: bool
    ) -> Response:
        """Block by block."""
        arrays = [jnp.asarray(a, mean.dtype) for a in self.arrays]
        curve = of_numbers(self.function, *(mean.dtype for _ in range(len(arrays) + 1)))
        if curve is None:
            rule = partial(self.moments, lambda x: self.function(x, *arrays))
            return whole(rule, mean, variance, slopes)
        return in_blocks(Integral(curve), mean, variance, slopes, *arrays)
