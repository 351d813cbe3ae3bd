"""Computes the factors of a model, and the expectations of the values that are asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgjax.inference._alike import alike, together
from cgjax.inference._chunks import weighted
from cgjax.inference._factor_tables import Factors, target
from cgjax.inference._factors import Question, Scope
from cgjax.inference._leaves import Laws, stacked

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
        found = self._averages(asked, laws) | self._averages_of_means(laws)
        return [self._assembled(k, by_value[k], found) for k in sorted(by_value)]

    def _averages(
        self, asked: Mapping[tuple[Scope, ...], Sequence[int]], laws: Mapping[Scope, jax.Array]
    ) -> dict[_Average, jax.Array]:
        """The averages of whole values over some scopes."""
        walks = [self.walk(tuple(values), None, scopes) for scopes, values in asked.items()]
        found: dict[_Average, jax.Array] = {}
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
            for row, walk in enumerate(some):
                for scope, of_scope in zip(walk.scopes, averages, strict=True):
                    for value, x in zip(walk.values, of_scope, strict=True):
                        found[value, False, tuple(sorted(scope))] = x[row]
        return found

    def _averages_of_means(self, laws: Mapping[Scope, jax.Array]) -> dict[_Average, jax.Array]:
        """The averages of the means of components over their parents."""
        asked: dict[tuple[int, Scope], list[int]] = {}
        for q in self.model.questions:
            node = self.model.linear.nodes[q.value]
            if q.mean and node is not None:
                asked.setdefault((node, q.scope), []).append(q.value)
        groups: dict[tuple[int, int], list[tuple[int, Scope, _Rows]]] = {}
        for walk in (w for one in self.forms for w in one.walks) if asked else ():
            node, start = target(walk), self.laws_of[target(walk)].rows[target(walk)]
            for scope, arranged in zip(self.scopes[node], walk.scopes, strict=True):
                size = self.size(scope)
                if (node, scope) in asked:
                    places = laws.places(arranged) if scope and isinstance(laws, Laws) else None
                    rows = _Rows(start, size, arranged, places)
                    width = 0 if not scope else -1 - len(groups)  # by itself
                    if places is not None:
                        width = 1 << (size - 1).bit_length()
                    key = id(self.laws_of[node]), width
                    groups.setdefault(key, []).append((node, scope, rows))
                start += size
        found: dict[_Average, jax.Array] = {}
        for some in groups.values():
            mean = self.laws_of[some[0][0]].mean
            assert mean is not None  # it is asked for
            averages = _averages([rows for *_, rows in some], mean, laws)
            for row, (node, scope, _) in enumerate(some):
                for value in asked[node, scope]:
                    found[value, True, scope] = averages[row]
        return found

    def _assembled(
        self,
        value: int,
        questions: Sequence[Question],
        found: Mapping[_Average, jax.Array],
    ) -> jax.Array:
        """The expectation of a value, from those of its elements."""
        parts = [found[value, q.mean, q.scope] for q in questions]
        if len(parts) == 1:
            return parts[0]
        parts = [x.reshape(-1)[q.places] for x, q in zip(parts, questions, strict=True)]
        places = np.concatenate([q.places for q in questions])
        shape = self.model.linear.values.result_shapes[value]
        return jnp.concatenate(parts)[np.argsort(places)].reshape(shape)


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
