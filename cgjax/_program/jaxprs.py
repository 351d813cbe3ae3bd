"""Reading jaxprs: what differs between versions of JAX stands here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeGuard, cast

import numpy as np
from jax._src import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Primitive, Var

__all__ = ["Literal"]


class Closed(NamedTuple):
    """An open jaxpr with arrays for its constants, which may be traced.

    Attributes:
        jaxpr: the open jaxpr.
        consts: an array for each of its constants.
    """

    jaxpr: Jaxpr
    consts: Sequence[Operand]


# A number that an equation takes.
Atom = Var | Literal
# What an equation is evaluated at: an array, or a token or reference that JAX passes for one.
Operand: TypeAlias = Any
# The shape and dtype of a variable, or what else JAX knows of it: a token has neither.
Aval: TypeAlias = Any
# A parameter of an equation, which is anything.
Parameter: TypeAlias = Any
Params = Mapping[str, Parameter]
AnyJaxpr = ClosedJaxpr | Jaxpr | Closed

# Lines of cgjax are never the line of the user's code.
source_info_util.register_exclusion(str(Path(__file__).parents[1]))

# Parameters that hold rules, made anew at each trace.
_RULES = ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "out_trees", "rule")


def open_jaxpr(jaxpr: AnyJaxpr) -> Jaxpr:
    """A jaxpr without its constants."""
    return cast(Jaxpr, getattr(jaxpr, "jaxpr", jaxpr))


def consts(jaxpr: AnyJaxpr) -> Sequence[Operand]:
    """The arrays that a jaxpr closes over."""
    return getattr(jaxpr, "consts", ())


def with_constants(jaxpr: Jaxpr, variables: Sequence[Var], arrays: Sequence[Operand]) -> Closed:
    """A jaxpr with other constants."""
    new = jaxpr.replace(constvars=list(variables))
    if len(new.constvars) != len(arrays):  # newer versions keep the variables with the arrays
        new = jaxpr.replace(constvars=list(variables), consts=list(arrays))
    return Closed(new, tuple(arrays))


def is_jaxpr(value: object) -> TypeGuard[AnyJaxpr]:
    """Whether a value is a jaxpr, open or closed."""
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def aval(variable: Atom) -> Aval:
    """The shape and dtype of a variable, or what else JAX knows of it: a token has neither."""
    return variable.aval


def dtype(variable: Atom) -> Aval:
    """The dtype of a variable; None of a token, or of a reference to memory."""
    return getattr(variable.aval, "dtype", None)


def sub_jaxprs(eqn: JaxprEqn) -> list[AnyJaxpr]:
    """The functions that an equation holds, in the order in which nodes inside are numbered."""
    found = []
    values = list(eqn.params.values())
    if hasattr(inner := eqn.params.get("_prim"), "__dict__"):
        values += vars(inner).values()  # of the primitives that are objects with parameters
    for value in values:
        for item in value if isinstance(value, tuple | list) else (value,):
            if is_jaxpr(item):
                found.append(item)
    return found


def holds_consts(jaxpr: AnyJaxpr) -> bool:
    """Whether a closed jaxpr, or one inside it, holds arrays that its function closed over."""
    return bool(consts(jaxpr)) or holds_inner_consts(jaxpr)


def holds_inner_consts(jaxpr: AnyJaxpr) -> bool:
    """Whether a jaxpr inside one holds arrays that its function closed over."""
    return any(holds_consts(sub) for eqn in open_jaxpr(jaxpr).eqns for sub in sub_jaxprs(eqn))


def same_code(one: AnyJaxpr, other: AnyJaxpr) -> bool:
    """Whether two jaxprs are one program, up to the values of the arrays that they close over.

    Arrays that a function inside closes over must be the same objects. Rules for derivatives and
    mapping are not compared: they say the same of the same function.
    """
    a, b = open_jaxpr(one), open_jaxpr(other)
    if a is b:
        return True
    if len(a.eqns) != len(b.eqns):
        return False
    numbers: tuple[dict[Var, int], dict[Var, int]] = ({}, {})

    def same_variables(ours: Sequence[Atom], theirs: Sequence[Atom]) -> bool:
        """Two lists of variables, new or seen before at the same places, or equal literals."""
        if len(ours) != len(theirs):
            return False
        for x, y in zip(ours, theirs, strict=True):
            if isinstance(x, Literal) or isinstance(y, Literal):
                if not (isinstance(x, Literal) and isinstance(y, Literal)):
                    return False
                if not _equal_literals(x, y):
                    return False
                continue
            places = [
                known.setdefault(v, len(known)) for known, v in ((numbers[0], x), (numbers[1], y))
            ]
            if places[0] != places[1] or x.aval != y.aval:
                return False
        return True

    return (
        same_variables([*a.constvars, *a.invars], [*b.constvars, *b.invars])
        and all(
            x.primitive is y.primitive
            and same_variables([*x.invars, *x.outvars], [*y.invars, *y.outvars])
            and same_parameters(x, y)
            for x, y in zip(a.eqns, b.eqns, strict=True)
        )
        and same_variables(a.outvars, b.outvars)
    )


def same_parameters(one: JaxprEqn, other: JaxprEqn) -> bool:
    """Whether two equations of one primitive do the same with their operands.

    Rules for derivatives and mapping are not compared: they say the same of the same function.
    """
    return (
        one.ctx == other.ctx
        and one.params.keys() == other.params.keys()
        and all(
            name in _RULES or _same_parameter(v, other.params[name])
            for name, v in one.params.items()
        )
    )


def _equal_literals(one: Literal, other: Literal) -> bool:
    return (
        one.aval == other.aval and np.asarray(one.val).tobytes() == np.asarray(other.val).tobytes()
    )


def _same_parameter(one: Parameter, other: Parameter) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if is_jaxpr(one):
        pairs = zip(consts(one), consts(other), strict=False)
        same_arrays = len(consts(one)) == len(consts(other)) and all(x is y for x, y in pairs)
        return same_arrays and same_code(one, other)
    if type(one) in (tuple, list):
        return len(one) == len(other) and all(
            _same_parameter(x, y) for x, y in zip(one, other, strict=True)
        )
    try:
        return bool(one == other)
    except (TypeError, ValueError):  # arrays, or objects that cannot be compared
        return False


def with_node_params(
    eqn: JaxprEqn,
    primitive: Primitive,
    change: Callable[[Params], dict[str, Parameter]],
) -> JaxprEqn:
    """An equation with the parameters of all equations of a primitive inside it changed."""

    def jaxpr(value: Parameter) -> AnyJaxpr:
        inner = open_jaxpr(value)
        new = inner.replace(eqns=[equation(e) for e in inner.eqns])
        return new if inner is value else value.replace(jaxpr=new)

    def parameter(value: Parameter) -> Parameter:
        if isinstance(value, tuple | list):
            return type(value)(map(parameter, value)) if any(map(is_jaxpr, value)) else value
        return jaxpr(value) if is_jaxpr(value) else value

    def equation(e: JaxprEqn) -> JaxprEqn:
        if e.primitive is primitive:
            return e.replace(params=change(e.params))
        if not sub_jaxprs(e):
            return e
        return e.replace(params={name: parameter(value) for name, value in e.params.items()})

    return equation(eqn)


def scan_counts(params: Params) -> tuple[int, int]:
    """The numbers of constants and of carried values of a scan."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry = params["ft_in"].unpack()[:2]
    return len(consts), len(carry)


def call_jaxpr(eqn: JaxprEqn) -> AnyJaxpr:
    """The function that a call holds."""
    return eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]


def source(eqn: JaxprEqn) -> str:
    """The line of the user's code that an equation comes from."""
    return source_info_util.summarize(eqn.source_info)


def source_inside(eqn: JaxprEqn) -> str:
    """The first line of the user's code that a function that an equation holds comes from."""
    inside = (e for sub in sub_jaxprs(eqn) for e in open_jaxpr(sub).eqns)
    return next((line for e in inside if (line := source(e) or source_inside(e))), "")


def split_source(source: str) -> tuple[str, str]:
    """The place in a file, whose path may hold spaces, and the function in brackets."""
    path, _, function = source.rpartition(" (")
    return path, f"({function}"


def bind(eqn: JaxprEqn, operands: Sequence[Operand]) -> list[Operand]:
    """The results of an equation at other operands."""
    out = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]
