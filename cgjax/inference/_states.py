"""The states of discrete nodes: what they can be, how probable each is, and nodes put into them."""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from cgjax import _static
from cgjax._cache import recent
from cgjax._gaussian.numerics import wide
from cgjax._program import Site
from cgjax._static import Tree
from cgjax._walk import Visitor
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._elimination import Set
from cgjax.nodes import Bernoulli, BernoulliMask, Binary, Categorical, Family, Spin

# The mark of a node that is observed, and of one about whose states something is known.
EVIDENCE, WEIGHTED = "evidence", "weighted"

# Sums over so many classes are written out.
_FEW = 8

# So many numbered states are put into a node at a time.
_TOGETHER = 4096


class Component(NamedTuple):
    """The nodes of one component, and what they can be.

    Attributes:
        shape: one entry for each node, in the shape of the component's mask.
        axis: the class axis, for families that have one.
        states: how many states a node has.
        numbered: whether the family numbers its states, too many to list.
    """

    shape: tuple[int, ...]
    axis: int | None
    states: int
    numbered: bool = False

    @property
    def num_nodes(self) -> int:
        """How many nodes there are."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """How many joint states they have."""
        return self.states**self.num_nodes


def _family(static: _static.Structure) -> Family:
    """A family, for what does not depend on its arrays."""
    return _static.join(static, [np.zeros(())] * static.num_arrays)


def mask_shape(site: Site) -> tuple[int, ...]:
    """The shape of a node's random variables: one for each slice of a class axis."""
    return tuple(_family(site.family).mask_shape(site.shape))


def component(site: Site) -> Component:
    """Describes the nodes of a discrete family at a site."""
    return _component(site.family, tuple(site.shape))


# Each node is visited wherever it is a parent, and to count a family's states takes a trace.
@recent(512)
def _component(static: _static.Structure, whole: tuple[int, ...]) -> Component:
    """Describes the nodes of a discrete family, whose statistic has a shape."""
    family = _family(static)
    shape = tuple(family.mask_shape(whole))
    if type(family).in_states is not Family.in_states:
        return Component(shape, None, family.num_states(whole), True)
    axes = [k - len(shape) for k in range(len(shape)) if shape[k] != whole[k]]
    axis = axes[0] if axes else None
    size = 1 if axis is None else whole[axis]
    states = jax.eval_shape(lambda: family.states(size)).shape[0]
    return Component(shape, axis, states)


class Conditional(NamedTuple):
    """What the walk records about a component for given parents.

    Attributes:
        probabilities: of each state (first axis) of each node; None where they are not asked for.
        mean: the expected statistic.
        present: 1 where the component is in a branch that was taken.
        log: the logarithms of the probabilities; of what is observed, that of each node's value.
    """

    probabilities: jax.Array | None
    mean: jax.Array | None
    present: jax.Array
    log: jax.Array | None = None


class Parameter(NamedTuple):
    """What the walk records about a component for given parents, if its law is to come.

    Attributes:
        e: the natural parameter.
        of_family: the numbers of its family.
        present: 1 where the component is in a branch that was taken.
    """

    e: jax.Array
    of_family: list[jax.Array]
    present: jax.Array


@dataclass(frozen=True)
class Given(Visitor):
    """Puts nodes into given states, and records the distributions of the components asked for.

    Attributes:
        targets: these components.
        listing: whether the probability of each state is recorded.
        averaging: whether the mean is recorded.
        logs: whether logarithms are recorded too.
    """

    targets: Set = frozenset()
    listing: bool = True
    averaging: bool = True
    logs: bool = False
    absent: ClassVar[float] = 0.0

    def changes(self, site: Site) -> bool:
        return True

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, Tree]:
        if site.kind == EVIDENCE:
            assert given is not None  # it is observed
            value = jnp.broadcast_to(given, site.shape).astype(site.dtype)
            record = self.of_observed(family, value, e) if site.index in self.targets else None
            return activation, record
        kind = component(site)
        record = self.of_hidden(family, kind, e) if site.index in self.targets else None
        if given is None:
            return activation, record
        return at_states(family, kind, given, site.shape), record

    def of_observed(self, family: Family, value: Array, e: Array) -> Tree:
        """What is recorded about an observed component."""
        return Conditional(None, None, jnp.ones(()), family.log_prob(value, e))

    def of_hidden(self, family: Family, kind: Component, e: Array) -> Tree:
        """What is recorded about a component that is not observed."""
        law = law_of(family, kind, e, logs=self.logs) if self.listing else (None, None)
        return Conditional(law[0], family.mean(e) if self.averaging else None, jnp.ones(()), law[1])


@dataclass(frozen=True)
class GivenParameters(Given):
    """Puts nodes into given states, and records the parameters of the components asked for."""

    def of_observed(self, family: Family, value: Array, e: Array) -> Tree:
        return Parameter(e, _static.split(family)[1], jnp.ones(()))

    def of_hidden(self, family: Family, kind: Component, e: Array) -> Tree:
        return Parameter(e, _static.split(family)[1], jnp.ones(()))


def _state_arrays(family: Family, kind: Component, shape: tuple[int, ...]) -> jax.Array:
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


