"""Collapsing: a network some nodes of which are random no more, each the activation it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from jaxtyping import Array

from cgjax import _static
from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Program, Site
from cgjax._static import Tree
from cgjax._walk import Visitor, walk
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._clamp import marked_again
from cgjax.nodes import Family


@dataclass(frozen=True)
class _Collapsed(Visitor):
    """Takes the marks of some nodes away, and marks all others again."""

    collapsed: frozenset[int] = frozenset()
    keeps_nodes = True

    def changes(self, site: Site) -> bool:
        # No value changes; but a function with a derivative of its own keeps its marks or loses it.
        return site.index in self.collapsed and site.custom is not None

    def passes(self, site: Site) -> bool:
        return site.index not in self.collapsed

    def value(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> Array:
        if site.index in self.collapsed:
            return activation
        return marked_again(site, family, e, activation)


@method
class Collapse(Method):
    """Options of `collapse`: patterns over the names of nodes."""

    patterns: tuple[str, ...]
    inline: bool
    is_network = True
    removes_nodes = True

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        visitor = _Collapsed(inline=self.inline, collapsed=self._matched(program))
        return walk(program, visitor, arrays)

    def _matched(self, program: Program) -> frozenset[int]:
        found: set[int] = set()
        for pattern in self.patterns:
            matches = {s.index for s in program.sites if fnmatchcase(s.name, pattern)}
            if not matches:
                names = ", ".join(repr(s.name) for s in program.sites) or "none"
                raise ValueError(
                    f"The pattern {pattern!r} of `collapse` matches no node. The network's nodes: "
                    f"{names}."
                )
            found |= matches
        return frozenset(found)


def collapse(net: Network, patterns: str | Sequence[str], *, inline: bool = False) -> Procedure:
    """The network in which the named nodes are deterministic: each is its activation.

    Nothing that the network computes changes; the nodes are gone for every procedure, as if they
    had never been marked. It is the inverse of `lift`: `collapse(net, "*")` has no node left. A
    noise node becomes its mean, and an observed one its value.

    Args:
        net: a network, as a function of arrays.
        patterns: a glob pattern over full node names, such as "encoder/*", or several; a node
            that one of them matches is collapsed, output nodes and noise included.
        inline: whether functions with a custom derivative that contain a collapsed node may be
            differentiated as plain functions; otherwise they raise.

    Returns:
        A network with the same arguments.

    Raises:
        TypeError: patterns are no strings; when called, nodes lie in a custom-derivative function.
        ValueError: when called, for a pattern that matches nothing.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> def net(x):
        ...     h = cg.node(cg.nodes.ReLU(), x, name="h")
        ...     return cg.node(cg.nodes.Spin(), h, name="y")
        >>> one = cg.collapse(net, "h")
        >>> list(cg.with_nodes(cg.forward_sample(one))(jax.random.key(0), jnp.ones(2))[1])
        ['y']
    """
    several = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in several:
        if not isinstance(pattern, str):
            raise TypeError(
                "The nodes to collapse are given by patterns over their names, such as "
                f'`collapse(net, "encoder/*")`, got {_static.described(pattern)}.'
            )
    return intern(Procedure(net, Collapse(several, inline)))
