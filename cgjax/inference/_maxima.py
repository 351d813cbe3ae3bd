"""The largest product of factors, and where it is: sums of products with maxima in place of sums.

    max_x prod_f F_f(x_f)

Tables hold logarithms, and are contracted in the order of the sums. The maximiser is found on the
way back: the last variables that were maximised out are decided first, and each later one given
those, so that they fit together also where several configurations are equally probable. Of equal
states the first is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cgjax.inference._contraction import Contraction
from cgjax.inference._scaled import laid


class Scores(NamedTuple):
    """Logarithms, with an axis for each of some variables."""

    axes: tuple[int, ...]
    values: jax.Array


def largest(
    tables: Sequence[Scores], steps: Sequence[Contraction]
) -> tuple[jax.Array, dict[int, jax.Array]]:
    """The largest sum of entries of all tables, and the states that it is reached at.

    Args:
        tables: the logarithms of the factors.
        steps: the contractions of pairs, which leave one table.
    """
    every = [*tables]
    for step in steps:
        every.append(_contracted(every[step.left], every[step.right], step))
    if not every:
        return jnp.zeros(()), {}
    last = every[-1]
    states = _decided(last, {})
    for step in reversed(steps):
        states |= _where(every[step.left], every[step.right], states)
    return last.values.max(), states


def _contracted(a: Scores, b: Scores, step: Contraction) -> Scores:
    """The sum of two tables, maximised over what the result does not have."""
    shared = set(a.axes) & set(b.axes)
    a, b = (_maximised(x, {v for v in x.axes if v not in shared | step.result}) for x in (a, b))
    every = tuple(dict.fromkeys((*a.axes, *b.axes)))
    return _maximised(_added(a, b, every), {v for v in every if v not in step.result})


def _added(a: Scores, b: Scores, every: tuple[int, ...]) -> Scores:
    return Scores(every, laid(a.values, a.axes, every) + laid(b.values, b.axes, every))


def _maximised(table: Scores, gone: set[int]) -> Scores:
    places = tuple(k for k, v in enumerate(table.axes) if v in gone)
    axes = tuple(v for v in table.axes if v not in gone)
    return Scores(axes, table.values.max(places)) if places else table


def _where(a: Scores, b: Scores, known: Mapping[int, jax.Array]) -> dict[int, jax.Array]:
    """The states of what was maximised out of the sum of two tables, given all other states."""
    a, b = _at(a, known), _at(b, known)
    shared = tuple(v for v in a.axes if v in b.axes)
    found: dict[int, jax.Array] = {}
    if shared:
        left, right = (_maximised(x, set(x.axes) - set(shared)) for x in (a, b))
        found = _decided(_added(left, right, shared), {})
    return found | _decided(a, found) | _decided(b, found)


def _decided(table: Scores, known: Mapping[int, jax.Array]) -> dict[int, jax.Array]:
    """The states where a table is largest, for the variables that are not known."""
    left = _at(table, known)
    index = jnp.argmax(left.values)
    found = {}
    for v, size in reversed(list(zip(left.axes, left.values.shape, strict=True))):
        found[v], index = index % size, index // size
    return found


def _at(table: Scores, known: Mapping[int, jax.Array]) -> Scores:
    """A table at some variables' states."""
    if not any(v in known for v in table.axes):
        return table
    pairs = list(zip(table.axes, table.values.shape, strict=True))
    starts = [known.get(v, jnp.int32(0)).astype(jnp.int32) for v, _ in pairs]
    part = lax.dynamic_slice(table.values, starts, [1 if v in known else n for v, n in pairs])
    left = [(v, n) for v, n in pairs if v not in known]
    return Scores(tuple(v for v, _ in left), part.reshape([n for _, n in left]))
