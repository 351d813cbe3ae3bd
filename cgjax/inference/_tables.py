"""Computes exact expectations along a plan: tables of joint probabilities, summed in chunks.

This is for few components of many nodes that depend on all others: the distribution of such a layer
given the one below, which is a factor of a sum of products otherwise, is made and summed a chunk at
a time, and never held as a whole.

Probabilities are multiplied and added as they are, not as logarithms: nothing is observed, so every
table sums to one, and what underflows (below 1e-38 in float32) is that small against the total.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cgjax._program import Linear
from cgjax._walk import Records, walk
from cgjax.inference._chunks import divided, mapped, outer, summed, weighted
from cgjax.inference._elimination import Ask, Enter, Forget, Set, Step
from cgjax.inference._states import Component, Given, mean_where_present

# Configurations are worked through in chunks of at most about this many array elements, so that
# memory is bounded and a chunk stays in the processor's cache.
_CHUNK_ELEMENTS = 1 << 21


class _Table(NamedTuple):
    """A joint distribution: one axis for each of its components."""

    components: tuple[int, ...]
    probabilities: jax.Array

    def over(self, components: Sequence[int]) -> _Table:
        """The marginal of some of the components, in the order given."""
        left = [c for c in self.components if c in components]
        gone = tuple(k for k, c in enumerate(self.components) if c not in components)
        marginal = self.probabilities.sum(gone)
        ordered = [c for c in components if c in left]
        return _Table(tuple(ordered), marginal.transpose([left.index(c) for c in ordered]))


def _joined(tables: Sequence[_Table]) -> _Table:
    """The product of independent tables."""
    components: tuple[int, ...] = ()
    total = jnp.ones(())
    for table in tables:
        components += table.components
        total = jnp.tensordot(total, table.probabilities, 0, precision="highest")
    return _Table(components, total)


class Tables:
    """The walk through a plan, as it is traced.

    Args:
        linear: the values whose expectations are wanted.
        components: the components that are enumerated, by node index.
        arrays: the flat arguments of the network.
    """

    def __init__(
        self, linear: Linear, components: dict[int, Component], arrays: Sequence[jax.Array]
    ):
        self.linear = linear
        self.components = components
        self.arrays = arrays
        self.tables: list[_Table] = []

    def expectations(
        self, steps: Sequence[Step], questions: Sequence[Sequence[int]]
    ) -> list[jax.Array]:
        """The expectation of every value; `questions` has the values that each question is for."""
        found: dict[int, jax.Array] = {}
        for step in steps:
            if isinstance(step, Enter):
                self.enter(step)
            elif isinstance(step, Ask):
                found.update(self.ask(questions[step.question]))
            else:
                self.forget(step)
        return [found[k] for k in range(len(self.linear.nodes))]

    # -- steps

    def enter(self, step: Enter) -> None:
        """Multiplies a component's distribution into the tables and sums out what is dropped.

        With the kept components split into those the new one depends on (p) and others (n), and its
        own nodes into two halves (l, h), this is sum_d T[n,p,d] F[p,l,d] F[p,h,d], a matrix product
        for which the joint table of everything is never made.
        """
        new, of = self.components[step.component], self.linear.of_node[step.component]
        joined = [t for t in self.tables if set(t.components) & step.joined]
        kept = [c for t in joined for c in t.components if c not in step.dropped]
        others, near = [c for c in kept if c not in of], [c for c in kept if c in of]
        gone = sorted(step.dropped)
        num_others, num_near, num_gone = map(self.size, (others, near, gone))
        joint = _joined(joined).over([*others, *near, *gone]).probabilities
        joint = joint.reshape(num_others, num_near, num_gone)
        # The two factors that are multiplied are about equally large.
        low = round(math.log(new.size / num_others, new.states) / 2) if new.states > 1 else 0
        low = min(max(low, 0), new.num_nodes)
        num_low = new.states**low
        rows = num_others * num_low + new.size // num_low + new.states * new.num_nodes
        evaluate = self.conditional([*near, *gone], step.component)

        def part(near: jax.Array, gone: jax.Array, joint: jax.Array) -> jax.Array:
            flat = near[:, None] * num_gone + jnp.minimum(gone, num_gone - 1)[None]
            p = evaluate(flat.reshape(-1)).reshape(new.states, new.num_nodes, *flat.shape)
            p = jnp.moveaxis(p, 2, 0)
            possible = (joint > 0).any(0)[:, None, None]
            p = jnp.where(possible | jnp.isfinite(p), p, 0)
            left = jnp.moveaxis(joint, 0, 1)[:, :, None] * outer(p[:, :, :low])[:, None]
            left = left.reshape(near.size, num_others * num_low, -1)
            table = jnp.einsum("pmd,phd->pmh", left, outer(p[:, :, low:]), precision="highest")
            return jnp.moveaxis(table.reshape(near.size, num_others, new.size), 0, 1)

        # Whole sums where they fit: long inner axes make matrix products fast.
        num_together = max(1, _CHUNK_ELEMENTS // (num_gone * rows))
        size = max(1, _CHUNK_ELEMENTS // rows)

        def whole_sum(near: jax.Array, joint: jax.Array) -> jax.Array:
            return summed(functools.partial(part, near), joint, num_gone, size)

        table = mapped(whole_sum, joint, num_near, num_together)
        shape = [self.components[c].size for c in (*others, *near, step.component)]
        self.tables = [t for t in self.tables if not set(t.components) & step.joined]
        self.tables.append(_Table((*others, *near, step.component), table.reshape(shape)))

    def ask(self, values: Sequence[int]) -> dict[int, jax.Array]:
        """Expectations of values that depend on the same components."""
        components = sorted(self.linear.parents_of_value(values[0]))
        nodes = {k: self.linear.nodes[k] for k in values}
        targets = frozenset(i for i in nodes.values() if i is not None)
        evaluate = self.evaluator(components, targets, listing=False)

        def value(flat: jax.Array) -> list[jax.Array]:
            results, records = evaluate(flat)
            return [
                mean_where_present(records[i]) if (i := nodes[k]) is not None else results[k]
                for k in values
            ]

        if not components:
            return dict(zip(values, value(jnp.int32(0)), strict=True))
        joint = _joined([t.over(components) for t in self.tables]).over(components).probabilities
        count = joint.size

        def part(index: jax.Array, weights: jax.Array) -> list[jax.Array]:
            flat = jnp.minimum(index, count - 1)
            return [weighted(weights, x) for x in jax.vmap(value)(flat)]

        shapes = jax.eval_shape(value, jax.ShapeDtypeStruct((), jnp.int32))
        width = sum(math.prod(s.shape) for s in shapes) + self.width(components)
        size = max(1, _CHUNK_ELEMENTS // width)
        totals = summed(part, joint.reshape(-1), count, size)
        return dict(zip(values, totals, strict=True))

    def forget(self, step: Forget) -> None:
        """Sums components out."""
        kept = []
        for table in self.tables:
            left = [c for c in table.components if c not in step.components]
            if left:
                kept.append(table if len(left) == len(table.components) else table.over(left))
        self.tables = kept

    # -- configurations

    def size(self, components: Sequence[int]) -> int:
        """The number of joint states."""
        return math.prod(self.components[c].size for c in components)

    def width(self, components: Sequence[int]) -> int:
        """The number of elements of a configuration."""
        sites = self.linear.values.sites
        return 1 + sum(math.prod(sites[c].shape) for c in components)

    def evaluator(
        self, components: Sequence[int], targets: Set, *, listing: bool = True
    ) -> Callable[[jax.Array], tuple[list[jax.Array], Records]]:
        """From the number of a configuration of components to what the walk finds there."""

        def evaluate(flat: jax.Array) -> tuple[list[jax.Array], Records]:
            given, left = {}, flat.astype(jnp.uint32)
            for c in reversed(components):
                kind = self.components[c]
                left, index = divided(left, kind.size)
                # One by one, since dividing by a known number is cheap.
                digits = [
                    divided(divided(index, kind.states**k)[0], kind.states)[1]
                    for k in reversed(range(kind.num_nodes))
                ]
                given[c] = jnp.array(digits, jnp.int32).reshape(kind.shape)
            visitor = Given(targets=targets, listing=listing)
            return walk(self.linear.values, visitor, self.arrays, given=given)

        return evaluate

    def conditional(
        self, components: Sequence[int], target: int
    ) -> Callable[[jax.Array], jax.Array]:
        """From numbers of configurations to the target's probabilities: (states, nodes, …).

        The configurations come last since it is over them that tables are summed.
        """
        evaluate, kind = self.evaluator(components, frozenset({target})), self.components[target]

        def one(flat: jax.Array) -> jax.Array:
            record = evaluate(flat)[1][target]
            assert record.probabilities is not None  # they are listed
            # In a branch that was not taken the nodes matter to nobody: any distribution serves.
            p = jnp.where(record.present > 0, record.probabilities, 1 / kind.states)
            return p.reshape(kind.states, kind.num_nodes)

        return jax.vmap(one, out_axes=-1)
