"""The ReLU recurrence in a number of steps logarithmic in its length, exactly.

One step h -> max(0, u h + x) belongs to the maps h -> clip(a h + b, low, high), which are closed
under composition: of two of them, the second after the first,

    a = a2 a1,   b = a2 b1 + b2,
    low, high = the images of low1 and high1 under the second map, in order.

So all prefixes of the sequence can be composed by a parallel prefix scan. a is a power of u; it is
computed from the number of composed steps, which is carried instead: the error of a product of
products doubles with each level of the scan. The derivative is a linear recurrence with
coefficients u or 0, composed likewise.

Where |u| > 1, a and b overflow in a long sequence, and the states need not: a step that clips
forgets what came before. So the shift s = b / a is carried too, which stays bounded there,

    a h + b = a (h + s),   s = s1 + s2 / a1.

States that do grow without bound are infinite once u^n is, maybe some steps before the loop's.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cgjax.kernels._recurrence._activations import precise
from cgjax.kernels._recurrence._scan import fitted
from cgjax.kernels._recurrence._settings import Noise, Settings


def forward(settings: Settings, x: Array, u: Array, initial: Array, noise: Noise | None) -> Array:
    """All states; arguments and result as `_scan.forward`, for the ReLU without noise."""
    assert settings.name == "relu" and noise is None
    if not x.shape[0]:
        return x
    wide = x.astype(precise(x.dtype))
    # The first step, from a known state, is a constant map, and so are all prefixes.
    first = jnp.maximum(wide[0] + u * initial, 0)
    low = jnp.zeros_like(wide).at[0].set(first)
    high = jnp.full_like(wide, jnp.inf).at[0].set(first)
    grows = jnp.abs(u)[None] > 1
    # The shift of the others is not used.
    divisor = jnp.where(grows[0], u, 1)

    def compose(first: tuple[Array, ...], second: tuple[Array, ...]) -> tuple[Array, ...]:
        n1, b1, s1, low1, high1 = first
        n2, b2, s2, low2, high2 = second
        a2 = _power(u, n2)

        def image(h: Array) -> Array:
            value = a2 * h + b2
            shifted = jnp.where(grows, _times(a2, h + s2), jnp.where(a2 == 0, b2, value))
            return jnp.where(jnp.isfinite(value), value, shifted)

        ends = image(low1), image(high1)
        low, high = jnp.minimum(*ends), jnp.maximum(*ends)
        b, s = a2 * b1 + b2, s1 + s2 / _power(divisor, n1)
        return n1 + n2, b, s, _clip(low, low2, high2), _clip(high, low2, high2)

    elements = (_counts(wide), wide, wide / divisor[None], low, high)
    return lax.associative_scan(compose, elements)[3].astype(x.dtype)


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
    """As `_scan.tangent`."""
    if not h.shape[0]:
        return dx
    wide = precise(h.dtype)
    before = _shifted(h.astype(wide), initial)
    slope = settings.activation.slope(h.astype(wide))
    drive = slope * (dx.astype(wide) + du[None] * before)
    drive = drive.at[0].add(slope[0] * (u * dinitial))
    return _linear(slope, u, drive, reverse=False).astype(dx.dtype)


def cotangent(
    settings: Settings, u: Array, h: Array, initial: Array, x: Array | None, g: Array
) -> tuple[Array, Array, Array]:
    """As `_scan.cotangent`."""
    if not h.shape[0]:
        return g, jnp.zeros_like(u), jnp.zeros_like(initial)
    wide = precise(h.dtype)
    slope = settings.activation.slope(h.astype(wide))
    delta = _linear(slope, u, slope * g.astype(wide), reverse=True)
    before = _shifted(h.astype(wide), initial)
    du = jnp.sum(delta * before, 0)
    return delta.astype(g.dtype), fitted(du, u), fitted(u * delta[0], initial)


def _linear(mask: Array, u: Array, drive: Array, reverse: bool) -> Array:
    """The solution of y_t = drive_t + mask_t u y_{t-1} (reverse: y_{t+1}), from 0."""

    def compose(first: tuple[Array, ...], second: tuple[Array, ...]) -> tuple[Array, ...]:
        n1, mask1, b1 = first
        n2, mask2, b2 = second
        return n1 + n2, mask1 * mask2, _times(_power(u, n2), _times(b1, mask2)) + b2

    return lax.associative_scan(compose, (_counts(drive), mask, drive), reverse=reverse)[2]


def _counts(x: Array) -> Array:
    """The number of steps in each element, 1, of as many axes as x."""
    return jnp.ones((x.shape[0], *(1,) * (x.ndim - 1)), jnp.int32)


def _power(u: Array, n: Array) -> Array:
    return jnp.power(u[None], n)


def _times(a: Array, b: Array) -> Array:
    """a b, and 0 where b is 0, even if a is infinite."""
    return jnp.where(b == 0, 0, a * b)


def _clip(x: Array, low: Array, high: Array) -> Array:
    return jnp.minimum(jnp.maximum(x, low), high)


def _shifted(h: Array, initial: Array) -> Array:
    """The state before each step."""
    first = jnp.broadcast_to(initial, h.shape[1:]).astype(h.dtype)
    return jnp.concatenate([first[None], h[:-1]])
