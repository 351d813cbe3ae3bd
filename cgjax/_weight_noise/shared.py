"""What both kinds of noise share: how it passes through operations, calls and loops."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn
from jax.typing import DTypeLike
from jaxtyping import Array

from cgjax import _static
from cgjax._node import extra_axes, node_rank
from cgjax._program.control import Call, Scan, While, control
from cgjax._program.jaxprs import AnyJaxpr, bind, open_jaxpr, source, sub_jaxprs
from cgjax._program.live import touches, unneeded
from cgjax._program.primitives import facts
from cgjax._program.program import Program
from cgjax._static import Tree
from cgjax._walk import Domain, Evaluator, Frame, Records, Results, Visitor, evaluator
from cgjax._walk.control_flow import inline
from cgjax._walk.evaluate import Value
from cgjax._weight_noise.axes import Examples, dtype_of, shape_of
from cgjax.kernels.random_bits import random_words, standard_normal

# How independent noise passes through an operation: with the elements that it belongs to, through a
# sum or difference, a reduction to a sum, a sum into some elements, a product with numbers, or a
# matrix product or convolution.
Passage = Literal["moved", "sum", "reduced", "written", "scaled", "product"]


def normal(key: jax.Array, like: jax.Array) -> jax.Array:
    """Standard normal numbers of an array's shape and dtype."""
    return jnp.asarray(standard_normal(random_words(key, like.shape)[1]), like.dtype)


def passage(eqn: JaxprEqn, noisy: Sequence[bool]) -> Passage | None:
    """How noise passes through an operation; None where it has to be drawn before."""
    known, inside = facts(eqn), [k for k, is_noisy in enumerate(noisy) if is_noisy]
    real = all(jnp.issubdtype(dtype_of(v), jnp.floating) for v in eqn.outvars)
    if not real or known.opaque or not all(known.is_data(k, len(noisy)) for k in inside):
        return None
    if known.contracts and known.bilinear:
        return "product"
    if known.signs:
        return "sum"
    if known.moves:
        return "moved"
    if known.elementwise and (known.bilinear or known.is_linear(noisy)):
        return "scaled"
    if not known.is_linear(noisy) or known.running or known.windowed:
        return None  # neighbours would share noise
    if known.reduces == "sum":
        return "reduced"
    return "written" if len(known.linear.of(len(noisy))) > 1 else None


