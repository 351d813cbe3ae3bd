"""The largest of all that is written to one place of an array, as of the messages to a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs.largest import larger_of
from cgjax._beliefs.values import Gaussian, Value
from cgjax._program.jaxprs import aval

Rule = Callable[[JaxprEqn, Sequence[Value], int], Gaussian | None]


class _Axes(NamedTuple):
    """Along which axis the places lie in the array, and the updates in theirs; None for one."""

    places: int
    updates: int | None

    @classmethod
    def of(cls, eqn: JaxprEqn) -> _Axes | None:
        """None where places lie along several axes."""
        numbers = eqn.params["dimension_numbers"]
        places = numbers.scatter_dims_to_operand_dims
        if numbers.operand_batching_dims or len(places) != 1:
            return None
        rank = len(aval(eqn.invars[2]).shape)
        outer = [k for k in range(rank) if k not in numbers.update_window_dims]
        if numbers.inserted_window_dims != places or len(outer) > 1:
            return None
        return cls(places[0], outer[0] if outer else None)


def _largest(sign: int) -> Rule:
    def rule(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian | None:
        """One update after the other."""
        axes = _Axes.of(eqn)
        if axes is None:
            return None

        def updates_first(a: jax.Array) -> jax.Array:
            return a[None] if axes.updates is None else jnp.moveaxis(a, axes.updates, 0)

        array = jax.tree.map(lambda a: jnp.moveaxis(a, axes.places, 0), _certain(operands[0]))
        updates = jax.tree.map(updates_first, _certain(operands[2]))
        last, places = len(array.mean) - 1, jnp.asarray(operands[1]).reshape(len(updates.mean))
        if eqn.params["mode"] == lax.GatherScatterMode.CLIP:
            places = jnp.clip(places, 0, last)
        outside = (places < 0) | (places > last)

        def step(
            best: Gaussian, update: tuple[jax.Array, jax.Array, Gaussian]
        ) -> tuple[Gaussian, None]:
            place, ignored, x = update
            old = jax.tree.map(lambda a: a[place], best)
            new = _better(old, x, sign, order)
            new = jax.tree.map(lambda a, b: jnp.where(ignored, a, b), old, new)
            return jax.tree.map(lambda a, b: a.at[place].set(b), best, new), None

        best, _ = lax.scan(step, array, (jnp.clip(places, 0, last), outside, updates))
        return jax.tree.map(lambda a: jnp.moveaxis(a, 0, axes.places), best)

    return rule


def _certain(value: Value) -> Gaussian:
    """A value with independent elements, of variance 0 if it is known."""
    if isinstance(value, Gaussian):
        return value.alone()
    mean = jnp.asarray(value)
    return Gaussian(mean, jnp.zeros_like(mean))


def _better(best: Gaussian, here: Gaussian, sign: int, order: int) -> Gaussian:
    """The larger of two, where what is infinite stands for nothing, as before the first update."""
    empty, never = jnp.isinf(best.mean), jnp.isinf(here.mean)
    one = Gaussian(jnp.where(empty, 0, best.mean), best.variance)
    other = Gaussian(jnp.where(never, 0, here.mean), here.variance)
    won = larger_of(one, other, sign, order, together=False)
    return jax.tree.map(
        lambda a, b, c: jnp.where(never, a, jnp.where(empty, b, c)), best, here, won
    )


SCATTERED: dict[str, Rule] = {
    "scatter-max": _largest(1),
    "scatter_max": _largest(1),
    "scatter-min": _largest(-1),
    "scatter_min": _largest(-1),
}
