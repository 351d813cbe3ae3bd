"""Reading jaxprs: what differs between versions of JAX stands here."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jax._src import source_info_util
from jax.extend.core import Literal

__all__ = ["Literal"]

# Lines of cgjax are never the line of the user's code.
source_info_util.register_exclusion(str(Path(__file__).parents[1]))

# The primitives that hold other functions, and that nodes may lie in.
JIT = ("jit", "pjit", "closed_call", "core_call")
CUSTOM = ("custom_jvp_call", "custom_vjp_call")
REMAT = ("remat2", "checkpoint")
ENTERED = frozenset((*JIT, *CUSTOM, *REMAT, "scan", "while", "cond", "cgjax_component"))


def open_jaxpr(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def consts(jaxpr: Any) -> Sequence[Any]:
    return getattr(jaxpr, "consts", ())


def is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def sub_jaxprs(eqn: Any) -> list[Any]:
    found = []
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if is_jaxpr(item):
                found.append(item)
    return found


def holds_consts(jaxpr: Any) -> bool:
    """Whether a closed jaxpr, or one inside it, holds arrays that its function closed over."""
    inner = (sub for eqn in open_jaxpr(jaxpr).eqns for sub in sub_jaxprs(eqn))
    return bool(consts(jaxpr)) or any(map(holds_consts, inner))


def with_node_params(eqn: Any, primitive: Any, change: Callable[[Any], dict[str, Any]]) -> Any:
    """An equation with the parameters of all equations of a primitive inside it changed."""

    def jaxpr(value: Any) -> Any:
        inner = open_jaxpr(value)
        new = inner.replace(eqns=[equation(e) for e in inner.eqns])
        return new if inner is value else value.replace(jaxpr=new)

    def parameter(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(map(parameter, value)) if any(map(is_jaxpr, value)) else value
        return jaxpr(value) if is_jaxpr(value) else value

    def equation(e: Any) -> Any:
        if e.primitive is primitive:
            return e.replace(params=change(e.params))
        if not sub_jaxprs(e):
            return e
        return e.replace(params={name: parameter(value) for name, value in e.params.items()})

    return equation(eqn)


def scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    """The numbers of constants and of carried values of a scan."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry = params["ft_in"].unpack()[:2]
    return len(consts), len(carry)


def call_jaxpr(eqn: Any) -> Any:
    return eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]


def source(eqn: Any) -> str:
    """The line of the user's code that an equation comes from."""
    return source_info_util.summarize(eqn.source_info)


def bind(eqn: Any, operands: Sequence[Any]) -> list[Any]:
    out = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]
