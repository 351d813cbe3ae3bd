"""Means and variances through any function, deterministically ([B] section 2)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from cgjax import _static
from cgjax._interpret import Program, Records, trace
from cgjax._interpret._beliefs._propagate import Beliefs, propagate
from cgjax.inference._procedure import Method, Network, Procedure, intern, method, named
from cgjax.inference._procedure import _run, _run_compiled, check_capture
from cgjax.nodes import Belief


@method
class Moments(Method):
    """Options of `moments`."""

    nodes: str
    order: int
    positions: bool
    first_order: frozenset

    def run(self, program: Program, lead: Any, arrays: Any, capture: bool) -> tuple[Any, Records]:
        visitor = Beliefs(
            capture,
            nodes=self.nodes,
            order=self.order,
            positions=self.positions,
            first_order=self.first_order,
        )
        return propagate(program, visitor, arrays)


def _is_belief(x: Any) -> bool:
    return isinstance(x, Belief)


@dataclass(frozen=True, eq=False)
class _OfBeliefs(Procedure):
    """A procedure whose arguments may hold beliefs."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = jax.tree.flatten((args, kwargs), is_leaf=_is_belief)
        leaves = [_checked(x) if _is_belief(x) else x for x in leaves]
        args_, kwargs_ = jax.tree.unflatten(
            structure, [x.mean if _is_belief(x) else x for x in leaves]
        )
        program = trace(self.net, args_, kwargs_)
        arrays = [x for x in leaves if _is_belief(x) or _static.is_array(x) or _static.is_number(x)]
        structure, options = _static.split(self.method)
        if self.capture:
            check_capture(program)
        constants = program.constants
        code = program.code if program.closed_over else program
        traced = _static.is_traced((arrays, options, constants))
        run, code = (_run, program) if traced or code is None else (_run_compiled, code)
        out, records = run(structure, code, self.capture, options, (), arrays, constants)
        return (out, named(program, records)) if self.capture else out


def _checked(x: Belief) -> Belief:
    mean, variance = jnp.asarray(x.mean), jnp.asarray(x.variance)
    if not jnp.issubdtype(mean.dtype, jnp.floating):
        raise TypeError(f"The mean of a Belief must be floating point, got {mean.dtype}.")
    if variance.shape not in ((), mean.shape):
        raise ValueError(
            f"The variance of a Belief must have the shape of its mean, {mean.shape}, or be one "
            f"number, got shape {variance.shape}."
        )
    return Belief(mean, jnp.broadcast_to(jnp.asarray(variance, mean.dtype), mean.shape))


def moments(
    net: Network,
    *,
    nodes: Literal["collapsed", "random"] = "collapsed",
    order: Literal[1, 2] = 2,
    positions: bool = True,
    first_order: Iterable[str] = (),
) -> Procedure:
    """Mean and variance of a network's results, for beliefs about its arguments."""
    options = Moments(nodes, order, positions, frozenset(first_order))
    return intern(_OfBeliefs(net, options))
