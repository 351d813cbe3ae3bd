"""What the steps of a loop share: sums that go on from one to the next know what was added."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves import Curve, as_curve
from cgjax._beliefs.curves.running import Path, Running, Use, Uses
from cgjax._beliefs.curves.tied import going_on
from cgjax._beliefs.values import Gaussian, Moved, Value, origin_of
from cgjax._program.control import Scan, While, control


def fixed(loop: Scan[Value] | While[Value]) -> frozenset[int]:
    """The arrays that are the same at every step, by id, wherever their elements were moved to."""
    consts = loop.consts if isinstance(loop, Scan) else loop.body_consts
    return frozenset(id(origin_of(x).value) for x in consts)


def entering(eqn: JaxprEqn, values: Sequence[Value]) -> tuple[list[Value], frozenset[int]]:
    """The operands of a loop, and which arrays are the same at every step."""
    values = [x if _is_one(x) else _alone(x) for x in values]
    loop = control(eqn, values)
    assert isinstance(loop, Scan | While)
    kept, carried = fixed(loop), set(map(id, loop.carry))

    def entered(x: Value) -> Value:
        if not isinstance(x, Running):
            return x
        return _running(x, _of(x.uses, kept)) if id(x) in carried else x.alone()

    return list(map(entered, values)), kept


def handed_on(
    values: Sequence[Value], settled: Sequence[Value], kept: Collection[int]
) -> list[Value]:
    """What a step hands on: sums that know what those weights have added that all steps use.

    Args:
        values: the results of the step.
        settled: their moments.
        kept: the arrays that are the same at every step, by id.
    """
    found: list[Uses | None] = []
    for value, x in zip(values, settled, strict=True):
        is_sum = isinstance(value, Gaussian | Curve) and isinstance(x, Gaussian)
        real = is_sum and jnp.issubdtype(x.dtype, jnp.floating)
        found.append(_of(going_on(as_curve(value)), kept) if real else {} if _real(x) else None)
    # All with the same, so that what a step starts with is what it leaves.
    alike: Uses = {p: use for uses in found if uses for p, use in uses.items()}
    return [
        x if uses is None else _running(x, {p: uses.get(p) or _none(x, alike[p]) for p in alike})
        for x, uses in zip(settled, found, strict=True)
    ]


def started(x: Value, after: Value) -> Value:
    """What the first step is given, in the form of what steps leave."""
    if not isinstance(after, Running) or not isinstance(x, Gaussian):
        return x
    known = x.uses if isinstance(x, Running) else {}
    if isinstance(x, Running) and tuple(known) == tuple(after.uses):
        return x
    return _running(x, {p: known.get(p) or _none(x, use) for p, use in after.uses.items()})


def _real(x: Value) -> bool:
    return isinstance(x, Gaussian) and jnp.issubdtype(x.dtype, jnp.floating)


def _is_one(x: Value) -> bool:
    """Whether a value is one that weights may be known by, or goes on."""
    return not isinstance(x, Gaussian) or (type(x) in (Gaussian, Moved, Running) and not x.axes)


def _alone(x: Gaussian) -> Gaussian:
    return x.alone()


def _running(x: Gaussian, uses: Uses) -> Running:
    return Running(x.mean, x.variance, uses=uses)


def _none(x: Gaussian, like: Use) -> Use:
    zero = jnp.zeros(x.shape, x.dtype)
    return Use(jnp.zeros(like.mean.shape, like.mean.dtype), zero, zero)


def _of(uses: Mapping[Path, Use], kept: Collection[int]) -> Uses:
    return {p: use for p, use in uses.items() if all(id(o.value) in kept for o in p)}
