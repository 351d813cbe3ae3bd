"""Which form an operation makes of forms: the families are asked in turn, the most special first.

Here too are functions that are chosen by a mask that is known: what is asked of them is asked of
each case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves.broken import Broken
from cgjax._beliefs.curves.closed import Closed, Exponential
from cgjax._beliefs.curves.form import (
    Cut,
    Form,
    Function,
    Known,
    Line,
    Operation,
    dtype_of,
    is_inexact,
)
from cgjax._beliefs.curves.general import General
from cgjax._beliefs.curves.polynomial import Polynomial
from cgjax._gaussian.numerics import wide
from cgjax._program.jaxprs import bind
from cgjax._program.primitives import facts


def formed(operation: Operation) -> Form:
    """The form of an operation's result."""
    if not operation.random:
        return Known(evaluator(operation)(jnp.zeros(operation.shape)))
    for family in (Chosen, Polynomial, Broken, Exponential, Closed):
        form = family.after(operation)
        if form is not None:
            return form
    return General.after(operation)


# Its `repr` would write out what is shared once for each use, and JAX asks for it.
@dataclass(frozen=True, eq=False, repr=False)
class Composed:
    """An operation's result as a function of the variable, to be called with its values.

    Numbers of half precision are computed in single precision: the moments are those of the
    function, not of its rounding.

    Attributes:
        eqn: the operation.
        functions: its operands, as functions of the variable.
        kinds: the dtypes that they are computed in.
        rounded: whether all it does is to round.
    """

    eqn: JaxprEqn
    functions: tuple[Function, ...]
    kinds: tuple[jnp.dtype, ...]
    rounded: bool

    def __call__(self, points: jax.Array) -> jax.Array:
        """The result for values of the variable."""
        return self.at(points, {})

    def at(self, points: jax.Array, known: dict[int, jax.Array]) -> jax.Array:
        """The same; what several operations share is computed once, and kept in `known`."""
        if id(self) not in known:
            values = [
                jnp.asarray(f.at(points, known) if isinstance(f, Composed) else f(points), kind)
                for f, kind in zip(self.functions, self.kinds, strict=True)
            ]
            known[id(self)] = wide(values[0]) if self.rounded else bind(self.eqn, values)[0]
        return known[id(self)]


def evaluator(operation: Operation) -> Composed:
    """The operation's result as a function of the variable."""
    out = operation.dtype
    rounded = operation.facts.converts and not operation.stops and operation.is_real
    rounded = rounded and _at_least_single(out) != out
    kinds = tuple(_at_least_single(kind) for kind in operation.kinds)
    return Composed(operation.eqn, tuple(operation.functions), kinds, rounded)


def applied(eqn: JaxprEqn, values: Sequence[jax.Array]) -> jax.Array:
    """An element-wise operation on values of one shape, in at least single precision."""
    kinds = [_at_least_single(dtype_of(v)) for v in eqn.invars]
    values = [jnp.asarray(v, kind) for v, kind in zip(values, kinds, strict=True)]
    out, known = dtype_of(eqn.outvars[0]), facts(eqn)
    rounds = known.converts and bool(known.linear.of(1)) and _at_least_single(out) != out
    return wide(values[0]) if rounds else bind(eqn, values)[0]


def _at_least_single(dtype: jnp.dtype) -> jnp.dtype:
    if not jnp.issubdtype(dtype, jnp.floating):
        return dtype
    return jnp.promote_types(dtype, jnp.float32)


@dataclass(frozen=True, eq=False)
class Chosen(Form):
    """One of several functions, by a mask that is known.

    Attributes:
        which: the number of the case, or whether it is the second.
        cases: their forms.
        functions: the functions.
    """

    which: jax.Array
    cases: tuple[Form, ...]
    functions: tuple[Function, ...]

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Those of all cases."""
        return tuple(c for f in self.cases for c in f.cuts)

    @property
    def domains(self) -> tuple[Line, ...]:
        """Those of all cases."""
        return tuple(d for f in self.cases for d in f.domains)

    @property
    def resolved(self) -> bool:
        """Whether all cases are."""
        return all(f.resolved for f in self.cases)

    @classmethod
    def after(cls, operation: Operation) -> Form | None:
        """A choice by a known mask; or any operation on one such choice, case by case."""
        which, *cases = operation.operands
        if operation.stops or not is_inexact(operation.dtype):
            return None
        if operation.primitive is lax.select_n_p and isinstance(which, Known):
            if not any(isinstance(f, Exponential | Closed | Chosen) or f.domains for f in cases):
                return None
            mask = jnp.asarray(which.value, dtype_of(operation.eqn.invars[0]))
            return cls(mask, tuple(cases), operation.functions[1:])
        chosen = [f for f in operation.operands if isinstance(f, Chosen)]
        if not chosen or any(f is not chosen[0] for f in chosen[1:]):
            return None
        found = [_in_case(operation, chosen[0], k) for k in range(len(chosen[0].cases))]
        return cls(chosen[0].which, *(tuple(each) for each in zip(*found, strict=True)))

    def moments(
        self, function: Function, mean: jax.Array, variance: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Those of the case."""
        found = [
            f.moments(g, mean, variance) for f, g in zip(self.cases, self.functions, strict=True)
        ]
        which = self.which if self.which.ndim == 0 else jnp.broadcast_to(self.which, mean.shape)
        means, variances = zip(*found, strict=True)
        return lax.select_n(which, *means), lax.select_n(which, *variances)


def _in_case(operation: Operation, chosen: Chosen, k: int) -> tuple[Form, Function]:
    """What an operation makes of one case."""
    operands = tuple(chosen.cases[k] if f is chosen else f for f in operation.operands)
    functions = tuple(
        chosen.functions[k] if f is chosen else g
        for f, g in zip(operation.operands, operation.functions, strict=True)
    )
    inner = replace(operation, operands=operands, functions=functions)
    return formed(inner), evaluator(inner)
