"""Which form an operation makes of forms: the families are asked in turn, the most special first.

Here too are functions that are chosen by a mask that is known: what is asked of them is asked of
each case.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import lax

from cgjax._beliefs.curves.broken import Broken
from cgjax._beliefs.curves.closed import Closed, Exponential
from cgjax._beliefs.curves.form import (
    Form,
    Function,
    Known,
    Line,
    Operation,
    is_inexact,
)
from cgjax._beliefs.curves.general import Cut, General
from cgjax._beliefs.curves.polynomial import Polynomial
from cgjax._gaussian.numerics import wide
from cgjax._program.jaxprs import bind


def formed(operation: Operation) -> Form:
    """The form of an operation's result."""
    if not operation.random:
        return Known(evaluator(operation)(jnp.zeros(operation.shape)))
    for family in (Chosen, Polynomial, Broken, Exponential, Closed):
        form = family.after(operation)
        if form is not None:
            return form
    return General.after(operation)


def evaluator(operation: Operation) -> Function:
    """The operation's result as a function of the variable.

    Numbers of half precision are computed in single precision: the moments are those of the
    function, not of its rounding.
    """
    eqn, functions = operation.eqn, operation.functions
    kinds = [_at_least_single(kind) for kind in operation.kinds]
    out = operation.dtype
    rounded = operation.facts.converts and not operation.stops and operation.is_real
    rounded = rounded and _at_least_single(out) != out

    def function(points: jax.Array) -> jax.Array:
        pairs = zip(functions, kinds, strict=True)
        values = [jnp.asarray(f(points), kind) for f, kind in pairs]
        return wide(values[0]) if rounded else bind(eqn, values)[0]

    return function


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
            mask = jnp.asarray(which.value, operation.eqn.invars[0].aval.dtype)
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
