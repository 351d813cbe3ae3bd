"""A recurrence with a derivative by hand, in both directions and of every order.

A custom derivative of JAX serves one direction only. Here the change of the states is a primitive
of its own, linear in the changes of the arguments: its evaluation is the forward mode, its
transpose the backward loop by hand, and both are plain functions when they are differentiated
themselves.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from cgjax._static import Function, Tree
from cgjax.kernels._recurrence import _mosaic_gpu, _parallel, _scan
from cgjax.kernels._recurrence._settings import Noise, Settings

# What a rule of JAX is given: arrays, or what stands for an unknown one or for zero.
Operand: TypeAlias = Any
Operands = Sequence[Operand]
Cotangents = tuple[Array, Array, Array]

_IMPLEMENTATIONS = {"scan": _scan, "parallel": _parallel, "mosaic_gpu": _mosaic_gpu}


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recurrence(
    settings: Settings, x: Array, u: Array, initial: Array, noise: Noise | None
) -> Array:
    """All states; see `_scan.forward` for the arguments."""
    return _IMPLEMENTATIONS[settings.implementation].forward(settings, x, u, initial, noise)


# `inline`: eager calls are cached, and a traced one leaves no call behind.
recurrence = jax.jit(_recurrence, static_argnums=0, inline=True)


@_recurrence.defjvp
def _recurrence_jvp(
    settings: Settings, primals: Operands, tangents: Operands
) -> tuple[Array, Array]:
    x, u, initial, noise = primals
    dx, du, dinitial, _ = tangents
    h = recurrence(settings, x, u, initial, noise)
    kept = (u, h, initial, *((x,) if settings.needs_e else ()))
    return h, tangent_p.bind(*kept, dx, du, dinitial, settings=settings, maps=0)


tangent_p = Primitive("cgjax_recurrence_tangent")


def _kept(settings: Settings, args: tuple[Array, ...]) -> tuple[Operands, Operands]:
    """The arguments that the derivative depends on, x or None last; and the linear ones."""
    kept, linear = args[:-3], args[-3:]
    return (*kept[:3], kept[3] if settings.needs_e else None), linear


@partial(jax.jit, static_argnums=0, inline=True)
def _tangent(settings: Settings, *args: Array) -> Array:
    kept, linear = _kept(settings, args)
    own: Function = _parallel.tangent if settings.implementation == "parallel" else _scan.tangent
    return own(settings, *kept, *linear)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _cotangent(settings: Settings, *args: Array) -> Cotangents:
    kept, g = args[:-1], args[-1]
    x = kept[3] if settings.needs_e else None
    own = _IMPLEMENTATIONS[settings.implementation].cotangent
    return own(settings, *kept[:3], x, g)


_backward = jax.jit(_cotangent, static_argnums=0, inline=True)


@_cotangent.defjvp
def _cotangent_jvp(settings: Settings, primals: Operands, tangents: Operands) -> tuple[Tree, Tree]:
    # Second derivatives come from the plain loop, which JAX differentiates.
    out = _cotangent(settings, *primals)

    def plain(*args: Array) -> Cotangents:
        u, h, initial, g = *args[:3], args[-1]
        return _scan.cotangent(settings, u, h, initial, args[3] if settings.needs_e else None, g)

    return out, jax.jvp(plain, primals, tangents)[1]


def _mapped(function: Function, settings: Settings, maps: int) -> Function:
    function = partial(function, settings)
    for _ in range(maps):
        function = jax.vmap(function)
    return function


def _evaluate(*args: Array, settings: Settings, maps: int) -> Array:
    return _mapped(_tangent, settings, maps)(*args)


def _jvp(
    primals: Operands, tangents: Operands, *, settings: Settings, maps: int
) -> tuple[Array, Array]:
    if not any(type(t) is not ad.Zero for t in tangents[:-3]):
        # Linear in the rest: the change stays transposable by hand.
        own = [ad.instantiate_zeros(t) for t in tangents[-3:]]
        params = {"settings": settings, "maps": maps}
        return tangent_p.bind(*primals, **params), tangent_p.bind(*primals[:-3], *own, **params)
    tangents = [ad.instantiate_zeros(t) for t in tangents]
    plain = _mapped(_plain_tangent, settings, maps)
    return jax.jvp(plain, tuple(primals), tuple(tangents))


def _plain_tangent(settings: Settings, *args: Array) -> Array:
    kept, linear = _kept(settings, args)
    return _scan.tangent(settings, *kept, *linear)


def _transpose(
    ct: Array | ad.Zero, *args: Operand, settings: Settings, maps: int
) -> Sequence[Array | None]:
    kept, linear = args[:-3], args[-3:]
    if type(ct) is ad.Zero:
        return [None] * len(args)
    out = _mapped(_backward, settings, maps)(*kept, ct)
    unknown = [ad.is_undefined_primal(a) for a in linear]
    return [None] * len(kept) + [c if need else None for c, need in zip(out, unknown, strict=True)]


def _batch(
    args: Sequence[Array], dims: Sequence[int | None], *, settings: Settings, maps: int
) -> tuple[Array, int]:
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)

    def in_front(a: Array, d: int | None) -> Array:
        return jnp.broadcast_to(a, (size, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)

    args = [in_front(a, d) for a, d in zip(args, dims, strict=True)]
    return tangent_p.bind(*args, settings=settings, maps=maps + 1), 0


tangent_p.def_impl(_evaluate)
tangent_p.def_abstract_eval(lambda u, h, *rest, **params: h)
mlir.register_lowering(tangent_p, mlir.lower_fun(_evaluate, multiple_results=False))
ad.primitive_jvps[tangent_p] = _jvp
ad.primitive_transposes[tangent_p] = _transpose
batching.primitive_batchers[tangent_p] = _batch
