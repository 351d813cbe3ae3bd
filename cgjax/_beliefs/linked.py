"""Small linear maps of one value, which know what their elements are made of.

So copies of x add up as one number does, what is moved away and back again is x, and in `x[:, None]
* x[None, :]` the diagonal holds squares. Beside the map stands what is known without it: the value
that operations take for which the map is of no use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves import Curve, as_curve
from cgjax._beliefs.curves.elementwise import elementwise, is_elementwise
from cgjax._beliefs.grouped import Grouped
from cgjax._beliefs.laid import Laid, retraced, source
from cgjax._beliefs.maps import moments
from cgjax._beliefs.values import Gaussian, Known, Lazy, Value, is_random, settle
from cgjax._program.jaxprs import aval, bind
from cgjax._program.primitives import facts

# Of what, and to how many elements, maps are kept.
_LARGEST_SOURCE, _LARGEST = 1 << 6, 1 << 12


@dataclass(frozen=True, eq=False)
class Linked(Lazy):
    """A linear map of a function of one Gaussian with independent elements, plus a constant.

    Attributes:
        source: the function.
        function: the map.
        plain: the value as it is known without the map.
        exact: whether that has the right moments.
        places: the element of the source that each element is; None if it is more than that.
    """

    source: Gaussian | Curve
    function: Callable[[jax.Array], jax.Array]
    plain: Value
    exact: bool
    places: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return tuple(self.plain.shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the value."""
        return self.plain.dtype

    @property
    def independent(self) -> bool:
        """Whether the elements are known to be independent."""
        return self.places is not None and np.unique(self.places).size == self.places.size

    def at_mean(self) -> Known:
        """The value at the means."""
        x = self.plain
        return x.at_mean() if isinstance(x, Lazy) else x.mean

    def settled(self, order: int) -> Gaussian:
        """The moments, by the map's matrix where they need it."""
        if self.exact:
            return settle(self.plain, order)
        x = settle(self.source, order)
        (mean,), (squares,) = moments(lambda value: [self.function(value)], [x], 0)
        return Gaussian(mean, squares.real)

    def once(self, order: int) -> Linked:
        """The same with its moments, so that whatever follows takes them for one variable."""
        if self.exact or not isinstance(self.plain, Gaussian):
            return self  # what is known else of its elements says more
        return replace(self, plain=self.settled(order), exact=True)


def without_link(value: Value) -> Value:
    """A value for an operation that a map is of no use to."""
    return value.plain if isinstance(value, Linked) else value


def _as_linked(value: Value) -> Linked | None:
    """A random value as a map of its own source; None for those that maps are not kept of."""
    if isinstance(value, Linked):
        return value
    if not isinstance(value, Gaussian | Curve | Laid):
        return None
    inner = source(value)
    root = as_curve(inner).root
    size = math.prod(inner.shape)
    real = jnp.issubdtype(inner.dtype, jnp.floating) and jnp.issubdtype(root.dtype, jnp.floating)
    if root.axes or not real or not 0 < size <= _LARGEST_SOURCE:
        return None
    numbers = np.arange(size).reshape(inner.shape)
    if not isinstance(value, Laid):
        return Linked(inner, lambda x: x, value, True, numbers)
    with jax.ensure_compile_time_eval():
        places = np.asarray(value.array(jnp.asarray(numbers)))
    return Linked(inner, value.array, value, True, places)


def linked(eqn: JaxprEqn, operands: Sequence[Value], plain: Value, order: int) -> Value:
    """The result of an operation that is linear in maps of one source; others as they are.

    Args:
        eqn: the operation.
        operands: its operands.
        plain: the result, as it is known without maps.
        order: 1 for the first-order rule.
    """
    random = [is_random(x) for x in operands]
    known = any(isinstance(x, Linked) for x in operands)
    if not is_random(plain) or not (known or isinstance(plain, Gaussian)):
        return plain
    if math.prod(plain.shape) > _LARGEST or not jnp.issubdtype(plain.dtype, jnp.floating):
        return plain
    if len(eqn.outvars) != 1 or not facts(eqn).is_linear(random):
        return plain
    values = [_as_linked(x) if is_random(x) else None for x in operands]
    parts = [v for v in values if v is not None]
    if len(parts) < sum(random) or any(v.source is not parts[0].source for v in parts):
        return plain
    origin = parts[0].source

    def function(x: jax.Array) -> jax.Array:
        arguments = [
            o if v is None else v.function(x) for o, v in zip(operands, values, strict=True)
        ]
        return bind(eqn, arguments)[0]

    moves = facts(eqn).moves
    places = _places(eqn, operands, values) if moves else None
    if places is not None and np.array_equal(
        places, np.arange(math.prod(origin.shape)).reshape(origin.shape)
    ):
        return origin
    one = len(parts) == 1
    kept = (one and is_elementwise(eqn)) or moves
    exact = all(v.exact for v in parts) and (kept or (one and parts[0].independent))
    copies = any(v.places is not None and not v.independent for v in parts)
    if copies and not exact and not isinstance(plain, Gaussian):
        plain = settle(plain, 1)  # it takes copies for independent numbers
    return Linked(origin, function, plain, exact, places).once(order)


