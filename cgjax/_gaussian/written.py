"""Functions as what is written in them: equal where they say the same.

The layers of a network make the same functions of a Gaussian anew, each in a closure of its own. As
programs they are equal, so that what JAX keeps of one function (its trace, its derivatives, what
it is lowered to) serves all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer, eval_jaxpr
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array, Float

# Parameters of operations that cannot be applied to arrays of other shapes.
_OF_SHAPE = {"shape", "new_sizes", "jaxpr", "call_jaxpr"}


class Written:
    """An element-wise function of arrays, as a program that holds nothing but single numbers.

    Two are equal where their operations, the parameters of these, and all numbers are.
    """

    def __init__(
        self, program: ClosedJaxpr, arrays: Sequence[int] = (), single: bool = True
    ) -> None:
        """Of a traced function.

        Args:
            program: the function; of single numbers, or of arrays of the shape it is called with.
            arrays: which of its constants are further arguments.
            single: whether there is one result, and no list of them.
        """
        self._jaxpr, self._arrays, self._single = program.jaxpr, tuple(arrays), single
        self._constants = [None if k in arrays else c for k, c in enumerate(program.consts)]
        if getattr(self._jaxpr, "consts", ()):
            # From JAX 0.12 on it holds them too, and what is kept must hold no tracers.
            self._jaxpr = self._jaxpr.replace(consts=self._constants)
        self._of_numbers = not any(v.aval.shape for v in program.jaxpr.invars)
        numbers = tuple(None if c is None else _value(c) for c in self._constants)
        self._key = _key(program.jaxpr), numbers, self._arrays, single
        self._hash = hash(self._key)

    def __call__(self, *arguments: Array) -> Any:
        """The function of its own arguments and, after them, of the arrays, all of one shape."""
        run = self._run
        if self._of_numbers:
            shape = np.broadcast_shapes(*map(np.shape, arguments))
            arguments = tuple(jnp.broadcast_to(a, shape) for a in arguments)
            for _ in shape:
                run = jax.vmap(run)
        return run(*arguments)

    def _run(self, *arguments: Array) -> Any:
        constants, own = list(self._constants), len(self._jaxpr.invars)
        for place, array in zip(self._arrays, arguments[own:], strict=True):
            constants[place] = array
        outs = eval_jaxpr(self._jaxpr, constants, *arguments[:own])
        return outs[0] if self._single else outs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Written) and self._hash == other._hash and self._key == other._key

    def __hash__(self) -> int:
        return self._hash


def of_numbers(function: Callable[..., Any], *dtypes: Any) -> Written | None:
    """An element-wise function that closes over no arrays, of arguments of these dtypes.

    Returns:
        It as a program; None where it closes over arrays.
    """
    arguments = [jax.ShapeDtypeStruct((), dtype) for dtype in dtypes]
    program, out = jax.make_jaxpr(function, return_shape=True)(*arguments)
    if not constants_are_numbers(program):
        return None
    return Written(program, single=isinstance(out, jax.ShapeDtypeStruct))


def opened(
    function: Callable[[Array], Array], at: Float[Array, "*shape"]
) -> tuple[Written, list[Array]] | None:
    """An element-wise function of one array as one of what it closes over too.

    Args:
        function: the function.
        at: an array that it may be called with.

    Returns:
        A function that depends on nothing but its arguments and fixed numbers, and its arguments
        but for the first, of the shape and dtype of `at`; None where there are others.
    """
    program = jax.make_jaxpr(function)(at)
    places = [k for k, c in enumerate(program.consts) if np.ndim(c) or isinstance(c, Tracer)]
    if not places:
        found = of_numbers(function, at.dtype)
        return None if found is None else (found, [])
    arrays = [jnp.asarray(program.consts[k]) for k in places]
    alike = all(a.shape in ((), at.shape) and a.dtype == at.dtype for a in arrays)
    if not alike or any(_OF_SHAPE & eqn.params.keys() for eqn in program.jaxpr.eqns):
        return None
    return Written(program, places), [jnp.broadcast_to(a, at.shape) for a in arrays]


def written(function: Callable[[Array], Array], at: Array) -> tuple[Written, list[Array]]:
    """Any function of one array, for arguments of the shape of `at`, and what it closes over.

    Unlike `jax.closure_convert` it leaves no booleans and integers inside: a derivative that is
    taken after the trace that they belong to has ended would look for them in vain.
    """
    program = jax.make_jaxpr(function)(at)
    places = [k for k, c in enumerate(program.consts) if np.ndim(c) or isinstance(c, Tracer)]
    return Written(program, places), [program.consts[k] for k in places]


def constants_are_numbers(program: ClosedJaxpr) -> bool:
    """Whether a program closes over nothing but single numbers that are known while tracing."""
    return all(np.ndim(c) == 0 and not isinstance(c, Tracer) for c in program.consts)


def _key(jaxpr: Jaxpr) -> Hashable:
    numbers: dict[Any, int] = {}

    def named(variables: Sequence[Any]) -> tuple[Hashable, ...]:
        for v in variables:
            numbers.setdefault(v, len(numbers))
        return tuple((numbers[v], v.aval) for v in variables)

    def atom(a: Any) -> Hashable:
        return _value(a.val) if isinstance(a, Literal) else numbers[a]

    arguments = named(jaxpr.constvars), named(jaxpr.invars)
    equations = tuple(
        (
            eqn.primitive,
            tuple(map(atom, eqn.invars)),
            tuple((name, _parameter(value)) for name, value in sorted(eqn.params.items())),
            named(eqn.outvars),
        )
        for eqn in jaxpr.eqns
    )
    return arguments, equations, tuple(map(atom, jaxpr.outvars))


def _parameter(value: Any) -> Hashable:
    if isinstance(value, ClosedJaxpr):
        return _key(value.jaxpr), tuple(map(_value, value.consts))
    if isinstance(value, Jaxpr):
        return _key(value)
    return type(value), value


def _value(number: Any) -> Hashable:
    """An array by its bits: nan is nan, and -0.0 is not 0.0."""
    weak = getattr(number, "weak_type", isinstance(number, int | float | complex))
    array = np.asarray(number)
    return array.dtype, array.shape, array.tobytes(), weak
