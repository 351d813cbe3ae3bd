"""Which function a program calls: what an equation keeps of it."""

import re
from typing import NamedTuple

from jax.extend.core import JaxprEqn

from cgjax._program.jaxprs import AnyJaxpr, call_jaxpr, open_jaxpr
from cgjax._program.primitives import facts


class CalledFunction(NamedTuple):
    """What a program keeps of a function that it calls.

    Attributes:
        name: the function's name.
        place: the name, and where the function was written: "name at file:line".
        file: the file it was written in.
        arguments: the names of the arguments that are operands, or None where they are not known.
        closed_over: how many operands before them are arrays that the function closes over.
        is_derivative: whether it is a derivative of that function, not the function itself.
        body: the function's program.
    """

    name: str
    place: str
    file: str
    arguments: tuple[str, ...] | None
    closed_over: int
    is_derivative: bool
    body: AnyJaxpr


def called_function(eqn: JaxprEqn) -> CalledFunction:
    """What an equation that calls a function (under `jit`, with a custom derivative) says of it."""
    body, params = call_jaxpr(eqn), eqn.params
    info = open_jaxpr(body).debug_info
    place = str(info.func_src_info)
    file = place.partition(" at ")[2].rpartition(":")[0]
    is_custom = facts(eqn).call == "custom"
    closed_over = params["num_consts"] if is_custom else 0
    names = info.arg_names
    if names is not None:
        # A tree among the arguments has a name for each leaf: "x['a'].b".
        names = tuple(re.split(r"[\[.]", str(n), maxsplit=1)[0] for n in names[closed_over:])
    # Derivatives of a jitted function keep all but the names of its arguments. A custom derivative
    # is gone once it has been differentiated.
    is_derivative = names is None and not is_custom
    return CalledFunction(str(info.func_name), place, file, names, closed_over, is_derivative, body)
