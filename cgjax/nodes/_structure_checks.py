"""Checks of the parameters of families whose elements touch: potentials, lengths, batch axes."""

import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool

from cgjax._static import described, is_array, is_number


def given(family: object, names: tuple[str, ...]) -> dict[str, ArrayLike]:
    """The parameters of these names that there are."""
    return {name: value for name in names if (value := getattr(family, name)) is not None}


def _say(family: object, name: str) -> str:
    return f"{type(family).__name__}.{name}"


def check_array(family: object, name: str) -> None:
    """Raise TypeError unless a parameter is an array or a number."""
    value = getattr(family, name)
    if not is_array(value) and not is_number(value):
        raise TypeError(f"{_say(family, name)} must be an array, got {described(value)}")


def check_potentials(family: object, name: str) -> None:
    """Raise unless a parameter is real, and as far as it is known finite or -inf."""
    check_array(family, name)
    value = getattr(family, name)
    dtype = jnp.result_type(value)
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(f"{_say(family, name)} must be real numbers, got {described(value)}")
    if not isinstance(value, Tracer):
        known = np.asarray(value, np.float64)
        wrong = np.isnan(known) | np.isposinf(known)
        if wrong.any():
            raise ValueError(
                f"{_say(family, name)} must be finite, or -inf for what is forbidden; it holds "
                f"{known[wrong][0]}"
            )


def check_integers(family: object, name: str) -> None:
    """Raise TypeError unless a parameter is an array of integers."""
    check_array(family, name)
    value = getattr(family, name)
    if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise TypeError(f"{_say(family, name)} must be integers, got {described(value)}")


def check_matrices(family: object, name: str, shapes: str) -> None:
    """Raise unless a parameter is an array whose last two axes have one size."""
    check_array(family, name)
    shape = np.shape(getattr(family, name))
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"{_say(family, name)} must be of shape {shapes}, got shape {shape}")


def check_same_states(family: object, name: str, matrices: str) -> None:
    """Raise ValueError unless the last axis of a parameter is that of the matrices."""
    got, shape = np.shape(getattr(family, name)), np.shape(getattr(family, matrices))
    if got[-1:] != shape[-1:]:
        raise ValueError(
            f"{_say(family, name)} has shape {got}, and its last axis must be that of the "
            f"{shape[-1]} states of {matrices} of shape {shape}"
        )


def check_states(family: object, name: str, shape: tuple[int, ...], axes: str) -> None:
    """Raise ValueError unless matrices are for as many states as a natural parameter has."""
    got, k = np.shape(getattr(family, name)), shape[-1]
    if got[-1] != k:
        raise ValueError(
            f"{_say(family, name)} has shape {got}, for {got[-1]} states, and the natural "
            f"parameter has {k}: its shape is {shape}, with {axes} last"
        )


def check_leading(
    family: object, own: Mapping[str, int], batch: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    """Raise ValueError if axes before a parameter's own ones do not broadcast to the batch."""
    for name, value in given(family, tuple(own)).items():
        got = np.shape(value)
        lead = got[: max(len(got) - own[name], 0)]
        if len(lead) > len(batch) or any(
            n not in (1, m) for n, m in zip(lead[::-1], batch[::-1], strict=False)
        ):
            raise ValueError(
                f"{_say(family, name)} has shape {got}, whose leading axes {lead} do not broadcast "
                f"to the batch axes {tuple(batch)} of a natural parameter of shape {shape}"
            )


def check_lengths(family: object, lengths: ArrayLike | None, length: int, shape: tuple) -> None:
    """Raise ValueError if lengths that are known are not from 0 to the number of positions."""
    if lengths is None or isinstance(lengths, Tracer):
        return
    known = np.asarray(lengths)
    if known.size and not (0 <= known.min() and known.max() <= length):
        raise ValueError(
            f"{_say(family, 'lengths')} must be from 0 to {length}, the number of positions of a "
            f"natural parameter of shape {shape}, got {known.min()} to {known.max()}"
        )


def forbidden(
    family: object, e: Array, potentials: tuple[str, ...], others: tuple[str, ...] = ()
) -> dict[str, Bool[np.ndarray, "..."]] | None:
    """Where e ("e") and potentials are -inf; None if nothing is, or not everything is known."""
    arrays = given(family, potentials)
    if any(isinstance(x, Tracer) for x in (e, *arrays.values(), *given(family, others).values())):
        return None
    never = {n: np.isneginf(np.asarray(x, np.float64)) for n, x in {"e": e, **arrays}.items()}
    return never if any(x.any() for x in never.values()) else None


def require_possible(
    family: object, possible: ArrayLike, names: str, what: tuple[str, str]
) -> None:
    """Raise ValueError unless everything is possible.

    Args:
        family: whose parameters these are.
        possible: whether each node of a batch has a possible value, (...).
        names: of the parameters that may forbid something.
        what: nodes, and one of their values, in words.
    """
    possible = np.asarray(possible)
    if possible.all():
        return
    many, one = what
    which = ""
    if possible.ndim:
        which = f" (the first: {tuple(map(int, np.argwhere(~possible)[0]))})"
    total = math.prod(possible.shape)
    raise ValueError(
        f"{type(family).__name__}: {total - int(possible.sum())} of {total} {many} have "
        f"no possible {one}{which}: every {one} takes a state or a step of potential -inf. Check "
        f"what {names} and the natural parameter forbid together, or use "
        "a large negative number, such as -1e4, for what is merely unlikely"
    )
