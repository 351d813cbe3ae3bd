"""The domain of beliefs: what the walk hands on in place of arrays, into calls and loops too."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Var

from cgjax._beliefs import registry
from cgjax._beliefs.curves import Curve
from cgjax._beliefs.curves.joint import apart
from cgjax._beliefs.known import knowing, of_arrays
from cgjax._beliefs.linked import without_link
from cgjax._beliefs.loops import entering, handed_on, started
from cgjax._beliefs.maps import Complex, as_linear, is_complex
from cgjax._beliefs.parameters import Parameters
from cgjax._beliefs.rules import results, ruled
from cgjax._beliefs.settings import Beliefs, NoMomentRuleError, Place, Unknown
from cgjax._beliefs.values import Exact, Gaussian, Value, belief, is_random, mean_of, settle
from cgjax._node import node_p
from cgjax._program import ranges
from cgjax._program.called import called_function
from cgjax._program.control import Call, Scan, While, control
from cgjax._program.jaxprs import AnyJaxpr, open_jaxpr, sub_jaxprs
from cgjax._program.live import unneeded
from cgjax._program.mixtures import as_mixtures
from cgjax._program.primitives import facts
from cgjax._program.program import Program
from cgjax._program.repeats import without_repeats
from cgjax._program.shifts import cancelling
from cgjax._walk import Domain, Evaluator, Frame, Results
from cgjax.nodes import Belief

# What the walk hands on.
Held = Value | Unknown
# A branch, as a function of its operands.
Part = Callable[..., Results]


@dataclass(frozen=True)
class BeliefDomain(Domain):
    """Values that beliefs are held about.

    Attributes:
        program: the traced function.
        visitor: how beliefs are propagated.
        calls: the equations that the walk is inside of, outermost first.
        offsets: the largest values that are constants, by id of equation.
        fixed: the arrays that are the same at all steps of the loop that the walk is in, by id.
        given: between which numbers the arguments of what is entered lie; None if not known.
        ranges: between which numbers values lie, where the program says so.
    """

    program: Program
    visitor: Beliefs
    calls: tuple[JaxprEqn, ...] = ()
    offsets: frozenset[int] = frozenset()
    fixed: frozenset[int] = frozenset()
    given: tuple[ranges.Range, ...] | None = None
    ranges: Mapping[Var, ranges.Range] = field(default_factory=dict)

    def simplified(self, jaxpr: Jaxpr, nodes_in: Callable[[JaxprEqn], int]) -> Jaxpr:
        def kept(eqn: JaxprEqn) -> bool:
            # Of two functions that are computed alike, the derivatives may be others.
            custom = facts(eqn).call == "custom"
            return eqn.primitive is node_p or custom or nodes_in(eqn) > 0

        return as_mixtures(without_repeats(jaxpr, kept))

    def scope(self, jaxpr: AnyJaxpr, constants: Sequence[object]) -> BeliefDomain:
        def nodes_in(eqn: JaxprEqn) -> int:
            return sum(self.program.counts[id(open_jaxpr(sub))] for sub in sub_jaxprs(eqn))

        inner, given = open_jaxpr(jaxpr), self.given
        if given is None or len(given) != len(inner.invars):
            given = (ranges.ANY,) * len(inner.invars)
        signs = map(ranges.of_constant, constants)
        if not self.calls:  # those of the network itself are arguments of what is compiled
            signs = (
                ranges.from_zero(k in self.visitor.not_negative) for k in range(len(constants))
            )
        known = ranges.ranges(inner, given, list(signs))
        return replace(self, offsets=frozenset(_offsets(inner, nodes_in)), ranges=known)

    def bound(self, variables: Sequence[Var], values: Sequence[Held]) -> list[Held]:
        pairs = zip(variables, values, strict=True)
        return [knowing(x, self.ranges.get(v, ranges.ANY)) for v, x in pairs]

    def skipped(self, jaxpr: Jaxpr) -> frozenset[int]:
        return unneeded(jaxpr)

    def inside(self, eqn: JaxprEqn, part: int) -> BeliefDomain:
        given = ranges.inside(eqn, [ranges.of(v, self.ranges) for v in eqn.invars])
        given = None if given is None else tuple(given)
        return replace(self, calls=(*self.calls, eqn), given=given)

    def enters(self, eqn: JaxprEqn, operands: Sequence[Held]) -> bool:
        return facts(eqn).entered and any(map(_uncertain, operands))

    def compute(self, eqn: JaxprEqn, operands: Sequence[Held]) -> list[Held]:
        unknown = next((x for x in operands if isinstance(x, Unknown)), None)
        if unknown is not None:
            return [unknown] * len(eqn.outvars)
        if not any(map(is_random, operands)):
            return of_arrays(eqn, operands)
        least = min(ranges.of(v, self.ranges).low for v in eqn.invars)
        place = Place(self.calls, id(eqn) in self.offsets, least >= 0)
        return results(eqn, operands, self.visitor, place)

    # -- nodes

    def node(
        self, walk: Evaluator, eqn: JaxprEqn, operands: Sequence[Held], frame: Frame
    ) -> tuple[Held, Belief | None]:
        index, given = frame.start, frame.given
        site, visitor = self.program.sites[index], self.visitor
        activation, e, *rest = (without_link(x) for x in operands)
        drawn = visitor.nodes == "random" and site.kind != "observe"
        touching = site.family_type.touching is not None
        unknown = next((x for x in (e, *rest) if isinstance(x, Unknown)), None)
        if unknown is not None:
            # Of what is known, the activation needs nothing else.
            value = unknown if drawn or touching or _uncertain(e) else activation
        else:
            rest = [settle(x, visitor.order) for x in rest[: site.family.num_arrays]]
            parameters = Parameters(site.family, rest, visitor.positions)
            whole = self.of_touching if touching else functools.partial(self.collapsed, activation)
            value = (self.statistic if drawn else whole)(parameters, e)
        if isinstance(value, Unknown) and (index in given or visitor.capture):
            raise value.error
        if index in given:
            value = _shifted(settle(value, visitor.order), given[index])
        record = belief(value, visitor.order) if visitor.capture else None
        return value, record

    def collapsed(self, activation: Value, parameters: Parameters, e: Value) -> Value:
        """The activation of a belief."""
        if not is_random(e) or self.visitor.order == 1:
            return activation
        if isinstance(activation, Curve) and activation.resolved:
            return activation  # its operations say enough
        x = settle(e, self.visitor.order)
        moments = parameters.family.moments(x.mean, x.variance)[1]
        return _in_dtype(parameters.added("activation", x.mean, *moments), x.dtype)

    def of_touching(self, parameters: Parameters, e: Value) -> Value:
        """The activation of nodes whose elements touch, whose operations are not followed."""
        x, family = settle(e, self.visitor.order), parameters.family
        if not is_random(x):
            activation = family.activation(x)
            if not parameters.random:
                return activation
            mean = jnp.asarray(x)
            moments = Belief(activation, jnp.zeros_like(activation))
        else:
            mean, moments = x.mean, family.moments(x.mean, x.variance)[1]
        return _in_dtype(parameters.added("activation", mean, *moments), x.dtype)

    def statistic(self, parameters: Parameters, e: Value) -> Value:
        """The statistic of a belief, with the noise of the node itself."""
        x, family = settle(e, self.visitor.order), parameters.family
        if family.touching is not None:
            # Indicators: their variance follows from their means.
            mean, variance = family.moments(*_moments_of(x))[0]
        elif not is_random(x):
            mean, variance = family.mean(x), family.variance(x)
        elif self.visitor.order == 1:
            mean, slope = jax.jvp(family.activation, (x.mean,), (jnp.ones_like(x.mean),))
            variance = slope**2 * x.variance + family.variance(x.mean)
        else:
            mean, variance = family.moments(x.mean, x.variance)[0]
        if family.touching is None and parameters.random:
            at = jnp.asarray(mean_of(x))
            return _in_dtype(parameters.added("mean", at, mean, variance), x.dtype)
        return _in_dtype(Gaussian(mean, variance), x.dtype)

    # -- control flow: what crosses its bounds is an array or a Gaussian

    def enter(
        self, walk: Evaluator, eqn: JaxprEqn, operands: Sequence[Held], frame: Frame
    ) -> Results:
        unknown = next((x for x in operands if isinstance(x, Unknown)), None)
        if unknown is not None:
            raise unknown.error
        record = control(eqn, operands)
        if isinstance(record, Call) and record.kind in ("jit", "custom"):
            custom = registry.rule_of_call(eqn) if any(map(is_random, operands)) else None
            if custom is not None:
                closed_over = called_function(eqn).closed_over
                given = operands[closed_over:]
                if any(map(is_random, given)) and not any(map(is_random, operands[:closed_over])):
                    return ruled(custom, eqn, given, self.visitor.order, {}), {}
            smooth = registry.is_call_of_jax(eqn, _SMOOTH_INSIDE_KINKS)
            if smooth and self.visitor.order != 1:
                operands = apart(operands)
            outs, records = walk.run(record.body, operands, walk.frames(eqn, frame)[0])
            if smooth:
                outs = [_without_new_kink(out, operands) for out in outs]
            return outs, records
        implementation = walk.streams.implementation(eqn, frame.start)
        if implementation is not None:
            call = functools.partial(implementation, self.visitor.nodes)
            return ruled(call, eqn, operands, self.visitor.order, {}), {}
        settled = [self.crossing(x) for x in operands]
        if isinstance(record, Scan | While):
            settled, fixed = entering(eqn, settled)
            frame = replace(frame, domain=replace(self, fixed=fixed))
        return walk.enter(walk, eqn, settled, frame)

    def crossing(self, value: Held) -> Value:
        """A value as a pytree of arrays, which loops and branches can carry."""
        if isinstance(value, Unknown):
            raise value.error
        if not is_random(value) or not is_complex(value):
            return settle(value, self.visitor.order)
        known = as_linear(value, self.visitor.order)
        if known is None:
            raise NoMomentRuleError(
                f"There is no rule for complex values of shape {value.shape} that are no linear "
                "function of an uncertain array, where they leave a loop, a branch or the network. "
                "Compute their real parts, imaginary parts or absolute values inside, or register "
                "a rule with `@cgjax.moment_rule(…)` for the function that makes them."
            )
        return known.settled(self.visitor.order)

    def leave(self, outs: Sequence[Held]) -> list[Value]:
        settled = [self.crossing(out) for out in outs]
        return [x.alone() if isinstance(x, Gaussian) else x for x in settled]

    def turned(self, outs: Sequence[Held], carried: int) -> list[Value]:
        settled = self.leave(outs)
        if self.visitor.order == 1 or not self.visitor.positions:
            return settled
        known = handed_on(outs[:carried], settled[:carried], self.fixed)
        return [*known, *settled[carried:]]

    def stable(
        self,
        step: Callable[..., tuple[Sequence[Value], object]],
        carry: Sequence[Value],
        *rest: Exact,
    ) -> list[Value]:
        def one(x: Exact) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)

        carry, rest = list(carry), jax.tree.map(one, rest)
        while True:
            after = jax.eval_shape(lambda c, r: step(c, *r)[0], carry, rest)
            new = [started(_alike(c, is_random(a)), a) for c, a in zip(carry, after, strict=True)]
            if all(n is c for n, c in zip(new, carry, strict=True)):
                return carry
            carry = new

    def alike(self, functions: Sequence[Part], operands: Sequence[Value]) -> Sequence[Part]:
        shapes = [jax.eval_shape(f, *operands)[0] for f in functions]
        uncertain = [any(map(is_random, same)) for same in zip(*shapes, strict=True)]

        def wrapped(function: Part) -> Part:
            def call(*operands: Value) -> Results:
                outs, records = function(*operands)
                return [_alike(o, u) for o, u in zip(outs, uncertain, strict=True)], records

            return call

        return [wrapped(f) for f in functions]


def _moments_of(value: Gaussian | Exact) -> tuple[jax.Array, jax.Array]:
    """Mean and variance; of what is known the latter is 0."""
    mean = jnp.asarray(mean_of(value))
    return mean, value.variance if isinstance(value, Gaussian) else jnp.zeros_like(mean)


def _in_dtype(value: Gaussian, dtype: np.dtype) -> Gaussian:
    """A belief in the dtype of the network."""
    return jax.tree.map(lambda array: jnp.asarray(array, dtype), value)


def _shifted(value: Value, shift: jax.Array) -> Value:
    return replace(value, mean=value.mean + shift) if is_random(value) else value + shift


def _offsets(jaxpr: Jaxpr, nodes_in: Callable[[JaxprEqn], int]) -> set[int]:
    """The equations for a largest value that cancels, or that only `stop_gradient` leads on from.

    As in softmax: it is subtracted so that nothing overflows, and added again, so that any number
    near it serves.
    """
    needed = {v for v in jaxpr.outvars if isinstance(v, Var)}
    found = {id(eqn) for eqn in cancelling(jaxpr)}
    for eqn in reversed(jaxpr.eqns):
        is_node = eqn.primitive is node_p or nodes_in(eqn)
        if needed.isdisjoint(eqn.outvars) and not is_node:
            if facts(eqn).reduces in ("largest", "smallest"):
                found.add(id(eqn))
        elif eqn.primitive.name != "stop_gradient":
            needed.update(v for v in eqn.invars if isinstance(v, Var))
    return found


def _uncertain(value: Held) -> bool:
    return is_random(value) or isinstance(value, Unknown)


def _alike(value: Value, uncertain: bool) -> Value:
    """A value as a Gaussian, of variance 0 if it is known, where it has to be one."""
    if not uncertain or is_random(value):
        return value
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        return Complex.certain(value)
    return Gaussian(value, jnp.zeros_like(value))


# Smooth functions that are computed with a maximum, so that nothing overflows.
_SMOOTH_INSIDE_KINKS = frozenset(("logaddexp", "logaddexp2", "softplus"))


def _without_new_kink(value: Value, operands: Sequence[Value]) -> Value:
    return value.smoothed(operands) if isinstance(value, Curve) else value
