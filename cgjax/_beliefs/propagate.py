"""Walks a program with beliefs for some of its arguments."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from cgjax._beliefs.domain import BeliefDomain
from cgjax._beliefs.maps import Complex
from cgjax._beliefs.settings import Beliefs
from cgjax._beliefs.values import Gaussian, Known, Value, belief
from cgjax._program.program import Program
from cgjax._static import Tree
from cgjax._walk import Frame, Records, evaluator
from cgjax.nodes import Belief


def propagate(
    program: Program,
    visitor: Beliefs,
    arguments: Sequence[Known | Belief],
    shifts: Mapping[int, jax.Array] | None = None,
) -> tuple[Tree, Records]:
    """Walks a program with beliefs for some of its flat arguments.

    Args:
        program: the traced function.
        visitor: how to propagate.
        arguments: for each flat argument an array or a `Belief`.
        shifts: for some nodes, by index, what to add to the mean of the statistic, of its stacked
            shape. Such a node is settled: what follows takes it as a Gaussian of its own.

    Returns:
        The result with a `Belief` in place of each floating-point array, and for each node what is
        believed about its statistic, where `visitor.capture` asks for it.
    """
    domain = BeliefDomain(program, visitor)
    values = [Gaussian(x.mean, x.variance) if isinstance(x, Belief) else x for x in arguments]
    frame = Frame(domain, given=shifts or {})
    flat, records = evaluator(program, visitor).run(program.jaxpr, values, frame)
    flat = domain.leave(flat)
    results = [_believed(x, visitor.order) for x in flat]
    return jax.tree.unflatten(program.out_tree, results), records


def _believed(value: Value, order: int) -> Known | Belief:
    """A belief for a number; of a complex one with the variance E[|z - E[z]|^2]."""
    if isinstance(value, Complex):
        return Belief(value.mean, value.real + value.imaginary)
    return belief(value, order) if jnp.issubdtype(value.dtype, jnp.floating) else value
