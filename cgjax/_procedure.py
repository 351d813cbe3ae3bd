"""What all procedures share: a hashable callable around a network.

A procedure traces its network, then walks the trace with a visitor. Calls outside any other JAX
transformation run compiled, and are compiled once for a network, its shapes and the static options;
inside a transformation the walk is traced into it.
"""

import abc
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cgjax import _cache, _static
from cgjax._modules import check_complete
from cgjax._program import Program, trace
from cgjax._static import Function, Leaf, Tree
from cgjax._walk import Records

Network = Function
# What a procedure runs on: the flat arrays of the arguments, some of which may be beliefs.
Arrays = Sequence[Leaf]
# A procedure's result, and the statistics of the nodes.
Result = tuple[Tree, Records]
MethodT = TypeVar("MethodT", bound="Method")
ProcedureT = TypeVar("ProcedureT", bound="Procedure")


@dataclass(frozen=True)
class Method(abc.ABC):
    """The options of a procedure. Subclasses are pytrees: arrays among the options are traced.

    Attributes:
        lead: what the procedure's first argument is, before the network's: "key", "values",
            "unused" or None.
        is_network: whether the result is a network again, which still has nodes.
        removes_nodes: whether nodes are taken out of it on purpose.
    """

    lead: ClassVar[str | None] = None
    is_network: ClassVar[bool] = False
    removes_nodes: ClassVar[bool] = False

    @classmethod
    def procedure(cls) -> str:
        """The name of the function that makes such procedures."""
        return re.sub("(?<=.)([A-Z])", r"_\1", cls.__name__).lower()

    def check(self, net: Network, program: Program) -> None:  # noqa: B027 (most take any network)
        """Warns, at each call, if the procedure has no use for such a network."""

    @abc.abstractmethod
    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        """The procedure's result, and the nodes' statistics where `capture` asks for them."""


@dataclass_transform(frozen_default=True)
def method(cls: type[MethodT]) -> type[MethodT]:
    """Makes a class of options a frozen dataclass and a pytree."""
    # Structures of classes that `register_dataclass` registers are equal if their fields are,
    # whatever the classes, so two procedures would share what is compiled.
    made: Any = dataclass(frozen=True)(cls)
    names = [field.name for field in fields(made)]

    def flatten(options: Method) -> tuple[list[Tree], None]:
        return [getattr(options, name) for name in names], None

    jax.tree_util.register_pytree_node(made, flatten, lambda _, values: made(*values))
    return made


@dataclass(frozen=True, eq=False)
class Procedure:
    """An inference procedure on a network: an ordinary function that may be jitted, mapped, ….

    Equal for the same network and options, so that `jax.jit` of two equal ones compiles once.
    """

    net: Network
    method: Method
    capture: bool = False

    def __post_init__(self) -> None:
        check_network(self.net, self.method.procedure())

    def _identity(self) -> tuple[Hashable, ...]:
        structure, arrays = _static.split(self.method)
        return (self.net, structure, tuple(map(id, arrays)), self.capture)

    def __hash__(self) -> int:
        try:
            return hash(self._identity())
        except TypeError:  # a network or an option that cannot be hashed
            return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Procedure) and self._identity() == other._identity()
        )

    @property
    def returns_state(self) -> bool:
        """Whether it is a module's function, which returns `(out, new_state)`."""
        return self.method.is_network and getattr(self.net, "returns_state", False)

    def traced_as(self) -> tuple[Network, Hashable]:
        """The network, and all that decides which program this is, but for arrays."""
        net, inner = self.net.traced_as() if isinstance(self.net, Procedure) else (self.net, None)
        return net, (type(self), _static.split(self.method)[0], self.capture, inner)

    def with_nodes(self) -> Function:
        """The procedure that also returns its nodes' statistics."""
        if self.method.is_network:
            raise TypeError(
                "with_nodes takes a procedure, and this is a network, whose nodes have no values "
                "yet. Apply a procedure first: `with_nodes(feed_forward(net))`."
            )
        return intern(replace(self, capture=True))

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        lead, args = split_lead(self.method.lead, args)
        program = trace(self.net, args, kwargs)
        arrays = _static.split((args, kwargs), numbers=True)[1]
        structure, options = _static.split(self.method)
        if self.capture:
            check_capture(program)
        self.method.check(self.net, program)
        constants = program.constants
        code = program.code if program.closed_over else program
        traced = _static.is_traced((lead, arrays, options, constants))
        if traced or code is None or (constants and self.method.is_network):
            call, code = run, program
        else:
            call = run_compiled
        out, records = call(structure, code, self.capture, options, lead, arrays, constants)
        if not self.capture:
            return out
        return out, named(program, records)


def split_lead(
    lead: str | None, args: tuple[Tree, ...]
) -> tuple[tuple[Tree, ...], tuple[Tree, ...]]:
    """A procedure's own first argument, checked, and the network's arguments.

    Args:
        lead: what the first argument is: "key", "values", or None where there is none.
        args: all positional arguments.
    """
    if lead is None:
        return (), args
    if not args:
        raise TypeError(f"The procedure's first argument is its {lead}; it was called with none.")
    if lead == "unused" and jax.tree.leaves(args[0]) and not _static.is_array(args[0]):
        raise TypeError(
            "The first argument of this procedure stands where others take a key, and is not used: "
            f"`procedure(None, *args)`; got a {type(args[0]).__name__}."
        )
    return (as_key(args[0]) if lead == "key" else args[0],), args[1:]


