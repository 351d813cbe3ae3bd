"""A traced function and its nodes, as data."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import is_

import jax
import numpy as np

from cgjax import _static
from cgjax._program.jaxprs import (
    AnyJaxpr,
    Closed,
    Literal,
    Operand,
    aval,
    consts,
    dtype,
    holds_consts,
    open_jaxpr,
)
from cgjax._static import Treedef
from cgjax.nodes import Family


@dataclass(frozen=True)
class Site:
    """One node of a program, as a static description.

    Attributes:
        index: the position in walking order; it numbers the node's random stream.
        name: the full name, scopes included, unique in the program.
        kind: "node", "noise" or "observe".
        family: the node family without its arrays.
        shape: the statistic's shape at one step.
        dtype: the statistic's dtype.
        lengths: the lengths of the enclosing scans, outermost first.
        in_while: whether it lies in a loop of unknown length.
        custom: the custom-derivative call it lies in, if any.
        differentiated: whether the network differentiates through it.
        num_scopes: how many scopes of names it lies in.
        lifted: whether `lift` marked it; then all of JAX's scopes, also those of modules, count.
        output: whether it is an output node.
        source: the line of user code that marked it.
    """

    index: int
    name: str
    kind: str
    family: _static.Structure
    shape: tuple[int, ...]
    dtype: np.dtype
    lengths: tuple[int, ...]
    in_while: bool
    custom: str | None
    differentiated: bool
    source: str
    num_scopes: int
    lifted: bool = False
    output: bool = False

    @property
    def family_type(self) -> type[Family]:
        """The class of the family."""
        return self.family.treedef.node_data()[0]

    @property
    def stacked_shape(self) -> tuple[int, ...]:
        """The shape under which procedures show the node: scans add leading time axes."""
        return (*self.lengths, *self.shape)


@dataclass(frozen=True, eq=False)
class Program:
    """A traced function.

    Attributes:
        jaxpr: the closed jaxpr over the flat array arguments.
        out_tree: the structure of the result.
        in_structure: the structure of `(args, kwargs)`, without their arrays.
        sites: all nodes in walking order.
        counts: for every sub-program, by identity, how many nodes it holds.
        code: the program without `constants`, the same object whenever the same function is traced
            again; None where that is not known.
    """

    jaxpr: AnyJaxpr
    out_tree: Treedef
    in_structure: _static.Structure
    sites: tuple[Site, ...]
    counts: dict[int, int] = field(repr=False)
    code: Program | None = field(default=None, repr=False)

    @property
    def by_name(self) -> dict[str, Site]:
        """The nodes by full name."""
        return {site.name: site for site in self.sites}

    @functools.cached_property
    def closed_over(self) -> bool:
        """Whether the function closes over arrays, which may be others at the next call."""
        return holds_consts(self.jaxpr)

    @property
    def constants(self) -> tuple[Operand, ...]:
        """The arrays that the function itself closes over, not those of functions inside it."""
        return tuple(consts(self.jaxpr))

    def closing_over(self, constants: Sequence[Operand]) -> Program:
        """The program with other arrays in the places of `constants`."""
        if len(constants) == len(self.constants) and all(map(is_, constants, self.constants)):
            return self
        return replace(self, jaxpr=Closed(open_jaxpr(self.jaxpr), tuple(constants)))

    @property
    def arguments(self) -> list[jax.ShapeDtypeStruct]:
        """The shape and dtype of every flat argument."""
        avals = (aval(v) for v in open_jaxpr(self.jaxpr).invars)
        return [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]

    @property
    def result_shapes(self) -> list[tuple[int, ...]]:
        """The shape of every flat result."""
        return [tuple(aval(v).shape) for v in open_jaxpr(self.jaxpr).outvars]

    @property
    def result_dtypes(self) -> list[np.dtype]:
        """The dtype of every flat result."""
        return [dtype(v) for v in open_jaxpr(self.jaxpr).outvars]

    @property
    def returned_inputs(self) -> tuple[int | None, ...]:
        """For every flat result, which flat argument it is unchanged, if any."""
        position = {v: i for i, v in enumerate(open_jaxpr(self.jaxpr).invars)}
        return tuple(
            None if isinstance(v, Literal) else position.get(v)
            for v in open_jaxpr(self.jaxpr).outvars
        )
