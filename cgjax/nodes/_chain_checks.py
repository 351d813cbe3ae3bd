"""Checks of what a `LinearChain` is given: shapes, values, and whether anything is possible."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from cgjax._static import described
from cgjax.nodes import _structure_checks as checks
from cgjax.nodes._structured import Structured


@dataclasses.dataclass(frozen=True, eq=False)
class ChainParameters(Structured):
    """The parameters of a linear chain; see `LinearChain`."""

    transitions: ArrayLike
    start: ArrayLike | None = None
    end: ArrayLike | None = None
    lengths: ArrayLike | None = None
    mask: ArrayLike | None = None

    def __post_init__(self) -> None:
        check_parameters(self)


_POTENTIALS = ("transitions", "start", "end")


def check_parameters(chain: ChainParameters) -> None:
    """Raise for parameters that fit no natural parameter."""
    for name in checks.given(chain, _POTENTIALS):
        checks.check_potentials(chain, name)
    if chain.lengths is not None:
        checks.check_integers(chain, "lengths")
    if chain.mask is not None:
        checks.check_array(chain, "mask")
        if not jnp.issubdtype(jnp.result_type(chain.mask), jnp.bool_):
            raise TypeError(
                f"LinearChain.mask must be booleans, got {described(chain.mask)}: true where a "
                "position takes part, for example `mask > 0`"
            )
    if chain.lengths is not None and chain.mask is not None:
        raise ValueError(
            "LinearChain takes either lengths or a mask, got both; a mask can say what lengths do: "
            "jnp.arange(T) < lengths[..., None]"
        )
    shapes = "(K, K), (..., T - 1, K, K) or (..., 1, K, K), from the state of the row to that of"
    checks.check_matrices(chain, "transitions", f"{shapes} the column")
    for name in checks.given(chain, ("start", "end")):
        checks.check_same_states(chain, name, "transitions")


def check_shapes(chain: ChainParameters, shape: tuple[int, ...]) -> None:
    """Raise ValueError if a parameter does not fit a natural parameter of this shape."""
    *batch, length, _ = shape
    steps = max(length - 1, 0)
    checks.check_states(chain, "transitions", shape, "positions and states")
    got = np.shape(chain.transitions)
    if len(got) > 2 and got[-3] not in (1, steps):
        raise ValueError(
            f"LinearChain.transitions has shape {got}, with matrices for {got[-3]} steps; a "
            f"natural "
            f"parameter of shape {shape} has {steps} steps between {length} positions. Give one "
            "matrix for each of them, or (..., 1, K, K) for one matrix a chain"
        )
    if chain.mask is not None and np.shape(chain.mask)[-1:] != (length,):
        raise ValueError(
            f"LinearChain.mask has shape {np.shape(chain.mask)}, and its last axis must be the "
            f"{length} positions of a natural parameter of shape {shape}"
        )
    own = {"transitions": 3, "start": 1, "end": 1, "lengths": 0, "mask": 1}
    checks.check_leading(chain, own, tuple(batch), shape)
    checks.check_lengths(chain, chain.lengths, length, shape)


def check_possible(chain: ChainParameters, e: Array) -> None:
    """Raise ValueError if all is known and some chain has no possible path."""
    never = checks.forbidden(chain, e, _POTENTIALS, ("lengths", "mask"))
    if never is None:
        return
    *batch, length, k = e.shape
    steps = max(length - 1, 0)
    mask = np.ones((*batch, length), bool)
    if chain.mask is not None:
        mask = np.broadcast_to(np.asarray(chain.mask), mask.shape)
    elif chain.lengths is not None:
        lengths = np.asarray(chain.lengths)[..., None]
        mask = np.broadcast_to(np.arange(length) < lengths, mask.shape)
    transitions = never["transitions"]
    transitions = transitions[None] if transitions.ndim == 2 else transitions
    matrices = np.broadcast_to(~transitions, (*batch, steps, k, k))
    begin, end = (~never.get(name, np.zeros(k, bool)) for name in ("start", "end"))
    reached, begun = np.zeros((*batch, k), bool), np.zeros((*batch, 1), bool)
    for t in range(length):
        here = mask[..., t, None]
        into = np.broadcast_to(begin, reached.shape)
        if t:
            into = np.where(begun, (reached[..., None] & matrices[..., t - 1, :, :]).any(-2), into)
        reached = np.where(here, into & ~never["e"][..., t, :], reached)
        begun = begun | here
    possible = (reached & end).any(-1) | ~begun[..., 0]
    names = "`transitions`, `start`, `end`"
    checks.require_possible(chain, possible, names, ("chains", "path"))