def _places(
    eqn: JaxprEqn, operands: Sequence[Value], values: Sequence[Linked | None]
) -> np.ndarray | None:
    """The elements of the source after a move; None if there are others, or it cannot be told."""
    if any(isinstance(o, Tracer) for o, v in zip(operands, values, strict=True) if v is None):
        return None
    where = [None if v is None else v.places for v in values]
    if any(p is None and v is not None for p, v in zip(where, values, strict=True)):
        return None
    found = []
    for start in (1, 2):  # what fills places is the same whichever the numbers are
        with jax.ensure_compile_time_eval():
            numbers = [
                o if p is None else jnp.asarray(start + p, aval(v).dtype)
                for o, p, v in zip(operands, where, eqn.invars, strict=True)
            ]
            found.append(np.asarray(bind(eqn, numbers)[0]))
    if not np.array_equal(found[0] + 1, found[1]):
        return None
    return np.asarray(found[0] - 1, int)


# -- what is not linear, of elements that stand elsewhere


def of_places(eqn: JaxprEqn, operands: Sequence[Value], plain: Value, order: int) -> Value:
    """The result of an element-wise operation on elements of one array in several places.

    Where two operands are one element, it is a function of that; where they are not, `plain`.
    """
    if not isinstance(plain, Gaussian) and not any(isinstance(x, Linked) for x in operands):
        return plain
    values = [_as_linked(x) for x in operands if is_random(x)]
    parts = [v for v in values if v is not None and v.places is not None]
    numbers = [x for x in operands if not is_random(x)]
    if len(parts) < len(values) or any(map(jnp.ndim, numbers)) or not is_random(plain):
        return plain
    if isinstance(plain, Grouped):
        return plain
    shape = tuple(aval(eqn.outvars[0]).shape)
    root = as_curve(parts[0].source).root
    if any(as_curve(v.source).root is not root or len(v.shape) != len(shape) for v in parts):
        return plain
    if math.prod(shape) > _LARGEST:
        return plain
    if not jnp.issubdtype(plain.dtype, jnp.floating):
        return plain
    places, *others = [np.broadcast_to(v.places, shape) for v in parts if v.places is not None]
    met = np.all([places == other for other in others], 0) if others else np.ones(shape, bool)
    if not met.any():
        return plain
    rest = iter(parts)
    inner = [next(rest).source if is_random(x) else x for x in operands]
    out = elementwise(retraced(eqn, inner), inner, order)
    if not isinstance(out, Gaussian | Curve):
        return plain
    if met.all():
        flat = jnp.asarray(places)
        exact = len(parts) == 1
        return Linked(out, lambda x: x.reshape(-1)[flat], plain, exact, places).once(order)
    one, other = settle(out, order), settle(plain, order)
    mean, variance = (
        jnp.where(met, a.reshape(-1)[places], b)
        for a, b in ((one.mean, other.mean), (one.variance, other.variance))
    )
    return replace(other.without_gain(), mean=mean, variance=variance)


def distinct(eqn: JaxprEqn, value: Value) -> tuple[JaxprEqn, Value]:
    """A largest or smallest value of copies as that of each element once."""
    if not isinstance(value, Linked) or value.places is None or value.independent:
        return eqn, value
    if not value.places.size:
        return eqn, value
    axes = tuple(map(int, eqn.params["axes"]))
    kept = [a for a in range(value.places.ndim) if a not in axes]
    out = [value.places.shape[a] for a in kept]
    lines = np.transpose(value.places, [*kept, *axes]).reshape(math.prod(out), -1)
    sets = [np.unique(line) for line in lines]
    number = len(sets[0])
    if any(len(s) != number for s in sets):
        return eqn, value
    places = np.stack(sets).reshape(*out, number)
    x = settle(value.source, 2)
    picked = Gaussian(
        jnp.take(x.mean.reshape(-1), places), jnp.take(x.variance.reshape(-1), places)
    )

    def largest(a: jax.Array) -> jax.Array:
        return bind(eqn.replace(params=eqn.params | {"axes": (len(out),)}), [a])[0]

    return jax.make_jaxpr(largest)(picked.mean).eqns[0], picked
