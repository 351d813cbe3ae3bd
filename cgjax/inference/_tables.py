"""Computes exact expectations along a plan: tables of joint probabilities, summed in chunks.

Probabilities are multiplied and added as they are, not as logarithms: nothing is observed, so every
table sums to one, and what underflows (below 1e-38 in float32) is that small against the total.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cgjax import _static
from cgjax._program import Linear, Site
from cgjax._walk import Visitor, walk
from cgjax.inference._elimination import Ask, Enter, Forget, Set, Step
from cgjax.nodes import Bernoulli, BernoulliMask, Binary, Family, Spin

# Configurations are worked through in chunks of at most about this many array elements, so that
# memory is bounded and a chunk stays in the processor's cache.
_CHUNK_ELEMENTS = 1 << 21


class Component(NamedTuple):
    """The nodes of one component, and what they can be.

    Attributes:
        shape: one entry for each node, in the shape of the component's mask.
        axis: the class axis, for families that have one.
        states: how many states a node has.
    """

    shape: tuple[int, ...]
    axis: int | None
    states: int

    @property
    def num_nodes(self) -> int:
        """How many nodes there are."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """How many joint states they have."""
        return self.states**self.num_nodes


def component(site: Site) -> Component:
    """Describes the nodes of a discrete family at a site."""
    family = _static.join(site.family, [np.zeros(())] * site.family.num_arrays)
    shape = family.mask_shape(site.shape)
    axes = [k - len(shape) for k in range(len(shape)) if shape[k] != site.shape[k]]
    axis = axes[0] if axes else None
    size = 1 if axis is None else site.shape[axis]
    states = jax.eval_shape(lambda: family.states(size)).shape[0]
    return Component(shape, axis, states)


class _Conditional(NamedTuple):
    """What the walk records about a component for given parents.

    Attributes:
        probabilities: of each state (first axis) of each node.
        mean: the expected statistic.
        present: 1 where the component is in a branch that was taken.
    """

    probabilities: Any
    mean: Any
    present: Any


@dataclass(frozen=True)
class _Given(Visitor):
    """Puts nodes into given states, and records the distributions of the components asked for."""

    targets: Set = frozenset()
    absent: ClassVar[float] = 0.0

    def changes(self, site: Site) -> bool:
        return True

    def visit(self, site: Site, family: Family, activation: Any, e: Any, draw: Any, given: Any):
        kind = component(site)
        record = None
        if site.index in self.targets:
            record = _Conditional(_probabilities(family, kind, e), family.mean(e), jnp.ones(()))
        if given is None:
            return activation, record
        return _statistic(family, kind, given, site.shape), record


def _state_arrays(family: Family, kind: Component, shape: tuple[int, ...]) -> Any:
    """The statistic with all nodes in one state, for each state: (states, *shape)."""
    if kind.axis is None:
        states = family.states()
        states = (
            states.reshape(kind.states, *(1,) * (1 + len(shape) - states.ndim), *states.shape[1:])
            if shape
            else states.reshape(kind.states)
        )
    else:
        rows = family.states(shape[kind.axis])
        after = (1,) * (-1 - kind.axis)
        states = rows.reshape(kind.states, *(1,) * (len(shape) + kind.axis), -1, *after)
    return jnp.broadcast_to(states, (kind.states, *shape))


def _statistic(family: Family, kind: Component, index: Any, shape: tuple[int, ...]) -> Any:
    """The statistic of nodes whose states are given by number."""
    if kind.axis is not None:
        rows = family.states(shape[kind.axis])[jnp.squeeze(index, kind.axis)]
        return jnp.moveaxis(rows, -1, kind.axis)
    states = _state_arrays(family, kind, shape)
    value = states[0]
    for number in range(1, kind.states):
        value = jnp.where(index == number, states[number], value)
    return value


def _probabilities(family: Family, kind: Component, e: Any) -> Any:
    """P(state | parents) of each node: (states, *nodes)."""
    precise = e.astype(jnp.promote_types(e.dtype, jnp.float32))
    if isinstance(family, BernoulliMask):
        # Linear in e, so that the derivative is right where one state is impossible, too.
        return jnp.stack([1 - precise, precise])
    states = _state_arrays(family, kind, e.shape).astype(precise.dtype)
    if isinstance(family, Binary | Bernoulli | Spin):
        # [A] Eq. 3: faster than the exponential of log_prob, and rounded once less.
        log_odds = (states[1] - states[0]) * precise
        return jax.nn.sigmoid(jnp.stack([-log_odds, log_odds]))
    return jnp.exp(jax.vmap(lambda x: family.log_prob(x, e))(states.astype(e.dtype)))


class _Table(NamedTuple):
    """A joint distribution: one axis for each of its components."""

    components: tuple[int, ...]
    probabilities: Any

    def over(self, components: Sequence[int]) -> "_Table":
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

    def __init__(self, linear: Linear, components: dict[int, Component], arrays: Sequence[Any]):
        self.linear = linear
        self.components = components
        self.arrays = arrays
        self.tables: list[_Table] = []

    def expectations(self, steps: Sequence[Step], questions: Sequence[Sequence[int]]) -> list[Any]:
        """The expectation of every value; `questions` has the values that each question is for."""
        found: dict[int, Any] = {}
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

        def part(near: Any, gone: Any, joint: Any) -> Any:
            flat = near[:, None] * num_gone + jnp.minimum(gone, num_gone - 1)[None]
            p = evaluate(flat.reshape(-1)).reshape(new.states, new.num_nodes, *flat.shape)
            p = jnp.moveaxis(p, 2, 0)
            possible = (joint > 0).any(0)[:, None, None]
            p = jnp.where(possible | jnp.isfinite(p), p, 0)
            left = jnp.moveaxis(joint, 0, 1)[:, :, None] * _outer(p[:, :, :low])[:, None]
            left = left.reshape(near.size, num_others * num_low, -1)
            table = jnp.einsum("pmd,phd->pmh", left, _outer(p[:, :, low:]), precision="highest")
            return jnp.moveaxis(table.reshape(near.size, num_others, new.size), 0, 1)

        # Whole sums where they fit: long inner axes make matrix products fast.
        num_together = max(1, _CHUNK_ELEMENTS // (num_gone * rows))
        size = max(1, _CHUNK_ELEMENTS // rows)

        def summed(near: Any, joint: Any) -> Any:
            return _summed(functools.partial(part, near), joint, num_gone, size)

        table = _mapped(summed, joint, num_near, num_together)
        shape = [self.components[c].size for c in (*others, *near, step.component)]
        self.tables = [t for t in self.tables if not set(t.components) & step.joined]
        self.tables.append(_Table((*others, *near, step.component), table.reshape(shape)))

    def ask(self, values: Sequence[int]) -> dict[int, Any]:
        """Expectations of values that depend on the same components."""
        components = sorted(self.linear.parents_of_value(values[0]))
        nodes = {k: self.linear.nodes[k] for k in values}
        targets = frozenset(i for i in nodes.values() if i is not None)
        evaluate = self.evaluator(components, targets)

        def value(flat: Any) -> list[Any]:
            results, records = evaluate(flat)
            return [
                _mean(records[i]) if (i := nodes[k]) is not None else results[k] for k in values
            ]

        if not components:
            return dict(zip(values, value(jnp.int32(0)), strict=True))
        joint = _joined([t.over(components) for t in self.tables]).over(components).probabilities
        count = joint.size

        def part(index: Any, weights: Any) -> list[Any]:
            flat = jnp.minimum(index, count - 1)
            return [_weighted(weights, x) for x in jax.vmap(value)(flat)]

        shapes = jax.eval_shape(value, jax.ShapeDtypeStruct((), jnp.int32))
        width = sum(math.prod(s.shape) for s in shapes) + self.width(components)
        size = max(1, _CHUNK_ELEMENTS // width)
        totals = _summed(part, joint.reshape(-1), count, size)
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

    def evaluator(self, components: Sequence[int], targets: Set) -> Callable[[Any], Any]:
        """From the number of a configuration of components to what the walk finds there."""

        def evaluate(flat: Any) -> Any:
            given, left = {}, flat.astype(jnp.uint32)
            for c in reversed(components):
                kind = self.components[c]
                left, index = _divided(left, kind.size)
                # One by one, since dividing by a known number is cheap.
                digits = [
                    _divided(_divided(index, kind.states**k)[0], kind.states)[1]
                    for k in reversed(range(kind.num_nodes))
                ]
                given[c] = jnp.array(digits, jnp.int32).reshape(kind.shape)
            visitor = _Given(targets=targets)
            return walk(self.linear.values, visitor, self.arrays, given=given)

        return evaluate

    def conditional(self, components: Sequence[int], target: int) -> Callable[[Any], Any]:
        """From numbers of configurations to the target's probabilities: (states, nodes, …).

        The configurations come last since it is over them that tables are summed.
        """
        evaluate, kind = self.evaluator(components, frozenset({target})), self.components[target]

        def one(flat: Any) -> Any:
            record = evaluate(flat)[1][target]
            # In a branch that was not taken the nodes matter to nobody: any distribution serves.
            p = jnp.where(record.present > 0, record.probabilities, 1 / kind.states)
            return p.reshape(kind.states, kind.num_nodes)

        return jax.vmap(one, out_axes=-1)


def _divided(number: Any, by: int) -> tuple[Any, Any]:
    divisor = jnp.uint32(by)
    return lax.div(number, divisor), lax.rem(number, divisor)


def _mean(record: _Conditional) -> Any:
    return jnp.where(record.present > 0, record.mean, jnp.nan)


def _outer(p: Any) -> Any:
    """Probabilities of all joint states of independent nodes: (p, s, n, d) to (p, s**n, d)."""
    if p.shape[2] == 0:
        return jnp.ones((p.shape[0], 1, p.shape[3]), p.dtype)
    if p.shape[2] == 1:
        return p[:, :, 0]
    half = p.shape[2] // 2
    # Behind the barrier, or the compiler computes the halves again for every joint state.
    first, second = lax.optimization_barrier((_outer(p[:, :, :half]), _outer(p[:, :, half:])))
    return (first[:, :, None] * second[:, None]).reshape(p.shape[0], -1, p.shape[-1])


def _weighted(weights: Any, values: Any) -> Any:
    """The sum of values (first axis) times weights, 0 times infinity being 0."""
    dtype = jnp.promote_types(values.dtype, weights.dtype)
    values = values.astype(dtype)
    weights = weights.reshape(-1, *(1,) * (values.ndim - 1))
    values = jnp.where((weights > 0) | jnp.isfinite(values), values, 0)
    return jnp.sum(weights * values, axis=0)


def _mapped(part: Callable[[Any, Any], Any], joint: Any, count: int, size: int) -> Any:
    """Puts `part(index, joint[:, index])` together along axis 1, in chunks."""
    num_chunks = -(-count // size)
    if num_chunks == 1:
        return part(jnp.arange(count), joint)
    size = -(-count // num_chunks)
    index = jnp.minimum(jnp.arange(num_chunks * size), count - 1).reshape(num_chunks, size)
    # Computed again for the derivative, as below.
    recomputed = jax.checkpoint(lambda i: part(i, joint[:, i]))
    chunks = jnp.moveaxis(lax.map(recomputed, index), 0, 1)
    return chunks.reshape(chunks.shape[0], -1, *chunks.shape[3:])[:, :count]


def _summed(part: Callable[[Any, Any], Any], joint: Any, count: int, size: int) -> Any:
    """Adds up `part(index, joint[..., index])` over chunks of the last axis."""
    num_chunks = -(-count // size)
    if num_chunks == 1:
        return part(jnp.arange(count), joint)
    size = -(-count // num_chunks)
    padding = [(0, 0)] * (joint.ndim - 1) + [(0, num_chunks * size - count)]
    chunks = jnp.pad(joint, padding).reshape(*joint.shape[:-1], num_chunks, size)
    chunks = jnp.moveaxis(chunks, -2, 0)
    index = jnp.arange(num_chunks * size).reshape(num_chunks, size)
    # Computed again for the derivative: only tables are stored, not what a chunk needs on the way.
    recomputed = jax.checkpoint(part)

    def add(total: Any, chunk: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, recomputed(*chunk)), None

    shapes = jax.eval_shape(part, index[0], chunks[0])
    start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return lax.scan(add, start, (index, chunks))[0]
