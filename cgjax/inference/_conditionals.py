"""Computes the factors of a model, and the expectations of the values that are asked about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgjax.inference._alike import alike, together
from cgjax.inference._chunks import weighted
from cgjax.inference._factor_tables import Factors, target
from cgjax.inference._factors import Question, Scope
from cgjax.inference._leaves import MOST_TOGETHER, Laws, stacked, taken

# Averages over different numbers of nodes are filled up to one number, up to so many terms.
_FILLED = 1 << 12

# The number of a value, whether its mean given its parents is meant, and what it is averaged over.
_Average = tuple[int, bool, Scope]


class _Rows(NamedTuple):
    """Configurations of a component's parents.

    Attributes:
        start, size: its rows among those of its law.
        scope: the parents, in the order of the rows.
        places: of their joint distribution among all small ones.
    """

    start: int
    size: int
    scope: Scope
    places: np.ndarray | None


@dataclass
class Found:
    """Averages, as they are found: rows of arrays.

    Attributes:
        parts: (rows, …).
        rows: for each average the number of its array, and that of its row.
    """

    parts: list[jax.Array] = field(default_factory=list)
    rows: dict[_Average, tuple[int, int]] = field(default_factory=dict)

    def add(self, part: jax.Array, keys: Sequence[Sequence[_Average]]) -> None:
        """Rows, and what each is the average of."""
        for row, some in enumerate(keys):
            self.rows.update((key, (len(self.parts), row)) for key in some)
        self.parts.append(part)

    def assembled(
        self, values: Sequence[tuple[Sequence[Question], tuple[int, ...]]]
    ) -> list[jax.Array]:
        """The expectations of values, from those of their elements.

        Args:
            values: what is asked of each, and its shape.
        """
        starts, whole = self._together()
        found = []
        for questions, shape in values:
            at = [self.rows[q.value, q.mean, q.scope] for q in questions]
            parts = [self.parts[k] for k, _ in at]
            elements = [q.places for q in questions]
            if len(at) == 1:
                shape = parts[0].shape[1:]
                elements = [np.arange(math.prod(shape))]
            order = np.argsort(np.concatenate(elements))
            if all(k in starts for k, _ in at) and len({x.dtype for x in parts}) == 1:
                firsts = [starts[k] + row * math.prod(self.parts[k].shape[1:]) for k, row in at]
                places = [first + some for first, some in zip(firsts, elements, strict=True)]
                x = taken(whole[parts[0].dtype], np.concatenate(places)[order])
            elif len(at) == 1:
                x = parts[0][at[0][1]]
            else:
                rows = [x[row].reshape(-1) for x, (_, row) in zip(parts, at, strict=True)]
                some = [x[places] for x, places in zip(rows, elements, strict=True)]
                x = jnp.concatenate(some)[order]
            found.append(x.reshape(shape))
        return found

    def _together(self) -> tuple[dict[int, int], dict[Any, jax.Array]]:
        """Where each of several small rows begins in one array, and these arrays by dtype.

        A slice is compiled for each place that it is at, but what takes listed places is compiled
        for each shape.
        """
        starts: dict[int, int] = {}
        rows: dict[Any, list[jax.Array]] = {}
        for k, part in enumerate(self.parts):
            if len(part) > 1 and part.size <= MOST_TOGETHER * len(part):
                before = rows.setdefault(part.dtype, [])
                starts[k] = sum(x.size for x in before)
                before.append(part.reshape(-1))
        return starts, {key: jnp.concatenate(some) for key, some in rows.items()}


class Conditionals(Factors):
    """The tables of a model, as they are traced, and what is averaged over its configurations.

    Args:
        model: the factors and the questions.
        arrays: the flat arguments of the network.
        logs: whether tables have exponents.
    """

    def expectations(self, laws: Mapping[Scope, jax.Array]) -> list[jax.Array]:
        """The expectation of every value, given the joint distributions of the pieces in scopes."""
        by_value: dict[int, list[Question]] = {}
        for question in self.model.questions:
            by_value.setdefault(question.value, []).append(question)
        asked: dict[tuple[Scope, ...], list[int]] = {}
        for value, questions in by_value.items():
            if scopes := tuple(dict.fromkeys(q.scope for q in questions if not q.mean)):
                asked.setdefault(scopes, []).append(value)
        found = Found()
        self._average(asked, laws, found)
        self._average_means(laws, found)
        shapes = self.model.linear.values.result_shapes
        return found.assembled([(by_value[k], shapes[k]) for k in sorted(by_value)])

    def _average(
        self,
        asked: Mapping[tuple[Scope, ...], Sequence[int]],
        laws: Mapping[Scope, jax.Array],
        found: Found,
    ) -> None:
        """The averages of whole values over some scopes."""
        walks = [self.walk(tuple(values), None, scopes) for scopes, values in asked.items()]
        for group in alike([w.call for w in walks]):
            some = [walks[k] for k in group]
            first = some[0]
            ends = np.cumsum([self.size(s) for s in first.scopes])
            columns = zip(*(w.scopes for w in some), strict=True)
            rows = [_rows(laws, list(column)) for column in columns]

            def one(*given: jax.Array | np.ndarray) -> list[list[jax.Array]]:
                results, _ = self.walked(first, given[len(ends) :])  # noqa: B023
                return [
                    [weighted(jnp.asarray(law), x[end - law.size : end]) for x in results]
                    for law, end in zip(given, ends, strict=False)  # noqa: B023
                ]

            operands = [[*(x[k] for x in rows), *w.call.operands] for k, w in enumerate(some)]
            averages = together(one, operands, dict(enumerate(rows)))
            for place, of_scope in enumerate(averages):
                for number, x in enumerate(of_scope):
                    keys = [(w.values[number], False, tuple(sorted(w.scopes[place]))) for w in some]
                    found.add(x, [[key] for key in keys])

    def _average_means(self, laws: Mapping[Scope, jax.Array], found: Found) -> None:
        """The averages of the means of components over their parents."""
        asked: dict[tuple[int, Scope], list[int]] = {}
        for q in self.model.questions:
            node = self.model.linear.nodes[q.value]
            if q.mean and node is not None:
                asked.setdefault((node, q.scope), []).append(q.value)
        groups: dict[int, list[tuple[_Rows, list[_Average]]]] = {}
        for walk in (w for one in self.forms for w in one.walks) if asked else ():
            node, start = target(walk), self.laws_of[target(walk)].rows[target(walk)]
            for scope, arranged in zip(self.scopes[node], walk.scopes, strict=True):
                size = self.size(scope)
                if (node, scope) in asked:
                    places = laws.places(arranged) if scope and isinstance(laws, Laws) else None
                    rows = _Rows(start, size, arranged, places)
                    keys = [(value, True, scope) for value in asked[node, scope]]
                    groups.setdefault(id(self.laws_of[node]), []).append((rows, keys))
                start += size
        of_group = {id(law): law for law in self.laws_of.values()}
        for key, group in groups.items():
            mean = of_group[key].mean
            assert mean is not None  # it is asked for
            for some in _of_about_one_size(group):
                found.add(_averages([rows for rows, _ in some], mean, laws), [k for _, k in some])


def _of_about_one_size(
    group: Sequence[tuple[_Rows, list[_Average]]],
) -> list[list[tuple[_Rows, list[_Average]]]]:
    """Those that are averaged over no nodes, each that is alone, and others in few groups, whose
    rows are filled up: each group has programs of its own, which take long to compile."""
    none = [x for x in group if not x[0].scope]
    alone = [[x] for x in group if x[0].scope and x[0].places is None]
    rest = [x for x in group if x[0].scope and x[0].places is not None]
    together: dict[int, list[tuple[_Rows, list[_Average]]]] = {}
    widest = max((rows.size for rows, _ in rest), default=0)
    for x in rest:
        few = len(rest) * widest <= _FILLED
        together.setdefault(0 if few else (x[0].size - 1).bit_length(), []).append(x)
    return [*([none] if none else []), *alone, *together.values()]


def _rows(laws: Mapping[Scope, jax.Array], scopes: Sequence[Scope]) -> jax.Array:
    """The joint distributions of pieces in the order given: (scopes, joint states)."""
    if not scopes[0]:
        return jnp.ones((len(scopes), 1))
    return laws.rows(scopes) if isinstance(laws, Laws) else stacked(laws, scopes)


def _averages(rows: Sequence[_Rows], mean: jax.Array, laws: Mapping[Scope, jax.Array]) -> jax.Array:
    """The averages of some of the rows each, which stand in places of small tables or alone."""
    if not rows[0].scope:
        return mean[np.array([r.start for r in rows])]
    if rows[0].places is None or not isinstance(laws, Laws):
        law = [_rows(laws, [r.scope])[0] for r in rows]
        each = [
            weighted(w, mean[r.start : r.start + r.size]) for w, r in zip(law, rows, strict=True)
        ]
        return jnp.stack(each)
    width = max(r.size for r in rows)
    # Rows that some have not count 0 times.
    at = np.array([np.minimum(np.arange(width), r.size - 1) + r.start for r in rows])
    own = [np.pad(r.places, (0, width - r.size)) for r in rows if r.places is not None]
    counts = np.arange(width) < np.array([r.size for r in rows])[:, None]
    law = jnp.where(counts, laws.leaves.mantissa[np.array(own)], 0)
    return jax.vmap(weighted)(law, mean[at])
