"""The walk that propagates beliefs: what enters and leaves a program are means and variances."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import Var

from cgjax import _static
from cgjax._beliefs import registry
from cgjax._beliefs.curves import Curve, Open
from cgjax._beliefs.curves.elementwise import is_elementwise
from cgjax._beliefs.functions import in_layout, of_functions, one_variable
from cgjax._beliefs.largest import EXTREMES
from cgjax._beliefs.movement import STRUCTURE
from cgjax._beliefs.products import convolution, dot_general
from cgjax._beliefs.sums import reduced
from cgjax._beliefs.valleys import lowest_point
from cgjax._beliefs.values import (
    Gaussian,
    Value,
    at_mean,
    belief,
    is_random,
    mean_of,
    settle,
)
from cgjax._gaussian.numerics import root
from cgjax._node import node_p
from cgjax._program.called import called_function
from cgjax._program.jaxprs import (
    CUSTOM,
    ENTERED,
    JIT,
    bind,
    call_jaxpr,
    open_jaxpr,
    source,
    sub_jaxprs,
)
from cgjax._program.jaxprs import Literal as Constant
from cgjax._program.program import Program
from cgjax._walk import Domain, Evaluator, Frame, Records, Results, Visitor, evaluator
from cgjax.nodes import Belief

Nodes = Literal["collapsed", "random"]


class NoMomentRuleError(TypeError):
    """A primitive that no rule says the mean and variance of."""


@dataclass(frozen=True)
class Beliefs(Visitor):
    """How beliefs are propagated.

    Attributes:
        nodes: whether a node is its activation, or adds its own noise.
        order: 1 for the first-order Taylor rule, else 2: moments are matched.
        positions: whether what positions share is followed.
        first_order: names of primitives without a rule that may be linearised.
    """

    nodes: Nodes = "collapsed"
    order: int = 2
    positions: bool = True
    first_order: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Unknown:
    """The result of an operation without a rule, which raises where it is used in earnest."""

    error: NoMomentRuleError


def _settled(values: Sequence[Any], order: int) -> list[Any]:
    return [settle(v, order) for v in values]


@dataclass(frozen=True)
class BeliefDomain(Domain):
    """Values that beliefs are held about.

    Attributes:
        program: the traced function.
        visitor: how beliefs are propagated.
        calls: the equations that the walk is inside of, outermost first.
        offsets: the largest values that are constants, by id of equation.
    """

    program: Program
    visitor: Beliefs
    calls: tuple[Any, ...] = ()
    offsets: frozenset[int] = frozenset()

    def scope(self, jaxpr: Any) -> "BeliefDomain":
        def nodes_in(eqn: Any) -> int:
            return sum(self.program.counts[id(open_jaxpr(sub))] for sub in sub_jaxprs(eqn))

        return replace(self, offsets=frozenset(_offsets(open_jaxpr(jaxpr), nodes_in)))

    def inside(self, eqn: Any, part: int) -> "BeliefDomain":
        return replace(self, calls=(*self.calls, eqn))

    def enters(self, eqn: Any, operands: Sequence[Any]) -> bool:
        return eqn.primitive.name in ENTERED and any(map(_uncertain, operands))

    def compute(self, eqn: Any, operands: Sequence[Any]) -> list[Any]:
        unknown = next((x for x in operands if isinstance(x, Unknown)), None)
        if unknown is not None:
            return [unknown] * len(eqn.outvars)
        if not any(map(is_random, operands)):
            return bind(eqn, operands)
        out = self.rule(eqn, operands)
        return out if isinstance(out, list) else [out]

    def rule(self, eqn: Any, operands: Sequence[Any]) -> Any:
        name, order = eqn.primitive.name, self.visitor.order
        custom = registry.rule_of_primitive(eqn.primitive)
        if custom is not None:
            return ruled(custom, eqn, operands, order, eqn.params)
        if name == "pow" and (power := _whole_number(eqn.invars[1], operands[1])) is not None:
            # `x ** 2.0` is `x ** 2`, for negative x too.
            eqn = eqn.replace(
                primitive=lax.integer_pow_p, params={"y": power}, invars=eqn.invars[:1]
            )
            name, operands = "integer_pow", operands[:1]
        if is_elementwise(eqn):
            out = of_functions(eqn, operands, order)
            if out is not None:
                return out if self.visitor.positions else _alone(out)
        elif name == "dot_general":
            same = one_variable(*operands)
            return dot_general(eqn, _settled(operands, order), order, self.visitor.positions, same)
        elif name == "conv_general_dilated":
            return convolution(eqn, _settled(operands, order), order, self.visitor.positions)
        elif name == "scatter" and eqn.params.get("update_jaxpr") is not None:
            pass  # `x.at[i].apply(f)`: f is hidden in it
        elif name in STRUCTURE or name in EXTREMES:
            return self.structure(eqn, operands)
        if all(not jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars):
            # An index or a decision.
            return bind(eqn, [at_mean(settle(x, order)) for x in operands])
        if name in self.visitor.first_order:
            return linearised(eqn, _settled(operands, order))
        where = next(filter(None, map(source, (eqn, *reversed(self.calls)))), "an unknown line")
        return [Unknown(_no_rule(name, where))] * len(eqn.outvars)

    def structure(self, eqn: Any, operands: Sequence[Any]) -> Any:
        name, order = eqn.primitive.name, self.visitor.order
        if name == "reduce_sum" and (out := reduced(eqn, operands[0], order)) is not None:
            return out
        if (out := in_layout(eqn, operands)) is not None:
            return out
        if id(eqn) in self.offsets:
            return bind(eqn, [at_mean(settle(x, order)) for x in operands])
        if name in EXTREMES and (out := self.largest(eqn, operands[0])) is not None:
            return out
        settled = _settled(operands, order)
        if not any(map(is_random, settled)):
            return bind(eqn, settled)
        settled = [x.shared()[0] if is_random(x) else x for x in settled]
        if name in EXTREMES:
            return EXTREMES[name](eqn, settled, order)
        data = _DATA.get(name, slice(1))
        settled = [
            x if i in range(len(settled))[data] else at_mean(x) for i, x in enumerate(settled)
        ]
        out = STRUCTURE[name](eqn, settled, order)
        if isinstance(out, list):
            return out if self.visitor.positions else [x.alone() for x in out]
        return out if self.visitor.positions else out.alone()

    def largest(self, eqn: Any, value: Value) -> Curve | None:
        """The largest value of a function that rises, or falls a little first: of GELU and SiLU.

        The function of the largest root. Where that may be less than the function of the smallest
        one, since both lie where the function falls, its value at the smallest mean is the least.
        """
        name, order = eqn.primitive.name, self.visitor.order
        if not isinstance(value, Curve) or value.affine is not None or order == 1:
            return None
        if not value.resolved:
            return None
        lowest = -math.inf if value.rises else lowest_point(value.function)
        falls = lowest is not None and lowest > -math.inf
        if lowest is None or (falls and not name.endswith("max")):
            return None
        x = EXTREMES[name](eqn, [value.root.shared()[0]], order)
        if not falls:
            return value.on(x)
        smallest = -bind(eqn, [-value.root.mean])[0]
        least = value.function(jnp.minimum(smallest, lowest))

        def at_least(x: Any, least: Any) -> Any:
            return jnp.maximum(value.function(x), least)

        return Curve(x, lambda x: at_least(x, least), value.dtype, Open(at_least, (least,)))

    # -- nodes

    def node(
        self, walk: Evaluator, eqn: Any, operands: Sequence[Any], frame: Frame
    ) -> tuple[Any, Any]:
        index, given = frame.start, frame.given
        site, visitor = self.program.sites[index], self.visitor
        activation, e, *rest = operands
        rest = [mean_of(settle(x, visitor.order)) for x in rest]
        family = _static.join(site.family, rest[: site.family.num_arrays])
        if visitor.nodes == "random" and site.kind != "observe":
            value = self.statistic(family, e)
        else:
            value = self.collapsed(family, activation, e)
        if isinstance(value, Unknown) and (index in given or visitor.capture):
            raise value.error
        if index in given:
            value = _shifted(settle(value, visitor.order), given[index])
        record = belief(value, visitor.order) if visitor.capture else None
        return value, record

    def collapsed(self, family: Any, activation: Value, e: Value) -> Value:
        """The activation of a belief."""
        if not is_random(e) or self.visitor.order == 1:
            return activation
        if isinstance(activation, Curve) and activation.resolved:
            return activation  # its operations say enough
        x = settle(e, self.visitor.order)
        mean, variance = family.moments(x.mean, x.variance)[1]
        return Gaussian(jnp.asarray(mean, x.dtype), jnp.asarray(variance, x.dtype))

    def statistic(self, family: Any, e: Value) -> Value:
        dtype = mean_of(e).dtype
        if not is_random(e):
            mean, variance = family.mean(e), family.variance(e)
        elif self.visitor.order == 1:
            x = settle(e, 1)
            mean, slope = jax.jvp(family.activation, (x.mean,), (jnp.ones_like(x.mean),))
            variance = slope**2 * x.variance + family.variance(x.mean)
        else:
            x = settle(e, self.visitor.order)
            mean, variance = family.moments(x.mean, x.variance)[0]
        return Gaussian(jnp.asarray(mean, dtype), jnp.asarray(variance, dtype))

    # -- control flow: what crosses its bounds is an array or a Gaussian

    def enter(self, walk: Evaluator, eqn: Any, operands: Sequence[Any], frame: Frame) -> Results:
        unknown = next((x for x in operands if isinstance(x, Unknown)), None)
        if unknown is not None:
            raise unknown.error
        name = eqn.primitive.name
        if name in JIT or name in CUSTOM:
            custom = registry.rule_of_call(eqn) if any(map(is_random, operands)) else None
            if custom is not None:
                closed_over = called_function(eqn).num_consts
                given = operands[closed_over:]
                if any(map(is_random, given)) and not any(map(is_random, operands[:closed_over])):
                    return ruled(custom, eqn, given, self.visitor.order, {}), {}
            outs, records = walk.run(call_jaxpr(eqn), operands, walk.frames(eqn, frame)[0])
            if registry.is_call_of_jax(eqn, _SMOOTH_INSIDE_KINKS):
                outs = [_without_new_kink(out, operands) for out in outs]
            return outs, records
        implementation = walk.streams.implementation(eqn, frame.start)
        if implementation is not None:
            call = functools.partial(implementation, self.visitor.nodes)
            return ruled(call, eqn, operands, self.visitor.order, {}), {}
        settled = [settle(x, self.visitor.order) for x in operands]
        if name in ("scan", "while"):
            settled = [x.alone() if isinstance(x, Gaussian) else x for x in settled]
        return walk.enter(walk, eqn, settled, frame)

    def leave(self, outs: Sequence[Any]) -> list[Any]:
        settled = []
        for out in outs:
            if isinstance(out, Unknown):
                raise out.error
            out = settle(out, self.visitor.order)
            settled.append(out.alone() if isinstance(out, Gaussian) else out)
        return settled

    def stable(self, step: Callable[..., Any], carry: Sequence[Any], *rest: Any) -> list[Any]:
        def one(x: Any) -> Any:
            return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)

        carry, rest = list(carry), jax.tree.map(one, rest)
        while True:
            after = jax.eval_shape(lambda c, r: step(c, *r)[0], carry, rest)
            new = [_alike(c, isinstance(a, Gaussian)) for c, a in zip(carry, after, strict=True)]
            if all(n is c for n, c in zip(new, carry, strict=True)):
                return carry
            carry = new

    def alike(self, functions: Sequence[Any], operands: Sequence[Any]) -> Sequence[Any]:
        shapes = [jax.eval_shape(f, *operands)[0] for f in functions]
        uncertain = [
            any(isinstance(s, Gaussian) for s in same) for same in zip(*shapes, strict=True)
        ]

        def wrapped(function: Any) -> Any:
            def call(*operands: Any) -> Any:
                outs, records = function(*operands)
                return [_alike(o, u) for o, u in zip(outs, uncertain, strict=True)], records

            return call

        return [wrapped(f) for f in functions]


def _whole_number(variable: Any, value: Value) -> int | None:
    """A small exponent that is known while tracing, if it is a whole number."""
    if isinstance(variable, Constant):
        value = variable.val
    if is_random(value) or isinstance(value, Tracer) or np.ndim(value):
        return None
    number = float(value)
    return int(number) if number.is_integer() and abs(number) <= 64 else None


def _shifted(value: Value, shift: Any) -> Value:
    return replace(value, mean=value.mean + shift) if is_random(value) else value + shift


def _offsets(jaxpr: Any, nodes_in: Callable[[Any], int]) -> set[int]:
    """The equations for a largest value that only `stop_gradient` leads on from.

    As in softmax: it is subtracted so that nothing overflows, and added again, so that any number
    near it serves.
    """
    needed, found = {v for v in jaxpr.outvars if isinstance(v, Var)}, set()
    for eqn in reversed(jaxpr.eqns):
        is_node = eqn.primitive is node_p or nodes_in(eqn)
        if needed.isdisjoint(eqn.outvars) and not is_node:
            if eqn.primitive.name in EXTREMES:
                found.add(id(eqn))
        elif eqn.primitive.name != "stop_gradient":
            needed.update(v for v in eqn.invars if isinstance(v, Var))
    return found


def _uncertain(value: Any) -> bool:
    return is_random(value) or isinstance(value, Unknown)


def _alike(value: Value, uncertain: bool) -> Value:
    """A value as a Gaussian, of variance 0 if it is known, where it has to be one."""
    if not uncertain or is_random(value):
        return value
    value = jnp.asarray(value)
    return Gaussian(value, jnp.zeros_like(value))


# Smooth functions that are computed with a maximum, so that nothing overflows.
_SMOOTH_INSIDE_KINKS = frozenset(("logaddexp", "logaddexp2", "softplus"))


def _without_new_kink(value: Value, operands: Sequence[Value]) -> Value:
    return value.smoothed(operands) if isinstance(value, Curve) else value


def _alone(value: Value) -> Value:
    return value.alone() if isinstance(value, Gaussian) else value


_DATA = {
    "pad": slice(2),
    **dict.fromkeys(("concatenate", "stack"), slice(None)),
    "dynamic_update_slice": slice(2),
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter_add", "scatter-sub", "scatter_sub"), slice(0, None, 2)
    ),
}


def ruled(
    rule: Callable[..., Any], eqn: Any, operands: Sequence[Value], order: int, params: Any
) -> list[Value]:
    """The results of a rule that a user has registered, checked."""
    settled = _settled(operands, order)
    given = [Belief(x.mean, x.variance) if isinstance(x, Gaussian) else x for x in settled]
    outs = rule(*given, **params)
    outs = [outs] if isinstance(outs, Belief) or not isinstance(outs, list | tuple) else list(outs)
    name = getattr(rule, "__name__", "of a component")
    if len(outs) != len(eqn.outvars):
        raise TypeError(
            f"The moment rule {name!r} returned {len(outs)} values for {eqn.primitive.name!r}, "
            f"which has {len(eqn.outvars)} results."
        )
    values = []
    for out, v in zip(outs, eqn.outvars, strict=True):
        parts = list(out) if isinstance(out, Belief) else [out]
        parts = [jnp.asarray(a, v.aval.dtype) for a in parts]
        if any(a.shape != v.aval.shape for a in parts):
            raise TypeError(
                f"The moment rule {name!r} returned shapes {[a.shape for a in parts]} where the "
                f"result has shape {v.aval.shape}."
            )
        values.append(Gaussian(parts[0], parts[1]) if isinstance(out, Belief) else parts[0])
    return values


def _no_rule(name: str, where: str) -> NoMomentRuleError:
    return NoMomentRuleError(
        f"There is no rule for the mean and variance of `{name}`, used at {where}. Either "
        f"register one with `@cgjax.moment_rule(…)`, or accept a first-order approximation with "
        f"`cgjax.moments(net, first_order=[{name!r}])`."
    )


def linearised(eqn: Any, operands: Sequence[Value]) -> list[Gaussian]:
    """First-order moments of any differentiable primitive: f(m) and the sum of J_ij^2 v_j."""
    random = [i for i, x in enumerate(operands) if is_random(x)]

    def function(*values: Any) -> list[Any]:
        arguments = list(operands)
        for i, value in zip(random, values, strict=True):
            arguments[i] = value
        return bind(eqn, arguments)

    means = [operands[i].mean for i in random]
    outs, push = jax.linearize(function, *means)
    variances = [jnp.zeros_like(o) for o in outs]
    for k, i in enumerate(random):
        deviation = root(operands[i].variance).reshape(-1)

        def one(total: Any, j: Any, k: int = k, deviation: Any = deviation) -> tuple[Any, None]:
            direction = jnp.zeros_like(deviation).at[j].set(deviation[j])
            tangents = [jnp.zeros_like(m) for m in means]
            tangents[k] = direction.reshape(means[k].shape)
            moved = push(*tangents)
            return [t + d**2 for t, d in zip(total, moved, strict=True)], None

        variances, _ = jax.lax.scan(one, variances, jnp.arange(deviation.size))
    return [Gaussian(m, v) for m, v in zip(outs, variances, strict=True)]


def propagate(
    program: Program,
    visitor: Beliefs,
    arguments: Sequence[Any],
    shifts: Mapping[int, Any] | None = None,
) -> tuple[Any, Records]:
    """Walks a program with beliefs for some of its flat arguments.

    Args:
        program: the traced function.
        visitor: how to propagate.
        arguments: for each flat argument an array or a `Belief`.
        shifts: for some nodes, by index, what to add to the mean of the statistic, of its stacked
            shape. Such a node is settled: what follows takes it as a Gaussian of its own.

    Returns:
        The result with a `Belief` in place of each floating-point array, and for each node what is
        believed about its statistic, where `visitor.capture` asks for it.
    """
    domain = BeliefDomain(program, visitor)
    values = [Gaussian(x.mean, x.variance) if isinstance(x, Belief) else x for x in arguments]
    frame = Frame(domain, given=shifts or {})
    flat, records = evaluator(program, visitor).run(program.jaxpr, values, frame)
    flat = domain.leave(flat)
    results = [
        belief(x, visitor.order) if jnp.issubdtype(mean_of(x).dtype, jnp.floating) else x
        for x in flat
    ]
    return jax.tree.unflatten(program.out_tree, results), records
