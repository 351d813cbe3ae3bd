"""The sum of a product of tables, and its derivatives by all their entries: two walks over a plan.

Upwards, entries are multiplied and added up to one number; downwards goes the derivative of that
number by every entry. Both are written out rather than left to automatic differentiation, whose
derivative of `x[i]` adds up numbers one by one at scattered places; the derivatives of the two
walks are JAX's own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from cgjax.inference._contraction import Contraction
from cgjax.inference._leaves import Leaves, taken
from cgjax.inference._plan import Axes, Plan, planned
from cgjax.inference._rounds import FIRST, Large, Loop
from cgjax.inference._scaled import Table, contracted, floor_log2, power

# The exponent of 0. Sums of three such numbers are still integers of 32 bits.
_NEVER = -(1 << 28)

_Index = np.ndarray | np.integer | jax.Array


class _Entries(NamedTuple):
    """Entries of tables: mantissas, and the powers of 2 that they are multiplied by, if any are."""

    mantissa: jax.Array
    exponent: jax.Array | None

    def at(self, places: _Index) -> _Entries:
        exponent = None if self.exponent is None else taken(self.exponent, places)
        return _Entries(taken(self.mantissa, places), exponent)

    def with_those(self, start: _Index | int, new: _Entries) -> _Entries:
        """With other entries from a place on."""
        mantissa = lax.dynamic_update_slice(self.mantissa, new.mantissa, (start,))
        exponent = self.exponent
        if exponent is not None and new.exponent is not None:
            exponent = lax.dynamic_update_slice(exponent, new.exponent, (start,))
        return _Entries(mantissa, exponent)


class _Upwards(NamedTuple):
    """What is known after the walk upwards.

    Attributes:
        entries: of all small tables.
        arrays: the tables that are arrays of their own, by number.
        pulled: for each large contraction, from the derivative by its result to those by its two
            tables.
    """

    entries: _Entries
    arrays: dict[int, Table]
    pulled: dict[int, Callable[[jax.Array], tuple[jax.Array, jax.Array]]]


@dataclass(frozen=True, eq=False)
class _Walks:
    """The two walks over a plan.

    Attributes:
        plan: what is done.
        axes: the variables of every table.
        steps: the contractions.
        sizes: the number of states of each variable.
    """

    plan: Plan
    axes: Sequence[Axes]
    steps: Sequence[Contraction]
    sizes: Mapping[int, int]

    def shape(self, table: int) -> tuple[int, ...]:
        return tuple(self.sizes[v] for v in self.axes[table])

    def up(self, small: _Entries, large: Mapping[int, Table]) -> _Upwards:
        found = _Upwards(_room(small, self.plan.size_up), dict(large), {})
        for item in self.plan.up:
            if isinstance(item, Loop):
                found = found._replace(entries=_looped(found.entries, item))
            else:
                found = self._multiplied(found, item)
        return found

    def _multiplied(self, found: _Upwards, item: Large) -> _Upwards:
        """After a large contraction."""
        step = self.steps[item.step]
        a = self._table(found, step.left, item.left)
        b = self._table(found, step.right, item.right)

        def product(left: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array | None]:
            made = contracted(a._replace(mantissa=left), b._replace(mantissa=right), step.result)
            return made.mantissa, made.exponent

        mantissa, pull, exponent = jax.vjp(product, a.mantissa, b.mantissa, has_aux=True)
        table = len(self.axes) - len(self.steps) + item.step
        made = Table(self.axes[table], mantissa, exponent)
        found.pulled[item.step] = pull
        if item.result is None:
            found.arrays[table] = made
            return found
        new = _row(made, exact=found.entries.exponent is None)
        return found._replace(entries=found.entries.with_those(item.result, new))

    def _table(self, found: _Upwards, table: int, start: int | None) -> Table:
        if start is None:
            return found.arrays[table]
        shape = self.shape(table)
        end = start + int(np.prod(shape))
        mantissa, exponent = found.entries
        mantissa = mantissa[start:end].reshape(shape)
        if exponent is not None:
            exponent = exponent[start:end].reshape(shape)
            exponent = jnp.where(exponent > _NEVER, exponent.astype(mantissa.dtype), -jnp.inf)
        return Table(self.axes[table], mantissa, exponent)

    def down(self, found: _Upwards) -> tuple[jax.Array, dict[int, jax.Array]]:
        """The derivatives by all entries of small leaves, and by the large ones."""
        entries, num_leaves = found.entries, len(self.axes) - len(self.steps)
        one = jnp.ones(1, entries.mantissa.dtype)
        slopes = _room(_Entries(one, None), self.plan.size_down).mantissa
        arrays: dict[int, jax.Array] = {}
        for item in self.plan.down:
            if isinstance(item, Loop):
                slopes = _looped_down(slopes, entries, item)
                continue
            step, table = self.steps[item.step], num_leaves + item.step
            if item.result is None:
                slope = arrays.pop(table)
            else:
                shape = self.shape(table)
                slope = slopes[item.result : item.result + int(np.prod(shape))].reshape(shape)
            pairs = zip((step.left, step.right), (item.left, item.right), strict=True)
            for (table, start), x in zip(pairs, found.pulled[item.step](slope), strict=True):
                if start is None:
                    arrays[table] = x
                else:
                    slopes = lax.dynamic_update_slice(slopes, x.reshape(-1), (start,))
        return taken(slopes, self.plan.leaves), arrays


def _room(given: _Entries, size: int) -> _Entries:
    """0 and 1, what is given, and room for all that is to come."""
    mantissa, exponent = given
    rest = size - FIRST - mantissa.size
    dtype = mantissa.dtype
    whole = jnp.concatenate([jnp.array([0, 1], dtype), mantissa, jnp.zeros(rest, dtype)])
    if exponent is None:
        return _Entries(whole, None)
    ends = jnp.array([_NEVER, 0], jnp.int32), jnp.full(rest, _NEVER, jnp.int32)
    return _Entries(whole, jnp.concatenate([ends[0], exponent, ends[1]]))


def _sums(entries: _Entries, left: _Index, right: _Index) -> _Entries:
    """Sums of products of entries, with mantissas from 1 to 2 if there are exponents."""
    a, b = entries.at(left), entries.at(right)
    products = a.mantissa * b.mantissa
    if a.exponent is None or b.exponent is None:
        return _Entries(products.sum(-1), None)
    exponents = a.exponent + b.exponent
    top = exponents.max(-1)
    total = (products * power(exponents - top[:, None], products.dtype)).sum(-1)
    shift = floor_log2(total)
    exponent = jnp.where(total > 0, top + shift, _NEVER)
    return _Entries(total * power(-shift, total.dtype), exponent)


def _looped(entries: _Entries, loop: Loop) -> _Entries:
    """After some rounds."""
    if len(loop.starts) == 1:
        return entries.with_those(int(loop.starts[0]), _sums(entries, loop.left[0], loop.right[0]))

    def one(entries: _Entries, at: tuple[_Index, ...]) -> tuple[_Entries, None]:
        start, left, right = at
        return entries.with_those(start, _sums(entries, left, right)), None

    return lax.scan(one, entries, (loop.starts, loop.left, loop.right))[0]


def _looped_down(slopes: jax.Array, entries: _Entries, loop: Loop) -> jax.Array:
    """Derivatives after some rounds."""

    def one(slopes: jax.Array, at: tuple[_Index, ...]) -> tuple[jax.Array, None]:
        start, left, right, over, own = at
        terms = taken(slopes, left) * taken(entries.mantissa, right)
        if entries.exponent is not None:
            made = taken(entries.exponent, over)
            # Of a result that is 0 all terms are 0, whatever their exponents.
            made = jnp.where(made > _NEVER, made, 0)
            shift = taken(entries.exponent, own)[:, None] + taken(entries.exponent, right) - made
            terms = terms * power(shift, terms.dtype)
        return lax.dynamic_update_slice(slopes, terms.sum(-1), (start,)), None

    if len(loop.starts) == 1:
        return one(slopes, tuple(x[0] for x in loop))[0]
    return lax.scan(one, slopes, tuple(loop))[0]


def _row(table: Table, exact: bool) -> _Entries:
    """The entries of a table, in one row, with exponents if there are any elsewhere."""
    mantissa = table.mantissa.reshape(-1)
    if exact:
        return _Entries(mantissa, None)
    if table.exponent is None:
        return _Entries(mantissa, jnp.zeros(mantissa.shape, jnp.int32))
    return _Entries(mantissa, _integers(table.exponent.reshape(-1)))


def _integers(exponent: jax.Array) -> jax.Array:
    return jnp.where(exponent > -jnp.inf, exponent, _NEVER).astype(jnp.int32)


def _joined(parts: Sequence[_Entries], exact: bool) -> _Entries:
    mantissa = jnp.concatenate([jnp.zeros(0), *(p.mantissa for p in parts)])
    if exact:
        return _Entries(mantissa, None)
    none = jnp.zeros(0, jnp.int32)
    exponents = [p.exponent for p in parts if p.exponent is not None]
    return _Entries(mantissa, jnp.concatenate([none, *exponents]))


def _small(leaves: Leaves, numbers: Sequence[int], exact: bool) -> _Entries:
    """The entries of some tables, which stand together."""
    if not numbers:
        return _joined([], exact)
    if any(k not in leaves.starts for k in numbers):
        return _joined([_row(leaves.table(k), exact) for k in numbers], exact)
    ends = [np.arange(math.prod(leaves.shape(k))) + leaves.starts[k] for k in numbers]
    places = np.concatenate(ends)
    mantissa, exponent = leaves.mantissa, leaves.exponent
    if len(places) < len(mantissa) or (places != np.arange(len(places))).any():
        mantissa = taken(mantissa, places)
        exponent = None if exponent is None else taken(exponent, places)
    return _row(Table((), mantissa, exponent), exact)


def total(groups: Sequence[Leaves], steps: Sequence[Contraction]) -> tuple[jax.Array, jax.Array]:
    """The sum of the product of all tables: a number, and the exponent of its power of 2.

    Args:
        groups: the tables, in order.
        steps: contractions that leave one number.
    """
    sizes = {v: n for leaves in groups for v, n in leaves.sizes.items()}
    axes = [a for leaves in groups for a in leaves.axes]
    firsts = list(itertools.accumulate((len(g.axes) for g in groups), initial=0))
    where = [(g, k) for g in groups for k in range(len(g.axes))]
    if not steps:
        one = Leaves.of([()], sizes, {}, [], {0: Table((), jnp.ones(()))})
        gone = frozenset(v for a in axes for v in a)
        terms = math.prod(sizes[v] for v in gone)
        if not axes:
            return jnp.ones(()), jnp.zeros(())
        return total([*groups, one], [Contraction(0, 1, frozenset(), gone, 1, terms)])
    order = [
        first + k
        for first, g in zip(firsts, groups, strict=False)
        for k in sorted(range(len(g.axes)), key=lambda k: g.starts.get(k, 0))  # noqa: B023
    ]
    plan, every = planned(axes, steps, sizes, order)
    exact = not any(g.has_exponents for g in groups)
    is_small = set(plan.small)
    parts = [
        _small(g, [k - first for k in plan.small if first <= k < first + len(g.axes)], exact)
        for first, g in zip(firsts, groups, strict=False)
    ]
    small = _joined(parts, exact)
    large = {k: g.table(n) for k, (g, n) in enumerate(where) if k not in is_small}
    dtype = jnp.result_type(small.mantissa, *(t.mantissa for t in large.values()))
    small = small._replace(mantissa=small.mantissa.astype(dtype))
    large = {k: t._replace(mantissa=t.mantissa.astype(dtype)) for k, t in large.items()}
    return _summed(_Walks(plan, every, steps, sizes), small, large)


def _summed(
    walks: _Walks, small: _Entries, large: Mapping[int, Table]
) -> tuple[jax.Array, jax.Array]:
    """The sum, whose derivative is the walk downwards."""

    def up(small: _Entries, large: Mapping[int, _Entries]) -> _Upwards:
        return walks.up(small, {k: Table(walks.axes[k], *x) for k, x in large.items()})

    def root(found: _Upwards) -> tuple[jax.Array, jax.Array]:
        mantissa, exponent = found.entries
        number = mantissa[walks.plan.root]
        if exponent is None:
            return number, jnp.zeros_like(number)
        return number, exponent[walks.plan.root].astype(number.dtype)

    @jax.custom_jvp
    def summed(small: _Entries, large: Mapping[int, _Entries]) -> tuple[jax.Array, jax.Array]:
        return root(up(small, large))

    def slope(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
        found = up(*primals)
        by_small, by_large = walks.down(found)
        pairs = [(by_small, tangents[0]), *((by_large[k], t) for k, t in tangents[1].items())]
        number, exponent = root(found)
        tangent = jnp.zeros_like(number)
        for x, t in pairs:
            if not isinstance(t.mantissa, SymbolicZero):
                tangent += jnp.vdot(x, t.mantissa, precision="highest")
        return (number, exponent), (tangent, jnp.zeros_like(exponent))

    summed.defjvp(slope, symbolic_zeros=True)
    return summed(small, {k: _Entries(t.mantissa, t.exponent) for k, t in large.items()})
