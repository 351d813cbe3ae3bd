"""The recurrence as a loop, and its derivative by hand: what the others are held to.

    e_t = x_t + u h_{t-1},   h_t = act(e_t)
    delta_t = act'(e_t) (g_t + u delta_{t+1})      for cotangents g_t of h_t
    dx_t = delta_t,   du = sum_t delta_t h_{t-1},   dh_0 = u delta_1

act' is a function of h_t, so the backward loop needs h alone, where differentiating the forward
loop itself would keep more. For a sampled node it is a function of (e_t, h_t), and e_t is computed
again from x_t and h_{t-1}.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cgjax._static import Tree
from cgjax.kernels._recurrence._activations import precise, rounded
from cgjax.kernels._recurrence._settings import Noise, Settings, mixture
from cgjax.kernels.random_bits import row_words


def forward(settings: Settings, x: Array, u: Array, initial: Array, noise: Noise | None) -> Array:
    """All states.

    Args:
        settings: what to compute.
        x: (time, *lanes).
        u: recurrent weights, in at least float32, of as many axes as the lanes, some of size 1.
        initial: the state before the first step, as u.
        noise: if nodes are sampled.

    Returns:
        Shape and dtype of x.
    """
    wide, lanes = precise(x.dtype), x.shape[1:]
    activation = settings.activation

    def step(state: Array, inputs: Tree) -> tuple[Array, Array]:
        x, t, words, rate = inputs
        e = rounded(x.astype(wide) + u * state, x.dtype)
        if noise is None:
            state = activation.value(e)
        else:
            if noise.key is not None:
                words = row_words(noise.key, t, lanes)
            rate = noise.rate[0] if rate is None else rate
            state = mixture(activation, words, rate, e)
        state = rounded(state, x.dtype)
        return state, state.astype(x.dtype)

    start = rounded(jnp.broadcast_to(initial.astype(wide), lanes), x.dtype)
    turns = words = rates = None
    if noise is not None:
        turns, words = jnp.arange(x.shape[0], dtype=jnp.uint32), noise.words
        rates = noise.rate if noise.rate.shape[0] == x.shape[0] else None
    return lax.scan(step, start, (x, turns, words, rates))[1]


def tangent(
    settings: Settings,
    u: Array,
    h: Array,
    initial: Array,
    x: Array | None,
    dx: Array,
    du: Array,
    dinitial: Array,
) -> Array:
    """The change of all states for changes of the inputs, the weights and the initial state."""
    wide, lanes = precise(h.dtype), h.shape[1:]

    def step(carry: tuple[Array, Array], inputs: Tree) -> tuple[tuple[Array, Array], Array]:
        before, change = carry
        x, h, dx = inputs
        h = h.astype(wide)
        e = None if x is None else rounded(x.astype(wide) + u * before, dx.dtype)
        change = settings.slope(e, h) * (dx.astype(wide) + du * before + u * change)
        return (h, change), change.astype(dx.dtype)

    start = jnp.broadcast_to(initial.astype(wide), lanes)
    change = jnp.broadcast_to(dinitial.astype(wide), lanes)
    return lax.scan(step, (rounded(start, h.dtype), change), (x, h, dx))[1]


def cotangent(
    settings: Settings, u: Array, h: Array, initial: Array, x: Array | None, g: Array
) -> tuple[Array, Array, Array]:
    """The transpose of `tangent`: `(dx, du, dinitial)` for cotangents g of the states."""
    wide, lanes, length = precise(h.dtype), h.shape[1:], h.shape[0]
    if not length:
        return g, jnp.zeros_like(u), jnp.zeros_like(initial)
    first = rounded(jnp.broadcast_to(initial.astype(wide), lanes), h.dtype)

    def step(carry: tuple[Array, Array], inputs: Tree) -> tuple[tuple[Array, Array], Array]:
        later, du = carry
        g, now, x, t = inputs
        now, e = now.astype(wide), None
        if x is not None:
            # Read where it lies: a shifted copy of all states would cost as much as a step.
            before = lax.dynamic_index_in_dim(h, jnp.maximum(t - 1, 0), keepdims=False)
            before = jnp.where(t == 0, first, before.astype(wide))
            e = rounded(x.astype(wide) + u * before, h.dtype)
        # delta_{t+1} meets h_t here, so that the loop needs the state of one step only.
        du = du + later * now
        delta = settings.slope(e, now) * (g.astype(wide) + u * later)
        return (delta, du), delta.astype(g.dtype)

    zero = jnp.zeros_like(first)
    turns = None if x is None else jnp.arange(length)
    (delta, du), dx = lax.scan(step, (zero, zero), (g, h, x, turns), reverse=True)
    du = du + delta * first
    return dx, fitted(du, u), fitted(u * delta, initial)


def fitted(array: Array, like: Array) -> Array:
    """The sum over the axes along which another array was broadcast to this one."""
    axes = tuple(i for i, (n, m) in enumerate(zip(array.shape, like.shape, strict=True)) if n != m)
    return jnp.sum(array, axes, keepdims=True).astype(like.dtype)
