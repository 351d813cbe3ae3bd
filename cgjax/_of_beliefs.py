"""Procedures whose arguments may hold beliefs: what `moments` and those for weights share."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeGuard

import jax

from cgjax import _beliefs as beliefs
from cgjax import _static
from cgjax._gaussian.belief import Normal, checked
from cgjax._procedure import (
    Arrays,
    Method,
    Procedure,
    Result,
    check_capture,
    method,
    named,
    run,
    run_compiled,
    split_lead,
)
from cgjax._program import Program, trace
from cgjax._program.ranges import not_negative_constants
from cgjax._static import Tree
from cgjax.nodes import Belief


@method
class Moments(Method):
    """Options of `moments`, and which constants of the network hold nothing below 0."""

    nodes: Literal["collapsed", "random"]
    order: int
    positions: bool
    first_order: frozenset[str]
    not_negative: frozenset[int] = frozenset()

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        visitor = beliefs.Beliefs(
            capture,
            implementation=None if capture or self.order == 1 else "moments",
            nodes=self.nodes,
            order=self.order,
            positions=self.positions,
            first_order=self.first_order,
            not_negative=self.not_negative,
        )
        return beliefs.propagate(program, visitor, arrays)


def is_belief(x: object) -> TypeGuard[Belief | Normal]:
    """Whether a leaf of an argument is a belief."""
    return isinstance(x, Belief | Normal)


def means(tree: Tree) -> Tree:
    """A tree with the mean in place of each belief."""
    return jax.tree.map(lambda x: x.mean if is_belief(x) else x, tree, is_leaf=is_belief)


@dataclass(frozen=True, eq=False)
class OfBeliefs(Procedure):
    """A procedure whose arguments may hold beliefs."""

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        lead, args = split_lead(self.method.lead, args)
        leaves, structure = jax.tree.flatten((args, kwargs), is_leaf=is_belief)
        leaves = [checked(x) if is_belief(x) else x for x in leaves]
        plain_args, plain_kwargs = means(jax.tree.unflatten(structure, leaves))
        program = trace(self.net, plain_args, plain_kwargs)
        arrays = [x for x in leaves if is_belief(x) or _static.is_array(x) or _static.is_number(x)]
        options_structure, options = _static.split(_knowing(self.method, program))
        if self.capture:
            check_capture(program)
        self.method.check(self.net, program)
        constants = program.constants
        code = program.code if program.closed_over else program
        traced = _static.is_traced((arrays, options, constants))
        call, code = (run, program) if traced or code is None else (run_compiled, code)
        out, records = call(options_structure, code, self.capture, options, lead, arrays, constants)
        if getattr(self.net, "returns_state", False):
            out = (out[0], means(out[1]))
        return (out, named(program, records)) if self.capture else out


def _knowing(method: Method, program: Program) -> Method:
    """A method that knows which factors and masks among the network's constants are not negative.

    Constants may be others at the next call, and are arguments of what is compiled.
    """
    if not isinstance(method, Moments) or not program.closed_over:
        return method
    return replace(method, not_negative=not_negative_constants(program.jaxpr))


def checked_options(
    nodes: str,
    order: int,
    positions: object,
    first_order: Iterable[str],
    cls: type[Moments] = Moments,
) -> Moments:
    """The options of `moments`, checked."""
    if nodes not in ("collapsed", "random"):
        raise ValueError(f'nodes is "collapsed" or "random", got {nodes!r}.')
    if order not in (1, 2):
        raise ValueError(f"order is 1 (first-order) or 2 (matched moments), got {order!r}.")
    if isinstance(first_order, str):
        raise TypeError(f"first_order is a list of names of primitives, got {first_order!r}.")
    return cls(nodes, order, bool(positions), frozenset(first_order))
