"""Perturbations of weights, and the random signs with which each example sees them.

A part of a value is a draw of noise with signs: example n sees each element of the noise times the
product of some signs of its own. Signs run along axes of the weight, and are followed through the
movement of its elements: into pieces, other shapes, other orders. Where an axis is lost, so are its
signs, and the others are enough to make examples uncorrelated; a part that has none left is given
one sign for each example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn
from jax.typing import DTypeLike

from cgjax._program.jaxprs import bind
from cgjax._program.primitives import facts
from cgjax._static import Leaf
from cgjax._walk.evaluate import Value
from cgjax._weight_noise.axes import (
    axis_after,
    keeps_order,
    of_integers,
    shape_of,
)
from cgjax._weight_noise.shared import zeros_elsewhere
from cgjax.kernels.random_bits import random_words, uniform


@dataclass(frozen=True, eq=False)
class Signs:
    """Random signs along one axis of a weight, for each example.

    Attributes:
        weight: the number of the weight, whose signs are the same wherever it is used.
        stream: the axis of the weight, counted from 1; 0 for one sign for the whole weight.
        size: how many signs an example has.
        at: the axis of the value that they run along; None for the whole value.
        positions: which of the signs each element of that axis has; None for all in order.
    """

    weight: int
    stream: int
    size: int
    at: int | None
    positions: Leaf = None

    def of(self, key: jax.Array, examples: int, dtype: DTypeLike) -> jax.Array:
        """Signs of shape (examples, elements along the axis), or (examples, 1)."""
        key = jax.random.fold_in(jax.random.fold_in(key, self.weight), self.stream)
        words = random_words(key, (examples, self.size))[0]
        signs = jnp.where(uniform(words) < 0.5, -1, 1).astype(dtype)
        return signs if self.positions is None else jnp.take(signs, self.positions, axis=1)


jax.tree_util.register_dataclass(
    Signs, data_fields=["positions"], meta_fields=["weight", "stream", "size", "at"]
)


@dataclass(frozen=True, eq=False)
class Part:
    """A draw of noise, which each example sees with its own signs."""

    noise: Leaf
    signs: tuple[Signs, ...]


jax.tree_util.register_dataclass(Part, data_fields=["noise", "signs"], meta_fields=[])


@dataclass(frozen=True, eq=False)
class Perturbed:
    """A value with perturbations, of one weight or of several.

    Attributes:
        mean: its mean.
        parts: the perturbations.
        weights: the arguments whose perturbations they are.
    """

    mean: Leaf
    parts: tuple[Part, ...]
    weights: frozenset[int]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.mean.shape

    def spread(self, shape: tuple[int, ...]) -> Perturbed:
        """The value for each element of an array that it is broadcast against."""
        if self.shape == shape or self.mean.ndim != len(shape):
            return self

        def signs(own: Signs) -> Signs:
            if own.at is None or self.shape[own.at] == shape[own.at]:
                return own
            first = 0 if own.positions is None else own.positions
            return replace(own, positions=jnp.broadcast_to(first, (shape[own.at],)))

        parts = [
            Part(jnp.broadcast_to(p.noise, shape), tuple(map(signs, p.signs))) for p in self.parts
        ]
        return replace(self, mean=jnp.broadcast_to(self.mean, shape), parts=tuple(parts))


jax.tree_util.register_dataclass(Perturbed, data_fields=["mean", "parts"], meta_fields=["weights"])


def perturbed(weight: int, mean: jax.Array, noise: jax.Array) -> Perturbed:
    """A weight with a perturbation, and signs along each of its axes."""
    signs = tuple(Signs(weight, 1 + a, n, a) for a, n in enumerate(mean.shape))
    return Perturbed(mean, (Part(noise, signs or (whole(weight),)),), frozenset((weight,)))


def behind(value: Perturbed, axes: int) -> Perturbed:
    """A value with new axes of size 1 in front."""

    def signs(own: Signs) -> Signs:
        return own if own.at is None else replace(own, at=own.at + axes)

    def moved(x: jax.Array) -> jax.Array:
        return x.reshape((1,) * axes + x.shape)

    parts = tuple(Part(moved(p.noise), tuple(map(signs, p.signs))) for p in value.parts)
    return replace(value, mean=moved(value.mean), parts=parts)


def whole(weight: int) -> Signs:
    """One sign for each example."""
    return Signs(weight, 0, 1, None)


def along(array: jax.Array, signs: jax.Array, example: int, at: int | None) -> jax.Array:
    """An array times signs of shape (examples, n), which run along two of its axes.

    Args:
        array: the array.
        signs: the signs.
        example: the axis of the examples.
        at: the axis of the n signs of an example; None for one sign each.
    """
    shape = [1] * array.ndim
    shape[example] = array.shape[example]
    if at is not None:
        shape[at] = array.shape[at]
        signs = signs if example < at else signs.T
    return array * signs.reshape(shape)


def of_one(key: jax.Array | None, value: Perturbed) -> jax.Array:
    """A value as one example sees it, or all of them if they share a key."""
    out = value.mean
    for part in value.parts:
        noise = part.noise
        if key is not None:
            for signs in part.signs:
                own = signs.of(key, 1, noise.dtype)
                at = None if signs.at is None else signs.at + 1
                noise = along(noise[None], own, 0, at)[0]
        out = out + noise
    return out


def by_example(key: jax.Array, value: Perturbed, example: int) -> jax.Array:
    """A value of which each example sees its own row along an axis."""
    out = value.mean
    for part in value.parts:
        noise = part.noise
        for signs in part.signs:
            if signs.at != example:
                own = signs.of(key, noise.shape[example], noise.dtype)
                noise = along(noise, own, example, signs.at)
        out = out + noise
    return out


def after(eqn: JaxprEqn, operands: Sequence[Value], operand: int, part: Part) -> list[Part]:
    """The results of an operation that is linear in an operand, for a part of that.

    Args:
        eqn: the equation.
        operands: its operands: the means in place of perturbed ones.
        operand: which of the operands the part belongs to.
        part: the part.
    """
    known, number = facts(eqn), len(operands)
    jointly = known.is_linear([known.is_data(k, number) for k in range(number)])
    if known.bilinear or not jointly:
        values = list(operands)  # the factors, or a divisor
        values[operand] = part.noise
    else:
        values = zeros_elsewhere(eqn, operands, {operand: part.noise}, part.noise.dtype)
    outs = bind(eqn, values)
    if len(outs) == 1:
        return [Part(outs[0], signs_after(eqn, operands, operand, 0, part.signs))]
    return [
        Part(noise, signs_after(eqn, operands, operand, k, part.signs))
        for k, noise in enumerate(outs)
    ]


def signs_after(
    eqn: JaxprEqn, operands: Sequence[Value], operand: int, out: int, signs: Sequence[Signs]
) -> tuple[Signs, ...]:
    """The signs of the result of an operation that is linear in an operand."""
    found = []
    for own in signs:
        at = None if own.at is None else axis_after(eqn, operand, own.at)
        if own.at is None:
            found.append(own)
        elif at is not None and _fits(eqn, operand, out, own.at, at):
            positions = _positions(eqn, operands, operand, out, own, at)
            found.append(replace(own, at=at, positions=positions))
    return tuple(found) or tuple({s.weight: whole(s.weight) for s in signs}.values())


def _fits(eqn: JaxprEqn, operand: int, out: int, axis: int, at: int) -> bool:
    """Whether it is known which elements along an axis are which."""
    before, after = shape_of(eqn.invars[operand])[axis], shape_of(eqn.outvars[out])[at]
    return not keeps_order(eqn) or before in (1, after)


def _positions(
    eqn: JaxprEqn, operands: Sequence[Value], operand: int, out: int, own: Signs, at: int
) -> Value:
    """Which signs the elements along an axis have after a movement."""
    shape, size = shape_of(eqn.invars[operand]), shape_of(eqn.outvars[out])[at]
    assert own.at is not None  # signs of the whole have no positions
    if keeps_order(eqn):
        if shape[own.at] == size:
            return own.positions
        return jnp.broadcast_to(0 if own.positions is None else own.positions, (size,))
    here = jnp.arange(shape[own.at]) if own.positions is None else own.positions
    spread = [1] * len(shape)
    spread[own.at] = shape[own.at]
    there = jnp.broadcast_to(here.reshape(spread).astype(jnp.int32), shape)
    number = len(operands)
    values = [
        there
        if k == operand
        else jnp.full(shape_of(v), -1, jnp.int32)
        if facts(eqn).is_data(k, number)
        else operands[k]
        for k, v in enumerate(eqn.invars)
    ]
    moved = bind(of_integers(eqn), values)[out]
    # What does not come from the weight has no noise, and any sign serves.
    return jnp.maximum(moved.max([a for a in range(moved.ndim) if a != at]), 0)
