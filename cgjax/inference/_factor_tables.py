"""Computes the factors of a model for all their states.

Components of one form are evaluated together, up to their natural parameters; the probabilities of
all that belong to one family are computed together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cgjax import _static
from cgjax.inference._alike import alike, together
from cgjax.inference._chunks import outer
from cgjax.inference._configurations import Configurations, Walk
from cgjax.inference._factors import Model, Scope
from cgjax.inference._leaves import MOST_TOGETHER, Leaves
from cgjax.inference._scaled import (
    Table,
    normalised,
    of_logarithm,
    scaled,
)
from cgjax.inference._states import EVIDENCE, WEIGHTED, Parameter, law_of
from cgjax.nodes import Categorical


class _Alike(NamedTuple):
    """Components of one form.

    Attributes:
        walks: of each component.
        found: what is recorded about each: (components, configurations, …).
    """

    walks: list[Walk]
    found: Parameter


class _Law(NamedTuple):
    """The distributions of the nodes of some components, given their parents.

    Attributes:
        rows: where the configurations of each component begin.
        number: the probabilities, (configurations, nodes, states); None where nobody asks.
        log: their logarithms; of what is observed, of each node's value (configurations, nodes).
        mean: the expected statistics, (configurations, …).
    """

    rows: dict[int, int]
    number: jax.Array | None
    log: jax.Array | None
    mean: jax.Array | None


class _Raw(NamedTuple):
    """Entries that are not scaled yet: numbers, their logarithms, or both."""

    number: jax.Array | None
    log: jax.Array | None

    def scaled(self) -> tuple[jax.Array, jax.Array | None]:
        """Mantissas and exponents."""
        if self.log is None:
            assert self.number is not None  # one of both is
            return self.number, None
        return of_logarithm(self.log) if self.number is None else scaled(self.number, self.log)


@dataclass
class _Entries:
    """The entries of small tables, as they are found, by what is known of them.

    Attributes:
        parts: entries in rows, and which tables begin where in them.
        large: tables of their own.
    """

    parts: dict[Hashable, list[tuple[_Raw, dict[int, int]]]] = field(default_factory=dict)
    made: list[tuple[tuple[jax.Array, jax.Array | None], dict[int, int]]] = field(
        default_factory=list
    )
    large: dict[int, tuple[jax.Array, jax.Array | None]] = field(default_factory=dict)

    def add(self, raw: _Raw, starts: dict[int, int]) -> None:
        """Entries that are to be scaled."""
        key = raw.number is None, raw.log is None
        self.parts.setdefault(key, []).append((raw, starts))

    def leaves(self, axes: Sequence[Scope], sizes: Mapping[int, int]) -> Leaves:
        """All tables."""
        every = list(self.made)
        for some in self.parts.values():
            flat = jax.tree.map(lambda *x: jnp.concatenate(x), *(raw for raw, _ in some))
            starts, end = {}, 0
            for raw, own in some:
                starts |= {k: end + start for k, start in own.items()}
                end += jax.tree.leaves(raw)[0].size
            every.append((flat.scaled(), starts))
        starts, end = {}, 0
        for (mantissa, _), own in every:
            starts |= {k: end + start for k, start in own.items()}
            end += mantissa.size
        large = {}
        for k, entries in self.large.items():
            shape = [sizes[p] for p in axes[k]]
            large[k] = Table(axes[k], *jax.tree.map(lambda x: x.reshape(shape), entries))  # noqa: B023
        return Leaves.of(axes, sizes, starts, [x for x, _ in every], large)


class Factors(Configurations):
    """The tables of a model, as they are traced.

    Args:
        model: the factors and the questions.
        arrays: the flat arguments of the network.
        logs: whether tables have exponents.
    """

    def __init__(self, model: Model, arrays: Sequence[jax.Array], logs: bool):
        super().__init__(model, arrays)
        self.logs = logs
        self._listed = {f.node for f in model.factors if f.own is not None}
        self._averaged: set[int] = set()
        # Of each component the sets of pieces it is evaluated for, and the numbers of its factors.
        self.scopes: dict[int, dict[Scope, None]] = {}
        self.factors: dict[int, list[int]] = {}
        for number, factor in enumerate(model.factors):
            self.scopes.setdefault(factor.node, {})[factor.parents] = None
            self.factors.setdefault(factor.node, []).append(number)
        for question in model.questions:
            node = model.linear.nodes[question.value]
            if question.mean and node is not None:
                self._averaged.add(node)
                self.scopes.setdefault(node, {})[question.scope] = None

    # -- components

    @functools.cached_property
    def forms(self) -> list[_Alike]:
        """All components, those of one form together."""
        walks = [self.walk((), node, list(scopes)) for node, scopes in self.scopes.items()]
        found: list[_Alike] = []
        for group in alike([w.call for w in walks]):
            some = [walks[k] for k in group]

            def one(*operands: jax.Array | np.ndarray) -> Parameter:
                record = self.walked(some[0], operands)[1]  # noqa: B023
                assert record is not None  # it is asked for
                return record

            found.append(_Alike(some, together(one, [w.call.operands for w in some])))
        return found

    @functools.cached_property
    def laws_of(self) -> dict[int, _Law]:
        """The distributions of all components."""
        groups: dict[Hashable, list[_Alike]] = {}
        for one in self.forms:
            node = target(one.walks[0])
            site = self.model.sites[node]
            shapes = [(x.shape[2:], x.dtype) for x in jax.tree.leaves(one.found)]
            observed = site.kind == EVIDENCE
            key = site.family, observed, node in self.model.parts.mark, tuple(shapes)
            first = one.walks[0]
            ends = None if first.tail is None else first.tail.form
            groups.setdefault((*key, ends, first.alone), []).append(one)
        found: dict[int, _Law] = {}
        for some in groups.values():
            law = self._law(some)
            found |= dict.fromkeys(law.rows, law)
        return found

    def _law(self, some: Sequence[_Alike]) -> _Law:
        """The distributions of components of one family."""
        walks = [w for one in some for w in one.walks]
        flat = [jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), one.found) for one in some]
        found = jax.tree.map(lambda *x: jnp.concatenate(x), *flat)
        # Behind the barrier, or the compiler makes one operation of all that goes in.
        found = lax.optimization_barrier(found)
        if (tail := walks[0].tail) is not None:
            found = found._replace(e=jax.vmap(tail)(found.e))
        rows, end, counts = {}, 0, []
        for walk in walks:
            rows[target(walk)] = end
            counts.append(sum(map(self.size, walk.scopes)))
            end += counts[-1]
        site = self.model.sites[target(walks[0])]
        if site.kind != EVIDENCE:
            return _Law(rows, *jax.vmap(self._hidden(list(rows)))(found))

        def log_prob(found: Parameter, value: jax.Array) -> jax.Array:
            family = _static.join(site.family, found.of_family)
            value = jnp.broadcast_to(value, site.shape).astype(site.dtype)
            return family.log_prob(value, found.e).reshape(-1)

        values = [jnp.broadcast_to(w.call.operands[-1], site.shape) for w in walks]
        if len(walks) == 1:
            log = jax.vmap(log_prob, (0, None))(found, values[0])
        else:
            of_row = np.repeat(np.arange(len(walks)), counts)
            log = jax.vmap(log_prob)(found, jnp.stack(values)[of_row])
        return _Law(rows, None, log, None)

    def _hidden(self, nodes: Sequence[int]) -> Callable[[Parameter], tuple[Array | None, ...]]:
        """The distribution of a component of a family, and its mean, by its parameter."""
        site, kind = self.model.sites[nodes[0]], self.model.kinds[nodes[0]]
        listing = not self._listed.isdisjoint(nodes)
        averaging = not self._averaged.isdisjoint(nodes)
        classes = issubclass(site.family_type, Categorical)

        def law(found: Parameter) -> tuple[Array | None, Array | None, Array | None]:
            family = _static.join(site.family, found.of_family)
            number = log = None
            if listing or (averaging and classes):
                number, log = law_of(family, kind, found.e, logs=self.logs)
            mean = None
            if averaging and classes and number is not None:  # the same once more takes longer
                mean = jnp.moveaxis(number, 0, family.axis - 1).reshape(site.shape)
            elif averaging:
                mean = family.mean(found.e)
            if nodes[0] not in self.model.parts.mark:
                # In a branch that was not taken any law serves.
                mean = None if mean is None else jnp.where(found.present > 0, mean, 0)
                number, log = (
                    None if x is None else jnp.where(found.present > 0, x, otherwise)
                    for x, otherwise in ((number, 1 / kind.states), (log, -math.log(kind.states)))
                )
            number, log = (
                None if x is None else x.reshape(kind.states, kind.num_nodes).T
                for x in (number, log)
            )
            return number, log, mean

        return law

    # -- factors

    def tables(self) -> list[Table]:
        """The tables of all factors."""
        return self.leaves().tables()

    def leaves(self) -> Leaves:
        """The tables of all factors, the small ones in one array."""
        found, axes = _Entries(), dict[int, Scope]()
        whole: dict[int, tuple[_Law, dict[int, int]]] = {}
        for walk in (w for one in self.forms for w in one.walks):
            node = target(walk)
            law, site = self.laws_of[node], self.model.sites[node]
            for number in self.factors.get(node, ()):
                factor = self.model.factors[number]
                place = list(self.scopes[node]).index(factor.parents)
                start = law.rows[node] + sum(map(self.size, walk.scopes[:place]))
                parents, own = walk.scopes[place], factor.own
                axes[number] = parents if own is None else (*parents, own)
                num_nodes = jax.tree.leaves((law.log, law.number))[0].shape[1]
                small = self.size(axes[number]) <= MOST_TOGETHER
                if num_nodes == 1 and small and site.kind != WEIGHTED:
                    states = 1 if own is None else self.sizes[own]
                    whole.setdefault(id(law), (law, {}))[1][number] = start * states
                elif own is None:
                    self._observed(found, number, start, law)
                else:
                    if len(factor.elements) != 1:
                        axes[number] = (own, *parents)
                    self._part(found, number, start, law)
        for law, starts in whole.values():
            raw = jax.tree.map(lambda x: x.reshape(-1), _Raw(law.number, law.log))
            found.add(raw, starts)
        return found.leaves([axes[k] for k in range(len(axes))], self.sizes)

    def _part(self, found: _Entries, number: int, start: int, law: _Law) -> None:
        """A table of some nodes of a component, or of one about whose states something is known."""
        factor = self.model.factors[number]
        kind, size = self.model.kinds[factor.node], self.size(factor.parents)
        some = slice(None)
        if len(factor.elements) < kind.num_nodes:
            some = np.array(factor.elements)
        rows = slice(start, start + size)
        raw = jax.tree.map(lambda x: x[rows][:, some], _Raw(law.number, law.log))
        if self.model.sites[factor.node].kind == WEIGHTED:
            weights = self.model.parts.handed(factor.node, self.fixed)
            own = weights.reshape(kind.num_nodes, kind.states)[some]
            assert raw.log is not None  # there is evidence
            raw = _Raw(None, raw.log + own[None])
        if len(factor.elements) == 1:
            raw = jax.tree.map(lambda x: x.reshape(-1), raw)
            if size * kind.states <= MOST_TOGETHER:
                found.add(raw, {number: 0})
            else:
                found.large[number] = raw.scaled()
            return
        # (states, nodes, configurations)
        mantissa, exponent = jax.tree.map(lambda x: x.transpose(2, 1, 0), raw).scaled()
        if exponent is not None:
            mantissa, exponent = normalised(mantissa, exponent)
            exponent = outer_sum(exponent).reshape(-1)
        mantissa = outer(mantissa[None])[0].reshape(-1)
        if mantissa.size <= MOST_TOGETHER:
            found.made.append(((mantissa, exponent), {number: 0}))
        else:
            found.large[number] = mantissa, exponent

    def _observed(self, found: _Entries, number: int, start: int, law: _Law) -> None:
        """The table of what is observed."""
        factor = self.model.factors[number]
        assert law.log is not None  # it is observed
        size = self.size(factor.parents)
        log = law.log[start : start + size, np.array(factor.elements)].sum(1)
        if size > MOST_TOGETHER:
            found.large[number] = of_logarithm(log)
        else:
            found.add(_Raw(None, log), {number: 0})


def target(walk: Walk) -> int:
    assert walk.target is not None  # it is what the walk is for
    return walk.target


def outer_sum(x: jax.Array) -> jax.Array:
    """Sums for all joint states of independent nodes: (s, n, d) to (s**n, d)."""
    if x.shape[1] == 0:
        return jnp.zeros((1, x.shape[2]), x.dtype)
    total = x[:, 0]
    for k in range(1, x.shape[1]):
        total = (total[:, None] + x[None, :, k]).reshape(-1, x.shape[2])
    return total
