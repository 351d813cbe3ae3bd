"""Products of an affine function of a Gaussian and of a function of sums, as normalisations are.

Of y = T(A(x, R) h(R)), with A and T affine and sums R, the derivatives that an expansion needs
follow from those of h, which has few elements and few operations:

    G = A h     G_r = A_r h + A h_r     G_rs = A_r h_s + A_s h_r + A h_rs     G_x = A_x h
                                        G_xr = A_x h_r

Differentiated as they are written, all of them would repeat all operations; and the gradient of the
moments would differentiate them once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves.compose import applied
from cgjax._program.primitives import facts

if TYPE_CHECKING:
    from cgjax._beliefs.group_sums import Sum
    from cgjax._beliefs.grouped import Grouped

# An operation on the product, which stands where there is no array.
After = tuple[JaxprEqn, tuple["jax.Array | None", ...]]


@dataclass(frozen=True, eq=False)
class Scaled:
    """A product, in one refined shape.

    Attributes:
        affine: A.
        scale: a function of sums alone: h, or 1 / h.
        divides: whether it is 1 / h.
        after: the operations of T.
    """

    affine: Grouped
    scale: Grouped
    divides: bool
    after: tuple[After, ...] = ()

    def in_shape(
        self, of: Callable[[Grouped], Grouped], finer: Callable[[jax.Array], jax.Array]
    ) -> Scaled:
        """The same with axes cut finer."""
        after = tuple((e, tuple(a if a is None else finer(a) for a in x)) for e, x in self.after)
        return replace(self, affine=of(self.affine), scale=of(self.scale), after=after)

    def h(self, values: dict[Sum, jax.Array]) -> jax.Array:
        """h of values of the sums."""
        found = self.scale.function(jnp.zeros(()), values)
        return 1 / found if self.divides else found

    def t(self, product: jax.Array) -> jax.Array:
        """T of values of the product."""
        for eqn, arrays in self.after:
            values = [product if a is None else a for a in arrays]
            product = applied(eqn, jnp.broadcast_arrays(*values))
        return product


def scaled(eqn: JaxprEqn, operands: Sequence[Grouped | jax.Array]) -> Scaled | None:
    """What an operation makes of such products, or of the factors of one.

    Args:
        eqn: the operation.
        operands: values and arrays of one refined shape.
    """
    groups = [x for x in operands if not isinstance(x, jax.Array)]
    if len(groups) == 1 and groups[0].scaled is not None:
        found = groups[0].scaled
        if not facts(eqn).is_linear([x is groups[0] for x in operands]):
            return None
        arrays = tuple(None if x is groups[0] else x for x in operands)
        return replace(found, after=(*found.after, (eqn, arrays)))
    if len(groups) != 2 or len(operands) != 2 or eqn.primitive not in (lax.mul_p, lax.div_p):
        return None
    one, other = groups
    if eqn.primitive is lax.mul_p and one.alone:
        one, other = other, one
    if not one.affine or one.alone or not other.alone:
        return None
    return Scaled(one, other, eqn.primitive is lax.div_p)


class Derivatives:
    """Of a product near the means: all of what is above, times the slope of T.

    Args:
        of: the product.
        mean: of the root, in the refined shape.
        sums: the sums, and the values at which it is expanded.
    """

    def __init__(
        self, of: Scaled, mean: jax.Array, sums: Sequence[Sum], values: Sequence[jax.Array]
    ) -> None:
        self._sums, self._values = sums, dict(zip(sums, values, strict=True))
        self._of, self._mean = of, mean
        self._h = of.h(self._values)
        self._first = {s: self._scale_by(s, self._values) for s in of.scale.sums}
        self._second = {}
        self._affine = of.affine.function(mean, self._values)
        self._by = {s: self._affine_by(s) for s in of.affine.sums}
        self._by_root = self._slope(lambda x: of.affine.function(x, self._values), mean)
        product = jnp.broadcast_to(self._affine * self._h, mean.shape)
        self.value, self._slope_of_t = jax.jvp(of.t, (product,), (jnp.ones_like(product),))

    def partial(self, r: int) -> jax.Array:
        """By a sum."""
        s = self._sums[r]
        return self._slope_of_t * self._sum(
            (self._by.get(s), self._h), (self._affine, self._first.get(s))
        )

    def bend(self, r: int, s: int) -> jax.Array:
        """By two sums."""
        one, other = self._sums[r], self._sums[s]
        return self._slope_of_t * self._sum(
            (self._by.get(one), self._first.get(other)),
            (self._by.get(other), self._first.get(one)),
            (self._affine, self._scale_by_two(one, other)),
        )

    def by_root(self) -> jax.Array:
        """By the root."""
        return self._slope_of_t * self._by_root * self._h

    def mixed(self, r: int) -> jax.Array:
        """By the root and a sum."""
        return self._slope_of_t * self._sum((self._by_root, self._first.get(self._sums[r])))

    def _sum(self, *products: tuple[jax.Array | None, jax.Array | None]) -> jax.Array:
        known = [a * b for a, b in products if a is not None and b is not None]
        return sum(known, jnp.zeros((), self._mean.dtype))

    def _slope(self, function: Callable[[jax.Array], jax.Array], at: jax.Array) -> jax.Array:
        return jax.jvp(function, (at,), (jnp.ones_like(at),))[1]

    def _affine_by(self, s: Sum) -> jax.Array:
        affine = self._of.affine.function
        return self._slope(lambda v: affine(self._mean, self._values | {s: v}), self._values[s])

    def _scale_by(self, s: Sum, values: dict[Sum, jax.Array]) -> jax.Array:
        return self._slope(lambda v: self._of.h(values | {s: v}), values[s])

    def _scale_by_two(self, r: Sum, s: Sum) -> jax.Array | None:
        if r not in self._first or s not in self._first:
            return None
        pair = frozenset((r, s))
        if pair not in self._second:
            self._second[pair] = self._slope(
                lambda v: self._scale_by(r, self._values | {s: v}), self._values[s]
            )
        return self._second[pair]
