"""Checks of what a `LinearChain` is given: shapes, values, and whether anything is possible."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike

from cgjax._static import described, is_array, is_number
from cgjax.nodes._one_hot import OneHotPositions


@dataclasses.dataclass(frozen=True, eq=False)
class ChainParameters(OneHotPositions):
    """The parameters of a linear chain; see `LinearChain`."""

    transitions: ArrayLike
    start: ArrayLike | None = None
    end: ArrayLike | None = None
    lengths: ArrayLike | None = None
    mask: ArrayLike | None = None

    def __post_init__(self) -> None:
        check_parameters(self)


_POTENTIALS = ("transitions", "start", "end")


def _given(chain: ChainParameters) -> dict[str, ArrayLike]:
    names = (*_POTENTIALS, "lengths", "mask")
    return {name: value for name in names if (value := getattr(chain, name)) is not None}


def check_parameters(chain: ChainParameters) -> None:
    """Raise for parameters that fit no natural parameter."""
    for name, value in _given(chain).items():
        if not is_array(value) and not is_number(value):
            raise TypeError(f"LinearChain.{name} must be an array, got {described(value)}")
        dtype = jnp.result_type(value)
        if name == "lengths" and not jnp.issubdtype(dtype, jnp.integer):
            raise TypeError(f"LinearChain.lengths must be integers, got {described(value)}")
        if name == "mask" and not jnp.issubdtype(dtype, jnp.bool_):
            raise TypeError(
                f"LinearChain.mask must be booleans, got {described(value)}: true where a position "
                "takes part, for example `mask > 0`"
            )
        if name in _POTENTIALS:
            _check_potentials(name, value)
    if chain.lengths is not None and chain.mask is not None:
        raise ValueError(
            "LinearChain takes either lengths or a mask, got both; a mask can say what lengths do: "
            "jnp.arange(T) < lengths[..., None]"
        )
    shape = np.shape(chain.transitions)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(
            "LinearChain.transitions must be of shape (K, K), (..., T - 1, K, K) or (..., 1, K, "
            f"K), from the state of the row to that of the column, got shape {shape}"
        )
    for name in ("start", "end"):
        got = np.shape(getattr(chain, name)) if getattr(chain, name) is not None else None
        if got is not None and got[-1:] != shape[-1:]:
            raise ValueError(
                f"LinearChain.{name} has shape {got}, and its last axis must be that of the "
                f"{shape[-1]} states of transitions of shape {shape}"
            )


def _check_potentials(name: str, value: ArrayLike) -> None:
    dtype = jnp.result_type(value)
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(f"LinearChain.{name} must be real numbers, got {described(value)}")
    if not isinstance(value, Tracer):
        known = np.asarray(value, np.float64)
        if np.isnan(known).any() or np.isposinf(known).any():
            raise ValueError(
                f"LinearChain.{name} must be finite, or -inf for what is forbidden; it holds "
                f"{known[np.isnan(known) | np.isposinf(known)][0]}"
            )


def check_shapes(chain: ChainParameters, shape: tuple[int, ...]) -> None:
    """Raise ValueError if a parameter does not fit a natural parameter of this shape."""
    *batch, length, k = shape
    steps = max(length - 1, 0)
    got = np.shape(chain.transitions)
    if got[-1] != k:
        raise ValueError(
            f"LinearChain.transitions has shape {got}, for {got[-1]} states, and the natural "
            f"parameter has {k}: its shape is {shape}, with positions and states last"
        )
    if len(got) > 2 and got[-3] not in (1, steps):
        raise ValueError(
            f"LinearChain.transitions has shape {got}, with matrices for {got[-3]} steps; a "
            f"natural "
            f"parameter of shape {shape} has {steps} steps between {length} positions. Give one "
            "matrix for each of them, or (..., 1, K, K) for one matrix a chain"
        )
    own = {"transitions": 3, "start": 1, "end": 1, "lengths": 0, "mask": 1}
    for name, value in _given(chain).items():
        got = np.shape(value)
        if name == "mask" and got[-1:] != (length,):
            raise ValueError(
                f"LinearChain.mask has shape {got}, and its last axis must be the {length} "
                f"positions of a natural parameter of shape {shape}"
            )
        lead = got[: max(len(got) - own[name], 0)]
        if len(lead) > len(batch) or any(
            n not in (1, m) for n, m in zip(lead[::-1], batch[::-1], strict=False)
        ):
            raise ValueError(
                f"LinearChain.{name} has shape {got}, whose leading axes {lead} do not broadcast "
                f"to the batch axes {tuple(batch)} of a natural parameter of shape {shape}"
            )
    lengths = chain.lengths
    if lengths is not None and not isinstance(lengths, Tracer):
        known = np.asarray(lengths)
        if known.size and not (0 <= known.min() and known.max() <= length):
            raise ValueError(
                f"LinearChain.lengths must be from 0 to {length}, the number of positions of a "
                f"natural parameter of shape {shape}, got {known.min()} to {known.max()}"
            )


def check_possible(chain: ChainParameters, e: Array) -> None:
    """Raise ValueError if all is known and some chain has no possible path."""
    given = _given(chain)
    if any(isinstance(x, Tracer) for x in (e, *given.values())):
        return
    never = {
        name: np.isneginf(np.asarray(x, np.float64))
        for name, x in (("e", e), *((n, given[n]) for n in _POTENTIALS if n in given))
    }
    if not any(forbidden.any() for forbidden in never.values()):
        return
    *batch, length, k = e.shape
    steps = max(length - 1, 0)
    mask = np.ones((*batch, length), bool)
    if "mask" in given:
        mask = np.broadcast_to(np.asarray(given["mask"]), mask.shape)
    elif "lengths" in given:
        lengths = np.asarray(given["lengths"])[..., None]
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
    if not possible.all():
        which = "" if not batch else f" (the first: {tuple(map(int, np.argwhere(~possible)[0]))})"
        raise ValueError(
            f"LinearChain: {math.prod(batch) - int(possible.sum())} of {math.prod(batch)} chains "
            f"have "
            f"no possible path{which}: every path takes a state or a step of potential -inf. Check "
            "what `transitions`, `start`, `end` and the natural parameter forbid together, or use "
            "a large negative number, such as -1e4, for what is merely unlikely"
        )


def check_count(k: int, shape: tuple[int, ...]) -> None:
    """Raise unless k can be a number of paths."""
    if not isinstance(k, int) or isinstance(k, bool):
        raise TypeError(f"LinearChain.top takes a number of paths, got {k!r}")
    length, states = shape[-2:]
    if k < 1 or k > states**length:
        raise ValueError(
            f"LinearChain.top takes 1 to {states}^{length} paths, as many as {length} positions "
            f"with {states} states have, got {k}"
        )
