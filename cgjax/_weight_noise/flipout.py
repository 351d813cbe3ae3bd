"""Flipout: one perturbation of the weights for all examples, with random signs for each.

Example n sees the weight mean + noise * (r_n s_n^T), with random signs r and s along its axes. The
signs belong to the axes of a weight, so that an example sees one weight wherever, and at whichever
step of a loop, it is used. A product takes them apart: x @ w = x @ mean + ((x * r) @ noise) * s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._gaussian.numerics import root
from cgjax._program.control import Scan, control
from cgjax._program.jaxprs import bind, source
from cgjax._program.primitives import facts
from cgjax._program.program import Program
from cgjax._static import Function, Tree
from cgjax._walk import Records, Results
from cgjax._walk.evaluate import Value
from cgjax._weight_noise.axes import (
    argument_names,
    axis_after,
    examples_of,
    is_paired,
    shape_of,
)
from cgjax._weight_noise.shared import Passage, WeightNoise, normal, passage, walked
from cgjax._weight_noise.signs import (
    Part,
    Perturbed,
    Signs,
    after,
    along,
    behind,
    by_example,
    of_one,
    perturbed,
    signs_after,
    whole,
)
from cgjax.nodes import Belief


@dataclass(frozen=True)
class FlippedNoise(WeightNoise):
    """Values of which some are perturbed.

    Attributes:
        key: that all signs derive from.
        one: the key of the signs of one example, in a loop over the examples.
    """

    kind = Perturbed
    method = "Flipout"
    counts_turns = True

    key: jax.Array
    one: jax.Array | None = None

    def turn(self, turn: jax.Array | None, length: int | None) -> FlippedNoise:
        """The domain in one turn of a loop, which may be one of the examples."""
        if not self.examples.are_turns(self.within):
            return self
        assert turn is not None  # turns are counted
        return replace(self, one=jax.random.fold_in(self.key, turn))

    def weights_in(self, value: Perturbed) -> frozenset[int]:
        """The weights that all examples share."""
        return value.weights if self.one is None else frozenset()

    def drawn(self, values: Sequence[Value], eqn: JaxprEqn) -> list[Value]:
        """Values as all examples see them, or each its own where they are spread over examples."""
        if not facts(eqn).elementwise:
            return [of_one(self.one, x) if self.is_noisy(x) else x for x in values]
        example, shape = self.examples.axis(eqn.outvars[0]), shape_of(eqn.outvars[0])
        return [self.seen(x.spread(shape), example) if self.is_noisy(x) else x for x in values]

    def seen(self, value: Perturbed, example: int | None) -> jax.Array:
        """A value as an array, given the axis of the examples."""
        if example is None or value.mean.ndim <= example:
            return of_one(self.one, value)
        return by_example(self.key, value, example)

    def of_each(
        self, eqn: JaxprEqn, operand: int, value: Perturbed, rank: int, axis: int | None, size: int
    ) -> jax.Array:
        """A parameter of nodes whose elements touch: as each example sees it."""
        if axis is None:
            return self.seen(value, None)
        before = rank - value.mean.ndim
        shape = [1] * before + list(value.shape)
        each = tuple(max(n, size) if a == axis else n for a, n in enumerate(shape))
        return by_example(self.key, behind(value, before).spread(each), axis)

    def rule(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value] | None:
        """The results of an equation that perturbations pass through."""
        noisy = [k for k, x in enumerate(operands) if self.is_noisy(x)]
        way = passage(eqn, [self.is_noisy(x) for x in operands])
        if way is None or (way == "product" and not _is_understood(eqn, noisy[0])):
            return None
        data = [v for v in eqn.outvars if self.examples.is_data(v)]
        if way == "product" and data and len(noisy) == 1:
            return [self.product(eqn, operands, noisy[0])]
        outs = _results(eqn, operands, noisy, way)
        if not data:
            return outs
        return [
            self.seen(x, self.examples.axis(v))
            if self.is_noisy(x) and self.examples.is_data(v)
            else x
            for x, v in zip(outs, eqn.outvars, strict=True)
        ]

    # -- products with data

    def product(self, eqn: JaxprEqn, operands: Sequence[Value], side: int) -> jax.Array:
        """A matrix product or a convolution of a weight and data."""
        weight, data = operands[side], operands[1 - side]
        axis = self.examples.axis(eqn.invars[1 - side])
        example = None if axis is None or data.ndim < 2 else axis_after(eqn, 1 - side, axis)
        if example is None or axis is None:
            if axis is not None and data.ndim > 1:
                self.warn(weight.weights, f"the product at {source(eqn)} sums over the examples")
            return self.bilinear(eqn, operands, side, of_one(self.one, weight), data)
        out = self.bilinear(eqn, operands, side, weight.mean, data)
        for part in weight.parts:
            out = out + self.flipped(eqn, operands, side, part, (axis, example))
        return out

    def bilinear(
        self, eqn: JaxprEqn, operands: Sequence[Value], side: int, weight: Value, data: Value
    ) -> jax.Array:
        """The product with other values for the weight and the data."""
        values = list(operands)
        values[side], values[1 - side] = weight, data
        return bind(eqn, values)[0]

    def flipped(
        self,
        eqn: JaxprEqn,
        operands: Sequence[Value],
        side: int,
        part: Part,
        examples: tuple[int, int],
    ) -> jax.Array:
        """The product of one perturbation, with signs before and after it.

        Args:
            eqn: the equation.
            operands: its operands.
            side: which of them is the weight.
            part: the perturbation.
            examples: the axis of the examples in the data, and in the result.
        """
        data, (axis, example) = operands[1 - side], examples
        later = []
        for signs in part.signs:
            own = signs.of(self.key, data.shape[axis], data.dtype)
            at, repeats = _met(eqn, side, signs.at)
            if at is not None:
                data = along(data, jnp.tile(own, (1, repeats)), axis, at)
            elif signs.at is None:
                later.append((own, None))
            elif (to := axis_after(eqn, side, signs.at)) is not None and to != example:
                later.append((own, to))
        noise = self.bilinear(eqn, operands, side, part.noise, data)
        for own, to in later:
            noise = along(noise, own, example, to)
        return noise

    # -- control flow

    def entering(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        """What enters a loop: its rows have lost the leading axis."""
        part = control(eqn, operands)
        if isinstance(part, Scan):
            xs = [_as_rows(x) if self.is_noisy(x) else x for x in part.xs]
            operands = [*part.consts, *part.carry, *xs]
        return super().entering(eqn, operands)

    def leave(self, outs: Sequence[Value]) -> list[Value]:
        """Weights leave as they are, where that is possible; all examples share the others."""
        stays = self.stays(len(outs))
        if self.within is not None and isinstance(
            part := control(self.within, self.within.invars), Scan
        ):
            stays[len(part.carry) :] = [False] * (len(outs) - len(part.carry))
        return [
            of_one(self.one, x) if self.is_noisy(x) and not stay else x
            for x, stay in zip(outs, stays, strict=True)
        ]

    def alike(self, functions: Sequence[Function], operands: Sequence[Value]) -> Sequence[Function]:
        """Branches that return the parts of all, nothing in place of those of the others."""
        forms = [jax.eval_shape(f, *operands)[0] for f in functions]
        places = [any(map(self.is_noisy, outs)) for outs in zip(*forms, strict=True)]

        def wrapped(number: int, function: Function) -> Function:
            def call(*operands: Value) -> Results:
                outs, records = function(*operands)
                return [
                    _among(out, number, [form[k] for form in forms]) if noisy else out
                    for k, (out, noisy) in enumerate(zip(outs, places, strict=True))
                ], records

            return call

        return [wrapped(number, f) for number, f in enumerate(functions)]


def _among(out: Value, number: int, forms: Sequence[Value]) -> Perturbed:
    """A branch's result with the parts that the other branches' results have."""
    parts: list[Part] = []
    for other, form in enumerate(forms):
        if isinstance(form, Perturbed):
            own = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), form.parts)
            parts += out.parts if other == number else own
    weights = frozenset().union(*(f.weights for f in forms if isinstance(f, Perturbed)))
    mean = out.mean if isinstance(out, Perturbed) else jnp.asarray(out)
    return Perturbed(mean, tuple(parts), weights)


def _results(
    eqn: JaxprEqn, operands: Sequence[Value], noisy: Sequence[int], way: Passage
) -> list[Value]:
    """The results of an operation that is linear in its perturbed operands, or in each of them."""
    means = [x.mean if isinstance(x, Perturbed) else x for x in operands]
    outs = bind(eqn, means)
    parts: list[list[Part]] = [[] for _ in outs]
    for k in noisy:
        for part in operands[k].parts:
            if is_paired(eqn):
                parts[k].append(Part(bind(eqn, [part.noise])[0], part.signs))
                continue
            for found, new in zip(parts, after(eqn, means, k, part), strict=True):
                found.append(new)
    if way in ("scaled", "product") and len(noisy) > 1:
        parts[0] += _both(eqn, operands)
    weights = frozenset().union(*(operands[k].weights for k in noisy))
    return [
        Perturbed(out, tuple(found), weights) if found else out
        for out, found in zip(outs, parts, strict=True)
    ]


def _both(eqn: JaxprEqn, operands: Sequence[Value]) -> list[Part]:
    """The products of the perturbations of two weights."""
    x, y, *rest = operands
    return [
        Part(
            bind(eqn, [one.noise, other.noise, *rest])[0],
            signs_after(eqn, operands, 0, 0, one.signs)
            + signs_after(eqn, operands, 1, 0, other.signs),
        )
        for one in x.parts
        for other in y.parts
    ]


def _is_understood(eqn: JaxprEqn, side: int) -> bool:
    """Whether it is known which elements of a product a weight's are met by."""
    if eqn.primitive is lax.conv_general_dilated_p:
        return side == 1 and eqn.params["batch_group_count"] == 1
    return eqn.primitive is lax.dot_general_p


