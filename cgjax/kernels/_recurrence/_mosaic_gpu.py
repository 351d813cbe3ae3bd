"""The recurrence as a Pallas kernel for NVIDIA GPUs, lowered by Mosaic GPU.

One thread has one lane (a unit of an example) and walks through time, with the state in a register;
the threads of a block read and write neighbouring addresses at each step. A step waits for the last
one, but its inputs do not, so a thread asks for those of the next few steps before it computes.
The derivative by the weights is summed over time in a register, and over the batch outside, in an
order that is always the same.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.typing import DTypeLike
from jaxtyping import Array

from cgjax._cache import recent
from cgjax._static import Function, Tree
from cgjax.kernels._recurrence._activations import precise, rounded
from cgjax.kernels._recurrence._scan import fitted
from cgjax.kernels._recurrence._settings import Noise, Settings, mixture, varying_alike
from cgjax.kernels.random_bits import row_words

# Memory that a kernel reads and writes: what stands for it differs between versions of JAX.
Reference: TypeAlias = Any
# The number of a step.
Turn = Array | int

# One warpgroup, with one lane a thread.
_BLOCK = 128


def forward(settings: Settings, x: Array, u: Array, initial: Array, noise: Noise | None) -> Array:
    """All states; arguments and result as `_scan.forward`. Words are drawn from a threefry key."""
    if not x.size:
        return x
    lanes = x.shape[1:]
    row = math.prod(lanes)
    operands = [_flat(a, lanes, precise(x.dtype)) for a in (u, initial)]
    if noise is not None:
        assert noise.key is not None and noise.rate.shape[0] == 1
        key = [jnp.full((row,), word) for word in (noise.key[0], noise.key[1])]
        numbers = jnp.arange(row, dtype=jnp.uint32)
        operands += [*key, numbers, _flat(noise.rate[0], lanes, jnp.float32)]
    states = _forward_lanes(settings, row)(x.reshape(x.shape[0], row), *operands)
    return states.reshape(x.shape)


def cotangent(
    settings: Settings, u: Array, h: Array, initial: Array, x: Array | None, g: Array
) -> tuple[Array, Array, Array]:
    """As `_scan.cotangent`."""
    if not h.size:
        return g, jnp.zeros_like(u), jnp.zeros_like(initial)
    lanes, steps = h.shape[1:], h.shape[0]
    row = math.prod(lanes)
    wide = precise(h.dtype)
    inputs = [a.reshape(steps, row) for a in (g, h, *(() if x is None else (x,)))]
    operands = [_flat(a, lanes, wide) for a in (u, initial)]
    dx, du, dinitial = _backward_lanes(settings)(*inputs, *operands)
    du, dinitial = du.reshape(lanes), dinitial.reshape(lanes)
    return dx.reshape(h.shape), fitted(du, u), fitted(dinitial, initial)


def _flat(array: Array, lanes: tuple[int, ...], dtype: DTypeLike) -> Array:
    return jnp.broadcast_to(array.astype(dtype), lanes).reshape(-1)


# -- over flat lanes: arrays (steps, lanes) and (lanes,); a map over them adds lanes


def _by_lanes(run: Function) -> Function:
    """Lets a function of lanes be mapped: the lanes of all its rows stand side by side."""
    mapped = jax.custom_batching.custom_vmap(run)

    @mapped.def_vmap
    def rule(size: int, is_mapped: Sequence[bool], *args: Array) -> tuple[Tree, Tree]:
        def beside(array: Array, has_rows: bool) -> Array:
            if not has_rows:
                array = jnp.broadcast_to(array, (size, *array.shape))
            array = jnp.moveaxis(array, 0, -2)
            return array.reshape(*array.shape[:-2], -1)

        def apart(array: Array) -> Array:
            return jnp.moveaxis(array.reshape(*array.shape[:-1], size, -1), -2, 0)

        out = mapped(*map(beside, args, is_mapped))
        return jax.tree.map(apart, out), jax.tree.map(lambda _: True, out)

    return mapped


@recent(128)
def _forward_lanes(settings: Settings, row: int) -> Function:
    """`run(x, u, initial, *noise)`; `row` lanes have one key, whose words their numbers count."""

    def run(x: Array, *operands: Array) -> Array:
        out = _output(x, _padded_shape(x.shape), x.dtype)
        body = partial(_forward_body, settings, row)
        (states,) = _launch(settings, body, (x, *operands), (out,))
        return states[:, : x.shape[1]]

    return _by_lanes(run)


@recent(128)
def _backward_lanes(settings: Settings) -> Function:
    """`run(g, h, *x, u, initial)` to the cotangents of x, u and the initial state, by lane."""

    def run(g: Array, *operands: Array) -> tuple[Array, ...]:
        steps, lanes = g.shape
        padded = _padded_shape(g.shape)
        number = _output(g, padded[1:], precise(g.dtype))
        outs = (_output(g, padded, g.dtype), number, number)
        dx, du, dinitial = _launch(
            settings, partial(_backward_body, settings), (g, *operands), outs
        )
        return dx[:, :lanes], du[:lanes], dinitial[:lanes]

    return _by_lanes(run)


def _padded_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-1], -(-shape[-1] // _BLOCK) * _BLOCK)


def _output(like: Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """An output that differs between the devices of a `jax.shard_map` as an input does."""
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=jax.typeof(like).mat)


def _launch(
    settings: Settings,
    body: Callable[..., None],
    arrays: Sequence[Array],
    outs: tuple[jax.ShapeDtypeStruct, ...],
) -> Sequence[Array]:
    """Runs `body(lanes, zeros, *input references, *output references)` for each block of lanes."""
    missing = outs[0].shape[-1] - arrays[0].shape[-1]
    if missing:
        # Lanes of zeros, whose states stay finite for every activation.
        arrays = [jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, missing)]) for a in arrays]
    blocks = outs[0].shape[-1] // _BLOCK
    if settings.interpret:

        def interpreted(*references: Reference) -> None:
            lanes = pl.ds(pl.program_id(0) * _BLOCK, _BLOCK)
            body(lanes, lambda dtype: jnp.zeros(_BLOCK, dtype), *references)

        return pl.pallas_call(interpreted, outs, grid=(blocks,), interpret=True)(*arrays)

    arrays = _only_on_gpu_p.bind(arrays[0]), *arrays[1:]
    # Imported here, since it needs parts of jaxlib that not every build has.
    from jax.experimental.pallas import mosaic_gpu

    def zeros(dtype: DTypeLike) -> Array:
        # One register a thread, as what is read from memory has: not one number for all.
        layout = mosaic_gpu.Layout.WG_STRIDED((_BLOCK,), 1)
        return mosaic_gpu.layout_cast(jnp.zeros((_BLOCK,), dtype), layout)

    def kernel(*references: Reference) -> None:
        body(pl.ds(lax.axis_index("block") * _BLOCK, _BLOCK), zeros, *references)

    # Layouts are given above. To infer them instead, as newer versions of JAX do by default, takes
    # minutes for the rounds of a random generator.
    semantics = mosaic_gpu.LoweringSemantics.Lane
    results = mosaic_gpu.kernel(
        kernel,
        out_type=outs,
        grid=(blocks,),
        grid_names=("block",),
        compiler_params=mosaic_gpu.CompilerParams(lowering_semantics=semantics),
    )(*arrays)
    # The kernel's results have lost on which axes of a `jax.shard_map` they differ.
    return varying_alike(arrays[0], *results)[1:]


# The array itself, in programs for CUDA; for any other platform there is none.
_only_on_gpu_p = Primitive("cgjax_only_on_gpu")
_only_on_gpu_p.def_abstract_eval(lambda x: x)


def _no_gpu(context: mlir.LoweringRuleContext, x: object) -> NoReturn:
    (platform, *_) = context.module_context.platforms
    raise ValueError(
        "implementation='mosaic_gpu' is a kernel for NVIDIA GPUs, and this program is for "
        f"{platform}; implementation='scan' runs on every device."
    )


mlir.register_lowering(_only_on_gpu_p, lambda context, x: [x], platform="cuda")
mlir.register_lowering(_only_on_gpu_p, _no_gpu)


# -- the kernels


def _forward_body(
    settings: Settings,
    row: int,
    lanes: pl.Slice,
    zeros: Callable[[DTypeLike], Array],
    *references: Reference,
) -> None:
    x, u, initial, *noise, h = references
    steps, wide = x.shape[0], precise(x.dtype)
    u, state = u[lanes], _rounded(settings, initial[lanes], x.dtype)
    noise = [reference[lanes] for reference in noise]

    def read(t: Turn) -> Array:
        return x[t, lanes].astype(wide)

    def step(t: Turn, inputs: Array, state: Array) -> Array:
        e = _rounded(settings, inputs + u * state, x.dtype)
        if noise:
            key0, key1, number, rate = noise
            words = row_words((key0, key1), t, (row,), lane=number)
            state = mixture(settings.activation, words, rate, e)
        else:
            state = settings.activation.value(e)
        state = _rounded(settings, state, x.dtype)
        h[t, lanes] = state.astype(x.dtype)
        return state

    _walk(settings.ahead, steps, read, step, state)


def _backward_body(
    settings: Settings, lanes: pl.Slice, zeros: Callable[[DTypeLike], Array], *references: Reference
) -> None:
    g, h, *x, u, initial, dx, du, dinitial = references
    steps, wide = g.shape[0], precise(g.dtype)
    u, first = u[lanes], _rounded(settings, initial[lanes], h.dtype)

    def read(turn: Turn) -> tuple[Array, ...]:
        t = steps - 1 - turn
        read = [g[t, lanes].astype(wide)]
        if x:
            before = h[jnp.maximum(t - 1, 0), lanes].astype(wide)
            read += [before, x[0][t, lanes].astype(wide)]
        else:
            read += [h[t, lanes].astype(wide)]
        return tuple(read)

    def step(turn: Turn, inputs: Sequence[Array], carry: Tree) -> Tree:
        t = steps - 1 - turn
        if x:
            later, du, now = carry
            g, before, x_t = inputs
            before = lax.select(jnp.full((_BLOCK,), t == 0), first, before)
            e = _rounded(settings, x_t + u * before, h.dtype)
        else:
            later, du = carry
            (g, now), before, e = inputs, None, None
        # As in the loop: delta_{t+1} meets h_t.
        du = du + later * now
        delta = settings.slope(e, now) * (g + u * later)
        dx[t, lanes] = delta.astype(dx.dtype)
        return (delta, du, before) if x else (delta, du)

    start = (zeros(wide), zeros(wide))
    if x:
        start = (*start, h[steps - 1, lanes].astype(wide))
    delta, total, *_ = _walk(settings.ahead, steps, read, step, start)
    du[lanes] = total + delta * first
    dinitial[lanes] = u * delta


def _walk(ahead: int, steps: int, read: Function, step: Function, carry: Tree) -> Tree:
    """`carry = step(t, read(t), carry)` for all steps in turn, reading some steps ahead."""
    full = steps // ahead

    def several(turn: Array, state: tuple[Tree, list[Tree]]) -> tuple[Tree, list[Tree]]:
        carry, inputs = state
        start = turn * ahead
        # Asked for before the steps that they come after; behind the end the last one again.
        coming = [read(jnp.minimum(start + ahead + k, steps - 1)) for k in range(ahead)]
        for k in range(ahead):
            carry = step(start + k, inputs[k], carry)
        return carry, coming

    inputs = [read(min(k, steps - 1)) for k in range(ahead)]
    if full:
        carry, inputs = lax.fori_loop(0, full, several, (carry, inputs))
    for k in range(steps - full * ahead):
        carry = step(full * ahead + k, inputs[k], carry)
    return carry


def _rounded(settings: Settings, array: Array, dtype: DTypeLike) -> Array:
    """As `rounded`, by conversions: the kernel's compiler keeps them, and has no other way."""
    if settings.interpret:
        return rounded(array, dtype)
    return array.astype(dtype).astype(array.dtype)
