"""Products of independent values, which are kept as their factors until their moments are needed.

So that what is multiplied next meets the factor that it is made of: in `(x - x.mean()) * (scale /
x.std())`, numerator and denominator are one function of x, with an uncertain scale beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves import Curve, as_curve
from cgjax._beliefs.curves.total import parts_of, same_root
from cgjax._beliefs.grouped import Grouped
from cgjax._beliefs.laid import Laid, retraced, source
from cgjax._beliefs.linked import Linked, without_link
from cgjax._beliefs.values import Gaussian, Known, Lazy, Value, at_mean, is_random
from cgjax._program.jaxprs import aval, bind

# The value of an operation on values.
Rule = Callable[[JaxprEqn, Sequence[Value]], Value]


@dataclass(frozen=True, eq=False)
class Product(Lazy):
    """A product of two independent values.

    Attributes:
        eqn: the multiplication.
        factors: the values, each a function of one Gaussian.
        rule: what gives the product's moments.
    """

    eqn: JaxprEqn
    factors: tuple[Value, Value]
    rule: Rule

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return tuple(aval(self.eqn.outvars[0]).shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the value."""
        return self.factors[0].dtype

    @functools.cached_property
    def whole(self) -> Value:
        """The product as one variable, the same object for each use."""
        return self.rule(self.eqn, self.factors)

    def settled(self, order: int) -> Value:
        """The moments."""
        return self.whole

    def at_mean(self) -> Known:
        """The product of the factors at their means."""
        return bind(self.eqn, list(map(at_mean, self.factors)))[0]


def whole(value: Value) -> Value:
    """A value for an operation that factors are of no use to."""
    return value.whole if isinstance(value, Product) else value


def of_factors(eqn: JaxprEqn, operands: Sequence[Value], rule: Rule) -> Product | None:
    """A product by its factors: of two independent values, or of one such with what meets a factor.

    None for everything else.

    Args:
        eqn: the operation.
        operands: arrays and values.
        rule: what gives the value of an operation.
    """
    if eqn.primitive not in (lax.mul_p, lax.div_p) or len(operands) != 2:
        return None
    one, other = operands
    if isinstance(one, Product) != isinstance(other, Product):
        return _met(eqn, operands, rule)
    if eqn.primitive is not lax.mul_p or isinstance(one, Product):
        return None
    parts = [{id(p.root) for p in parts_of(r)} for r in map(_root, operands) if r is not None]
    if len(parts) < 2 or not parts[0].isdisjoint(parts[1]):
        return None
    return Product(eqn, (without_link(one), without_link(other)), rule)


def _met(eqn: JaxprEqn, operands: Sequence[Value], rule: Rule) -> Product | None:
    """A product times, or divided by, what one of its factors meets."""
    at = 0 if isinstance(operands[0], Product) else 1
    product, value = operands[at], operands[1 - at]
    if at == 1 and eqn.primitive is lax.div_p:
        return None
    root = _root(value)
    for k, factor in enumerate(product.factors):
        own = _root(factor)
        if not is_random(value) or (root is not None and own is not None and same_root(own, root)):
            pair = [factor if j == at else without_link(value) for j in (0, 1)]
            inner = rule(retraced(eqn, pair), pair)
            if _root(inner) is None:
                return None
            factors = (inner, product.factors[1]) if k == 0 else (product.factors[0], inner)
            return Product(retraced(product.eqn, factors), factors, rule)
    return None


def _root(value: Value) -> Gaussian | None:
    """The Gaussian that a value is a function of; None for all others."""
    if isinstance(value, Linked):
        value = value.source
    if not isinstance(value, Gaussian | Curve | Laid | Grouped):
        return None
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return None
    return value.root if isinstance(value, Grouped) else as_curve(source(value)).root
