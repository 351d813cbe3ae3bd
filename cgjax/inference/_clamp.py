"""Clamping: a network with some of its nodes fixed to given values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from cgjax import _static
from cgjax._node import bind
from cgjax._procedure import Method, Network, Procedure, intern, method
from cgjax._program import Program, Site
from cgjax._walk import Records, Visitor, walk
from cgjax.nodes import Family


@dataclass(frozen=True)
class _Clamped(Visitor):
    """Replaces the named nodes and marks all others again, under the names they had."""

    clamped: frozenset[int] = frozenset()
    keeps_nodes = True

    def changes(self, site: Site) -> bool:
        return site.index in self.clamped

    def passes(self, site: Site) -> bool:
        return site.index not in self.clamped

    def value(self, site: Site, family: Family, activation: Any, e: Any, draw: Any, given: Any):
        if site.index in self.clamped:
            return jnp.broadcast_to(given, site.shape)
        return bind(
            family,
            e,
            activation,
            kind=site.kind,
            name=site.name,
            scopes_in_name=site.num_scopes,
            differentiated=site.differentiated,
        )


@method
class Clamp(Method):
    """Options of `clamp`: pairs of a node's name and its value."""

    values: tuple[tuple[str, Any], ...]
    inline: bool
    is_network = True

    def run(self, program: Program, lead: Any, arrays: Any, capture: bool) -> tuple[Any, Records]:
        given = named_values(program, dict(self.values))
        visitor = _Clamped(inline=self.inline, clamped=frozenset(given))
        return walk(program, visitor, arrays, given=given)


def named_values(program: Program, values: Mapping[str, Any]) -> dict[int, Any]:
    """Values by node index instead of by name."""
    by_name = program.by_name
    for name in values:
        if name not in by_name:
            known = ", ".join(map(repr, by_name)) or "none"
            raise ValueError(f"The network has no node {name!r}. Its nodes: {known}.")
        if by_name[name].in_while:
            raise ValueError(
                f"The node {name!r} lies in a `while_loop` ({by_name[name].source}), whose number "
                "of steps is not known: it cannot be given values. Use `lax.scan`, or "
                "`lax.fori_loop` with constant bounds."
            )
    return {by_name[name].index: value for name, value in values.items()}


def clamp(net: Network, values: Mapping[str, Any], *, inline: bool = False) -> Procedure:
    """The network in which the named nodes have given values and are random no more.

    What a clamped node depends on is cut off from it: this is an intervention, the operation that
    inputs undergo, not conditioning on an observation. All other nodes survive, so that the result
    is a network again, for any procedure.

    Args:
        net: a network, as a function of arrays.
        values: for each node to clamp, by full name, its statistic: an array that broadcasts
            against the node (with a leading time axis, if the node lies in `lax.scan`).

        inline: whether functions with a custom derivative that contain a clamped node may be
            differentiated as plain functions; otherwise they raise.

    Returns:
        A network with the same arguments.

    Raises:
        ValueError: when called, for an unknown name, a value that does not broadcast, or a node in
            a `while_loop`.
        TypeError: for values that are no mapping.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> net = lambda x: 2 * cg.node(cg.nodes.Spin(), x, name="hidden")
        >>> cg.clamp(net, {"hidden": jnp.array([1.0, -1.0])})(jnp.zeros(2))
        Array([ 2., -2.], dtype=float32)
    """
    if not isinstance(values, Mapping):
        raise TypeError(
            'clamp takes a dict from node names to values, `clamp(net, {"hidden": value})`; got '
            f"{_static.described(values)}."
        )
    return intern(Procedure(net, Clamp(tuple(values.items()), inline)))