def run(
    structure: _static.Structure,
    program: Program,
    capture: bool,
    options: Arrays,
    lead: tuple[Tree, ...],
    arrays: Arrays,
    constants: Arrays,
) -> Result:
    program = program.closing_over(constants)
    first = lead[0] if lead else None
    return _static.join(structure, options).run(program, first, arrays, capture)


def named(program: Program, records: Records) -> dict[str, Tree]:
    """What was recorded by node index, by node name instead."""
    return {program.sites[i].name: record for i, record in records.items()}


run_compiled = jax.jit(run, static_argnums=(0, 1, 2))


def intern(procedure: ProcedureT) -> ProcedureT:
    """The first procedure built for an equal request, as long as the network is in use.

    JAX keeps compiled code as long as the function it belongs to: without this, a procedure that is
    built anew for each call would be compiled anew. Options with arrays are never equal, so those
    are not kept.
    """
    if _static.split(procedure.method)[1]:
        return procedure
    return _cache.procedures.first(procedure.net, procedure)


def check_network(net: object, procedure: str) -> None:
    """Raises unless something can be a network.

    Args:
        net: what was passed for one.
        procedure: the name of the function that it was passed to.

    Raises:
        TypeError: it is no function, a class, a module of another library, or a procedure.
    """
    expected = (
        f"{procedure} takes a network: a function of arrays, or a module that holds its parameters"
    )
    if isinstance(net, type):
        raise TypeError(
            f"{expected}; got the class {net.__name__}. Pass an instance of it, "
            f"`{net.__name__}(…)`."
        )
    check_complete(net, expected)
    if isinstance(net, Procedure) and not net.method.is_network:
        raise already_a_procedure(procedure, net.method.procedure())
    if not callable(net):
        raise TypeError(f"{expected}; got {_static.described(net)}.")


def already_a_procedure(procedure: str, inner: str) -> TypeError:
    """The error for a procedure in place of a network."""
    return TypeError(
        f"{procedure} takes a network, and {inner}(net) is a procedure: in its result no node is "
        f"left. Apply each procedure to the network itself: `{inner}(net)` and `{procedure}(net)`."
    )


def as_key(key: Leaf) -> Array:
    """Checks that an argument is one key of `jax.random`, and makes it a typed one."""
    is_typed = _static.is_array(key) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if is_typed and isinstance(key, jax.Array) and key.shape == ():
        return key
    words = isinstance(key, jax.Array | np.ndarray) and key.dtype == np.uint32
    if words and key.ndim == 1:
        try:
            return jax.random.wrap_key_data(jnp.asarray(key))
        except TypeError:  # not as many words as a key has
            pass
    found = _static.described(key)
    several = is_typed or (words and key.ndim > 1)
    hint = " For several keys, map it: `jax.vmap(procedure(net), (0, None))`." if several else ""
    raise TypeError(
        "The first argument of a procedure that samples is one key of `jax.random`, got "
        f"{found}. Call it as `procedure(net)(jax.random.key(0), *args)`.{hint}"
    )


def own_key(key: Array) -> Array:
    """The procedure's own key, derived so that JAX's checker sees the user's key consumed."""
    return jax.random.split(key, 1)[0]


def check_capture(program: Program) -> None:
    for site in program.sites:
        if site.in_while:
            raise ValueError(
                f"The node {site.name!r} lies in a `while_loop` ({site.source}), whose number of "
                "steps is not known: its statistic cannot be captured. Use `lax.scan`, or "
                "`lax.fori_loop` with constant bounds."
            )


def with_nodes(procedure: Leaf) -> Function:
    """Makes a procedure return the statistics of its nodes as well.

    Args:
        procedure: what one of cgjax's procedures returned, for example `pcff(net, 0.4)`.

    Returns:
        A procedure with the same arguments that returns `(out, {name: statistic})`. The statistics
        stand in walking order; a node inside `lax.scan` has a leading time axis; in a branch of
        `lax.cond` that was not taken it is NaN. For procedures that average, it is the average.

    Raises:
        TypeError: if the argument is no procedure.
        ValueError: when called, if a node lies in a `while_loop`.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> net = lambda x: 2 * cg.node(cg.nodes.ReLU(), x, name="hidden")
        >>> out, nodes = cg.with_nodes(cg.feed_forward(net))(jnp.array([-1.0, 3.0]))
        >>> nodes
        {'hidden': Array([0., 3.], dtype=float32)}
    """
    if not hasattr(procedure, "with_nodes"):
        raise TypeError(
            "with_nodes takes a procedure, such as `cgjax.pcff(net, 0.4)` or "
            f"`cgjax.feed_forward(net)`, got {procedure!r}."
        )
    return procedure.with_nodes()
