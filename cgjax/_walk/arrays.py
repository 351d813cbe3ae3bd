"""A walk with arrays for values: what most procedures are."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from cgjax._program.jaxprs import open_jaxpr
from cgjax._program.program import Program, Site
from cgjax._static import Leaf, Tree
from cgjax._walk import control_flow
from cgjax._walk.evaluate import Evaluator, Frame, Records
from cgjax._walk.streams import Streams
from cgjax._walk.visitor import Visitor


def evaluator(
    program: Program, visitor: Visitor, spread: frozenset[int] = frozenset()
) -> Evaluator:
    """What evaluates a program, loops as loops.

    Args:
        program: the traced function.
        visitor: what to do at a node.
        spread: the nodes that are given an array of several numbers.
    """
    streams = Streams(program, visitor, spread)
    return Evaluator(program, visitor, streams, control_flow.enter)


def walk(
    program: Program,
    visitor: Visitor,
    arrays: Sequence[Leaf],
    *,
    key: jax.Array | None = None,
    given: Mapping[int, Leaf] | None = None,
) -> tuple[Tree, Records]:
    """Evaluates a program, asking the visitor for the value of each node.

    Args:
        program: the traced function.
        visitor: what to do at a node.
        arrays: the flat array arguments.
        key: the key of `jax.random` that all randomness derives from, if any is needed.
        given: for some nodes, by index, an array to hand to the visitor: it broadcasts against what
            that takes, which is the node's statistic unless it says so, with one leading time axis
            for each enclosing scan. In a loop of unknown length it serves every step.

    Returns:
        The function's result, and what the visitor recorded, by node index (stacked over scans).
    """
    given = {i: _full_rank(visitor, program.sites[i], v) for i, v in (given or {}).items()}
    walker = evaluator(program, visitor, frozenset(i for i, v in given.items() if v.size != 1))
    stream = walker.streams.of(key, open_jaxpr(program.jaxpr), 0)
    flat, records = walker.run(program.jaxpr, arrays, Frame(stream=stream, given=given))
    return jax.tree.unflatten(program.out_tree, flat), records


def _full_rank(visitor: Visitor, site: Site, value: Leaf) -> jax.Array:
    value = jnp.asarray(value)
    shape = (*site.lengths, *visitor.handed(site))
    missing = len(shape) - value.ndim
    if missing < 0 or any(
        n not in (1, m) for n, m in zip(value.shape, shape[missing:], strict=True)
    ):
        raise ValueError(
            f"An array of shape {value.shape} does not broadcast against the node {site.name!r} "
            f"of shape {shape} ({site.source})."
        )
    return value.reshape((1,) * missing + value.shape)
