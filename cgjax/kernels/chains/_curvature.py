"""The derivative of marginals: one more pass in each direction, of expectations.

With f(z) = sum_t u_t(z_t) + sum_t M_t(z_t, z_{t+1}), the score's change along a direction,

    d P(z_t) = Cov(z_t, f),     d P(z_t, z_{t+1}) = Cov((z_t, z_{t+1}), f)

u and M are centred at each step, so that E[f] is 0 and nothing large cancels. Then, with a, b, c, P
and w of the scaled recursions, g_t = w_t / c_t and r_t = g_t b_t,

    A_t = a_t u_t + g_t (A_{t-1} P + a_{t-1} (P M_t))              a_t E[f up to t | z_t]
    B_{t-1} = P (g_t (B_t + b_t u_t)) + (P M_t) r_t                b_t E[f after t | z_t]
    d P(z_t) = A_t b_t + a_t B_t

where P M_t is the product of entries. The map is linear in (u, M), so JAX transposes its loops.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float

from cgjax._static import Tree
from cgjax.kernels.chains import _logarithmic, _scaled
from cgjax.kernels.chains._chain import Chain, batch_last, by_edge, matrix_of, rows_times, times

# Changes of marginals, pairs, states and weights, as `_scaled.Sums` has them.
Changes = tuple[Array, Array, Array | None, Array | None]


class _Passes(NamedTuple):
    """The scaled recursions of chains, time first.

    Attributes:
        states: a, (T, B, K).
        laters: b, (T, B, K).
        steps: g, (T - 1, B, K), 0 where a position does not follow another one.
        matrices: P, (B or 1, 1 or T - 1, K, K).
    """

    states: Float[Array, "T B K"]
    laters: Float[Array, "T B K"]
    steps: Float[Array, "E B K"]
    matrices: Float[Array, "b e K K"]


def _passes(chain: Chain) -> _Passes:
    potentials = _scaled.scaled(chain)
    states, laters, constants, *_ = _scaled.two_passes(potentials)
    steps = (potentials.unary / constants)[1:]
    if potentials.masks is not None:
        steps = jnp.where(potentials.masks[1][:, :, None], steps, 0)
    return _Passes(states, laters, steps, jnp.moveaxis(potentials.transitions, 0, 1))


@custom_vmap
def _all(reliable: Bool[Array, " B"]) -> Bool[Array, ""]:
    """Whether all chains are reliable, of those along a mapped axis too: a condition stays one."""
    return jnp.all(reliable)


@_all.def_vmap
def _(axis_size: int, in_batched: list[bool], reliable: Array) -> tuple[Array, bool]:
    return _all(reliable.reshape(math.prod(reliable.shape))), False


def _products(rows: Float[Array, "E B K"], matrices: Float[Array, "b e K K"]) -> Array:
    """Each row times the matrix of its step."""
    if matrices.shape[1] == 1:
        return rows_times(rows, matrices[:, 0])
    matrices = jnp.broadcast_to(matrices, (rows.shape[1], *matrices.shape[1:]))
    return jnp.einsum("tbi,btij->tbj", rows, matrices, precision=lax.Precision.HIGHEST)


def _by_expectations(chain: Chain, passes: _Passes, unary: Array, transitions: Array) -> Changes:
    a, b, g, p = passes
    r, u = g * b[1:], jnp.moveaxis(unary, 1, 0)
    takes_part = None if chain.mask is None else chain.mask.T[:, :, None]
    u = u - jnp.sum(a * b * u, 2, keepdims=True)
    if takes_part is not None:
        u = jnp.where(takes_part, u, 0)
    changed = p * transitions
    q = _products(a[:-1], changed)
    centre = jnp.sum(q * r, 2, keepdims=True)
    flipped, changed_flipped = jnp.swapaxes(p, 2, 3), jnp.swapaxes(changed, 2, 3)
    into = a[1:] * (u[1:] - centre) + g * q
    back = _products(r, changed_flipped) - centre * _products(r, flipped)
    shared = p[:, 0] if chain.homogeneous else None

    def forth(state: Array, inputs: Tree) -> tuple[Array, Array]:
        constant, factor, matrix, there = inputs
        new = constant + factor * times(state, matrix_of(matrix, shared))
        if there is not None:
            new = jnp.where(there, new, state)
        return new, new

    def backwards(later: Array, inputs: Tree) -> tuple[Array, Array]:
        constant, own, factor, matrix, there = inputs
        matrix = jnp.swapaxes(matrix_of(matrix, shared), 1, 2)
        new = constant + times(factor * (later + own), matrix)
        if there is not None:
            new = jnp.where(there, new, later)
        return new, new

    each, there = by_edge(p), None if takes_part is None else takes_part[1:]
    first = a[0] * u[0]
    _, up_to = lax.scan(forth, first, (into, g, each, there))
    up_to = jnp.concatenate([first[None], up_to])
    own = b[1:] * u[1:]
    last = jnp.zeros_like(first)
    _, after = lax.scan(backwards, last, (back, own, g, each, there), reverse=True)
    after = jnp.concatenate([after, last[None]])
    marginals = up_to * b + a * after
    if takes_part is not None:
        marginals = jnp.where(takes_part, marginals, 0)
    behind = g * (after[1:] + own) - centre * r
    if chain.homogeneous:
        # P sum_t a_t r_{t+1}, whose P changes by itself.
        pairs = jnp.zeros((a.shape[1], *transitions.shape[1:]), a.dtype)
        return marginals, pairs, up_to, jnp.pad(behind, ((0, 1), (0, 0), (0, 0)))
    pairs = _pairs(passes, up_to[:-1], behind, r, transitions)
    return marginals, pairs, None, None


def _pairs(passes: _Passes, up_to: Array, behind: Array, r: Array, transitions: Array) -> Array:
    """P times (A_{t-1} r_t + a_{t-1} s_t) plus the pairs times M, by step."""
    before = passes.states[:-1]

    def outer(x: Array, y: Array) -> Array:
        return jnp.einsum("tbi,tbj->btij", x, y, precision=lax.Precision.HIGHEST)

    moved = outer(up_to, r) + outer(before, behind)
    return passes.matrices * (moved + outer(before, r) * transitions)


def _by_logarithms(chain: Chain, unary: Array, transitions: Array) -> tuple[Array, Array]:
    return jax.jvp(
        lambda unary, transitions: _logarithmic.reference(Chain(unary, transitions, chain.mask))[
            1:
        ],
        (chain.unary, chain.transitions),
        (unary, transitions),
    )[1]


def _replaced(chain: Chain, reliable: Array) -> Chain:
    """The chains, with the first reliable one in place of those that are not, so that there is
    nothing in them that has no derivative."""
    if not len(reliable):
        return chain
    at, some = jnp.argmax(reliable), jnp.any(reliable)

    def of(x: Array) -> Array:
        other = jnp.where(some, lax.stop_gradient(x[at % x.shape[0]]), 0)[None]
        if x.shape[0] == 1:
            return jnp.where(some, x, 0)
        return jnp.where(reliable.reshape(-1, *(1,) * (x.ndim - 1)), x, other)

    mask = None if chain.mask is None else of(chain.mask) != 0
    return Chain(of(chain.unary), of(chain.transitions), mask)


def curvature(
    chain: Chain, reliable: Bool[Array, " B"], unary: Float[Array, "B T K"], transitions: Array
) -> Changes:
    """How marginals and sums over pairs change with the potentials: the Hessian of log Z times v.

    A plain function, which JAX may differentiate and transpose as often as it likes.

    Args:
        chain: B chains of T >= 1 positions with K states.
        reliable: where the scaled recursions lose no more than rounding; elsewhere, and then only,
            those on logarithms serve.
        unary: v for the unary potentials.
        transitions: v for the transitions, of their shape.

    Returns:
        Of marginals (B, T, K), and of pairs (B, T - 1 or 1, K, K), states and weights, which
        together say how the sums over pairs change, all as `_scaled.Sums` has them.
    """
    usable = _replaced(chain, reliable)
    fast = _by_expectations(usable, _passes(usable), unary, transitions)
    marginals, pairs, states, weights = fast

    def nothing(unary: Array, transitions: Array) -> tuple[Array, Array]:
        return jnp.zeros_like(chain.unary), jnp.zeros_like(pairs)

    by_logarithms = partial(_by_logarithms, chain)
    exact, exact_pairs = lax.cond(_all(reliable), nothing, by_logarithms, unary, transitions)
    rows = reliable[:, None, None, None]

    def usable_factor(x: Array | None) -> Array | None:
        if x is None:
            return None
        x = jnp.where(reliable[None, :, None], x, 0)
        return jnp.swapaxes(x, 1, 2) if batch_last(chain) else x

    return (
        jnp.where(rows[:, :, 0], jnp.moveaxis(marginals, 0, 1), exact),
        jnp.where(rows, pairs, exact_pairs),
        usable_factor(states),
        usable_factor(weights),
    )
