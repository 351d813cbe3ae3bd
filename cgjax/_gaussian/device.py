"""Which form of a computation there is, where it depends on the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from jax import lax
from jaxtyping import Array

_T = TypeVar("_T")

_is_decided = ContextVar("_is_decided", default=False)


def by_device(*operands: Array, cpu: Callable[..., _T], default: Callable[..., _T]) -> _T:
    """One function on CPUs and another elsewhere; within `as_elsewhere`, that for elsewhere.

    Args:
        operands: what either function is called with.
        cpu, default: to trees of arrays that are alike.
    """
    if _is_decided.get():
        return default(*operands)
    return lax.platform_dependent(*operands, cpu=cpu, default=default)


@contextmanager
def as_elsewhere() -> Iterator[None]:
    """What is traced has the forms of other devices than CPUs.

    It must call no function under `jax.jit` that chooses by the device and outlives the context:
    JAX would remember how it was traced here.
    """
    token = _is_decided.set(True)
    try:
        yield
    finally:
        _is_decided.reset(token)