@dataclass(frozen=True)
class WeightNoise(Domain, abc.ABC):
    """Values with noise of weights.

    Attributes:
        names: of the flat arguments, for warnings.
        examples: what data is part of.
        within: the equation that holds the function at hand.
    """

    kind: ClassVar[type]
    method: ClassVar[str]

    names: tuple[str, ...]
    examples: Examples
    within: JaxprEqn | None = field(default=None, kw_only=True)

    @abc.abstractmethod
    def rule(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value] | None:
        """The results of an equation with a noisy operand, or None: it takes arrays."""

    @abc.abstractmethod
    def drawn(self, values: Sequence[Value], eqn: JaxprEqn) -> list[Value]:
        """Values as arrays."""

    @abc.abstractmethod
    def weights_in(self, value: Value) -> frozenset[int]:
        """The weights that a noisy value is made of, if all examples would share what is drawn."""

    def inside(self, eqn: JaxprEqn, part: int) -> WeightNoise:
        """The domain inside a function."""
        held = control(eqn, eqn.invars)
        # The condition of a loop carries nothing on.
        decides = isinstance(held, While) and held.parts[part] is held.cond
        return replace(self, within=None if decides else eqn)

    def is_noisy(self, value: Value) -> bool:
        """Whether a value has noise."""
        return isinstance(value, self.kind)

    def compute(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        """The results of an equation that is not entered."""
        if not any(map(self.is_noisy, operands)):
            return bind(eqn, operands)
        outs = self.rule(eqn, operands)
        return bind(eqn, self.alone(operands, eqn)) if outs is None else outs

    def alone(self, operands: Sequence[Value], eqn: JaxprEqn) -> list[Value]:
        """The operands of an equation as arrays; warns where all examples share them then."""
        # An element-wise function of data and a weight that was spread over the examples.
        spread = facts(eqn).elementwise and self.examples.axis(eqn.outvars[0]) is not None
        shared = frozenset().union(*(self.weights_in(x) for x in operands if self.is_noisy(x)))
        if shared and not spread:
            self.warn(shared, f"`{eqn.primitive}` at {source(eqn)} takes one value of it")
        return self.drawn(operands, eqn)

    def warn(self, weights: frozenset[int], why: str) -> None:
        """Says that examples share the noise of weights."""
        names = ", ".join(self.names[k] for k in sorted(weights))
        warnings.warn(
            f"{self.method} draws the weight {names} once for all examples: {why}. Its noise does "
            "not average out over a batch. Let the weight meet the data in a product, a sum or a "
            "scaling, with the examples along the leading axis, or use `weight_sample(f, "
            'per="example")`.',
            stacklevel=2,
        )

    def stays(self, number: int) -> list[bool]:
        """Which results leave the function at hand with their noise: not what a loop changes."""
        if self.within is None:
            return [False] * number
        changes = [changed for _, changed in carried(self.within)]
        return [not changed for changed in changes] + [True] * (number - len(changes))

    @abc.abstractmethod
    def of_each(
        self, eqn: JaxprEqn, operand: int, value: Value, rank: int, axis: int | None, size: int
    ) -> Array:
        """A parameter of nodes whose elements touch: a draw for each example.

        Args:
            eqn: that marks the nodes.
            operand: which of its operands the parameter is.
            value: the parameter, made of weights.
            rank: how many axes it has with those of the examples.
            axis: the axis of the examples; None for one draw.
            size: how many there are.
        """

    def skipped(self, jaxpr: Jaxpr) -> frozenset[int]:
        """What only leads to activations that are computed anew."""
        return unneeded(jaxpr)

    def node(
        self, walk: Evaluator, eqn: JaxprEqn, operands: Sequence[Value], frame: Frame
    ) -> tuple[Array, Tree]:
        """The value of a node: its activation, or that of parameters drawn for each example."""
        means = [x.mean if self.is_noisy(x) else x for x in operands]
        if not touches(eqn):
            return walk.visit(eqn, self.alone([operands[0], *means[1:]], eqn), frame)
        structure = walk.program.sites[frame.start].family
        end = 2 + structure.num_arrays
        shape = means[1].shape
        family = _static.join(structure, means[2:end])
        axis = self.examples.axis(eqn.invars[1])
        if axis is not None and axis >= len(shape) - node_rank(family, shape):
            axis = None  # one node holds them all
        values = list(operands[1:])
        for k, extra in enumerate(extra_axes(structure), 2):
            x = operands[k]
            if self.examples.is_data(eqn.invars[1]) and self.is_noisy(x) and self.weights_in(x):
                size = 1 if axis is None else shape[axis]
                values[k - 1] = self.of_each(eqn, k, x, len(shape) + extra, axis, size)
        _, e, *rest = self.alone([None, *values], eqn)
        activation = _static.join(structure, rest[: end - 2]).activation(e)
        return walk.visit(eqn, [activation, e, *rest], frame)

    def enters(self, eqn: JaxprEqn, operands: Sequence[Value]) -> bool:
        """Whether to enter an equation without nodes: wherever noise goes in."""
        return facts(eqn).entered and any(map(self.is_noisy, operands))

    def enter(
        self, walk: Evaluator, eqn: JaxprEqn, operands: Sequence[Value], frame: Frame
    ) -> Results:
        """The results of an equation that is entered."""
        part = control(eqn, operands)
        noisy = [self.is_noisy(x) for x in operands]
        if isinstance(part, Call) and any(noisy):
            if part.kind in ("jit", "component") or (part.kind == "custom" and passes(part.body)):
                return inline(walk, eqn, part, frame)
            if part.kind == "custom":
                operands = self.alone(operands, eqn)
        return walk.enter(walk, eqn, self.entering(eqn, operands), frame)

    def entering(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        """What enters a loop, a branch or a rematerialised part; carried weights are drawn."""
        operands = list(operands)
        for position, changes in carried(eqn):
            if changes and self.is_noisy(operands[position]):
                operands[position] = self.alone([operands[position]], eqn)[0]
        return operands


def carried(eqn: JaxprEqn) -> Iterator[tuple[int, bool]]:
    """Which operands a loop carries from turn to turn, and whether a turn changes them."""
    part = control(eqn, eqn.invars)
    if isinstance(part, Scan | While):
        consts = part.consts if isinstance(part, Scan) else part.body_consts
        first = len(consts) + (0 if isinstance(part, Scan) else len(part.cond_consts))
        inner = open_jaxpr(part.body)
        for k in range(len(part.carry)):
            yield first + k, inner.outvars[k] is not inner.invars[len(consts) + k]


def passes(jaxpr: AnyJaxpr) -> bool:
    """Whether noise may pass a function: it holds a product, or only moves and adds."""
    eqns = open_jaxpr(jaxpr).eqns
    return any(map(_holds_product, eqns)) or all(map(_only_moves, eqns))


def _holds_product(eqn: JaxprEqn) -> bool:
    subs = [e for sub in sub_jaxprs(eqn) for e in open_jaxpr(sub).eqns]
    return facts(eqn).contracts or any(map(_holds_product, subs))


def _only_moves(eqn: JaxprEqn) -> bool:
    known = facts(eqn)
    if known.entered:
        return all(map(_only_moves, (e for sub in sub_jaxprs(eqn) for e in open_jaxpr(sub).eqns)))
    return known.moves or bool(known.signs)


def walked(
    domain: WeightNoise, program: Program, capture: bool, values: Sequence[Value]
) -> tuple[Tree, Records]:
    """A walk with noisy values.

    Args:
        domain: which noise they have.
        program: the traced function.
        capture: whether the nodes' statistics are recorded.
        values: its flat arguments.
    """
    walker = evaluator(program, Visitor(capture))
    flat, records = walker.run(program.jaxpr, values, Frame(domain))
    return jax.tree.unflatten(program.out_tree, domain.leave(flat)), records


def zeros_elsewhere(
    eqn: JaxprEqn, operands: Sequence[Value], kept: dict[int, Array], dtype: DTypeLike
) -> list[Value]:
    """The operands with noise in place of some, and with nothing for the rest of the data."""
    number = len(operands)
    return [
        kept[k]
        if k in kept
        else jnp.zeros(shape_of(eqn.invars[k]), dtype)
        if facts(eqn).is_data(k, number)
        else x
        for k, x in enumerate(operands)
    ]