def at_states(
    family: Family, kind: Component, index: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    """The statistic of nodes whose states are given by number; of a `Categorical` it may be given
    itself."""
    if isinstance(family, Categorical) and jnp.issubdtype(index.dtype, jnp.floating):
        return lax.broadcast_in_dim(index, shape, range(len(shape)))
    if kind.numbered:
        return family.in_states(index, shape)
    if isinstance(family, Categorical):
        every = lax.broadcast_in_dim(index, shape, range(len(shape)))
        places = lax.broadcasted_iota(index.dtype, shape, len(shape) + family.axis)
        # Behind the barrier: sums over it stay operations of their own, each quickly compiled.
        one_hot = lax.convert_element_type(lax.eq(every, places), jnp.float32)
        return lax.optimization_barrier(one_hot)
    if kind.axis is not None:
        rows = family.states(shape[kind.axis])[jnp.squeeze(index, kind.axis)]
        return jnp.moveaxis(rows, -1, kind.axis)
    states = _state_arrays(family, kind, shape)
    value = states[0]
    for number in range(1, kind.states):
        value = jnp.where(index == number, states[number], value)
    return value


def _probabilities(family: Family, kind: Component, e: Array) -> jax.Array:
    """P(state | parents) of each node: (states, *nodes)."""
    if kind.numbered:
        return _of_numbers(family, kind, e)
    precise = e.astype(jnp.promote_types(e.dtype, jnp.float32))
    if isinstance(family, Categorical):
        return jnp.exp(_of_classes(family, e))
    if isinstance(family, BernoulliMask):
        # Linear in e, so that the derivative is right where one state is impossible, too.
        return jnp.stack([1 - precise, precise])
    states = _state_arrays(family, kind, e.shape).astype(precise.dtype)
    if isinstance(family, Binary | Bernoulli | Spin):
        # [A] Eq. 3: faster than the exponential of log_prob, and rounded once less.
        log_odds = (states[1] - states[0]) * precise
        return jax.nn.sigmoid(jnp.stack([-log_odds, log_odds]))
    return jnp.exp(jax.vmap(lambda x: family.log_prob(x, e))(states.astype(e.dtype)))


def law_of(
    family: Family, kind: Component, e: Array, *, logs: bool
) -> tuple[jax.Array, jax.Array | None]:
    """P(state | parents) of each node, (states, *nodes), and its logarithm where that is wanted."""
    return _law(family, kind, e) if logs else (_probabilities(family, kind, e), None)


def _law(family: Family, kind: Component, e: Array) -> tuple[jax.Array, jax.Array]:
    """P(state | parents) of each node, and its logarithm: (states, *nodes)."""
    if isinstance(family, Categorical):
        log = _of_classes(family, e)
        return jnp.exp(log), log
    listed = not kind.numbered and not isinstance(family, BernoulliMask)
    if listed and not isinstance(family, Binary | Bernoulli | Spin):
        states = _state_arrays(family, kind, e.shape).astype(e.dtype)
        log = jax.vmap(lambda x: family.log_prob(x, e))(states)
        return jnp.exp(log), log
    probabilities = _probabilities(family, kind, e)
    if listed:
        states = _state_arrays(family, kind, e.shape).astype(probabilities.dtype)
        log_odds = (states[1] - states[0]) * e.astype(probabilities.dtype)
        return probabilities, jax.nn.log_sigmoid(jnp.stack([-log_odds, log_odds]))
    possible = probabilities > 0
    return probabilities, jnp.where(
        possible, jnp.log(jnp.where(possible, probabilities, 1)), -jnp.inf
    )


def _of_classes(family: Categorical, e: Array) -> jax.Array:
    """log P(class | parents): its states are its classes, and their logits e."""
    e = wide(family.natural_parameter(e))
    if e.shape[family.axis] > _FEW:
        log = jax.nn.log_softmax(e, axis=family.axis)
        return jnp.expand_dims(jnp.moveaxis(log, family.axis, 0), family.axis)
    # Written out, sums and largest of few are parts of what they go into, for the compiler. Behind
    # the barrier, or they are computed again for each class.
    top = functools.reduce(jnp.maximum, jnp.split(e, e.shape[family.axis], family.axis))
    shifted = lax.optimization_barrier(e - lax.stop_gradient(top))
    each = jnp.split(jnp.exp(shifted), e.shape[family.axis], family.axis)
    log = shifted - jnp.log(functools.reduce(operator.add, each))
    return jnp.expand_dims(jnp.moveaxis(log, family.axis, 0), family.axis)


def _of_numbers(family: Family, kind: Component, e: Array) -> jax.Array:
    """P(state | parents) of each node, whose states are numbered: (states, *nodes)."""

    def one(number: jax.Array) -> jax.Array:
        x = family.in_states(jnp.full(kind.shape, number), e.shape)
        return jnp.exp(family.log_prob(x.astype(e.dtype), e))

    found = jax.lax.map(one, jnp.arange(kind.states), batch_size=_TOGETHER)
    # Numbers of one and the same state, such as paths that differ where nothing is, share it.
    total = jnp.sum(found, 0, keepdims=True)
    return found / jnp.where(total == 0, 1, total)


def mean_where_present(record: Conditional) -> jax.Array:
    """The expected statistic, NaN in a branch that was not taken."""
    assert record.mean is not None  # it is not observed
    return jnp.where(record.present > 0, record.mean, jnp.nan)


def log_weights(
    family: Family, kind: Component, value: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    """0 for the states of nodes that agree with what is known of a value, -inf for the others.

    Args:
        family: the family of the nodes.
        kind: what they can be.
        value: their statistic, NaN where nothing is known.
        shape: of the statistic.

    Returns:
        One row of states for each node: (*nodes, states).
    """
    value = jnp.broadcast_to(value, shape)[None]
    states = _state_arrays(family, kind, shape).astype(value.dtype)
    same = jnp.isnan(value) | (value == states)
    if kind.axis is not None:
        same = same.all(kind.axis, keepdims=True)
    return jnp.moveaxis(jnp.where(same, 0.0, -jnp.inf), 0, -1)