def _met(eqn: JaxprEqn, side: int, axis: int | None) -> tuple[int | None, int]:
    """The data's axis that a weight's is summed with, and how often it runs along that."""
    numbers = eqn.params["dimension_numbers"]
    if eqn.primitive is lax.conv_general_dilated_p:
        is_met = axis == numbers.rhs_spec[1]
        return (numbers.lhs_spec[1] if is_met else None), eqn.params["feature_group_count"]
    contract = numbers[0]
    return (contract[1 - side][contract[side].index(axis)] if axis in contract[side] else None), 1


def _as_rows(x: Perturbed) -> Perturbed:
    """A perturbed value whose rows are taken one by one: the signs along its rows are lost."""
    length = x.mean.shape[0]

    def row(signs: Signs) -> Signs:
        if signs.at is None:
            return signs
        positions = signs.positions
        if positions is not None:
            positions = jnp.broadcast_to(positions, (length, *positions.shape))
        return replace(signs, at=signs.at - 1, positions=positions)

    parts = [
        Part(p.noise, tuple(row(s) for s in p.signs if s.at != 0) or (whole(p.signs[0].weight),))
        for p in x.parts
    ]
    return replace(x, parts=tuple(parts))


def flipout(
    program: Program, capture: bool, key: jax.Array, arguments: Sequence[Value]
) -> tuple[Tree, Records]:
    """Walks a program with beliefs for some of its flat arguments by flipout; see `local_noise`."""
    names = argument_names(program)
    signs = jax.random.fold_in(key, 0)
    domain = FlippedNoise(tuple(name for _, name in names), examples_of(program), signs)
    values = []
    for i, x in enumerate(arguments):
        if isinstance(x, Belief):
            own = jax.random.fold_in(jax.random.fold_in(key, 1), i)
            noise = root(x.variance) * normal(own, x.mean)
            is_weight, _ = names[i]
            x = perturbed(i, x.mean, noise) if is_weight else x.mean + noise
        values.append(x)
    return walked(domain, program, capture, values)
