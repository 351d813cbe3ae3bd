"""The operations of RandAugment (Cubuk et al. 2020, arXiv 1909.13719) on the device.

Each takes one image of levels from 0 to 255, (rows, columns, channels), and a number, and computes
what Pillow's function of that name does, in its arithmetic of whole numbers; `randaugment` applies
some of them at random.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Levels = Int[Array, "rows columns channels"]
Number = Float[Array, ""]

GREY = 128  # what comes in from outside the image
# Of red, green and blue in grey, in units of 2^-16 (ITU-R 601).
_GREY = 19595, 38470, 7471


def autocontrast(x: Levels) -> Levels:
    """Each channel's range becomes 0 to 255."""
    low, high = (find(x, axis=(0, 1), keepdims=True) for find in (jnp.min, jnp.max))
    return jnp.where(high > low, 255 * (x - low) // jnp.maximum(high - low, 1), x)


def equalized(x: Levels) -> Levels:
    """Each channel's levels become about equally frequent."""

    def one(channel: Array) -> Array:
        count = jnp.bincount(channel.ravel(), length=256)
        last = 255 - jnp.argmax(count[::-1] > 0)
        step = (count.sum() - count[last]) // 255
        before = jnp.concatenate([jnp.zeros(1, count.dtype), jnp.cumsum(count)[:-1]])
        table = jnp.minimum((step // 2 + before) // jnp.maximum(step, 1), 255)
        return jnp.where(step > 0, table[channel].astype(channel.dtype), channel)

    return jax.vmap(one, 2, 2)(x)


def solarized(x: Levels, threshold: Number) -> Levels:
    """Levels of the threshold and above are inverted."""
    return jnp.where(x >= threshold, 255 - x, x)


def posterized(x: Levels, bits: Int[Array, ""]) -> Levels:
    """The highest bits are kept."""
    return x & (256 - (1 << (8 - bits)))


def grey(x: Levels) -> Int[Array, "rows columns 1"]:
    """The levels of a grey image."""
    if x.shape[-1] == 1:
        return x
    return ((x * jnp.asarray(_GREY).reshape(1, 1, 3)).sum(-1, keepdims=True) + (1 << 15)) >> 16


def blended(other: Levels, x: Levels, factor: Number) -> Levels:
    """other + factor (x - other), rounded down, within 0 and 255."""
    return jnp.clip(other + factor * (x - other), 0, 255).astype(x.dtype)


def coloured(x: Levels, factor: Number) -> Levels:
    """From grey (0) to more than its colours."""
    return blended(jnp.broadcast_to(grey(x), x.shape), x, factor)


def contrasted(x: Levels, factor: Number) -> Levels:
    """From the average grey (0) to more than its contrast."""
    average = jnp.floor(grey(x).mean() + 0.5).astype(x.dtype)
    return blended(jnp.broadcast_to(average, x.shape), x, factor)


def brightened(x: Levels, factor: Number) -> Levels:
    """From black (0) to more than its brightness."""
    return blended(jnp.zeros_like(x), x, factor)


def sharpened(x: Levels, factor: Number) -> Levels:
    """From smooth (0) to sharper than it is; pixels at the edges stay."""
    rows, columns = x.shape[:2]
    shifts = [x[i : rows - 2 + i, j : columns - 2 + j] for i in range(3) for j in range(3)]
    # Each pixel counts five times, its neighbours once; rounded to the nearest level.
    smooth = (2 * (sum(shifts) + 4 * shifts[4]) + 13) // 26
    return blended(x.at[1:-1, 1:-1].set(smooth), x, factor)


def mapped(x: Levels, matrix: Float[Array, "2 3"]) -> Levels:
    """The image whose pixel at (column, row), in pixels from the corner, is the given one at
    `matrix @ (column, row, 1)`, nearest; grey outside."""
    rows, columns = x.shape[:2]
    v, u = jnp.meshgrid(jnp.arange(rows) + 0.5, jnp.arange(columns) + 0.5, indexing="ij")
    at = jnp.stack([u, v, jnp.ones_like(u)], -1) @ matrix.T
    column, row = jnp.floor(at[..., 0]).astype(int), jnp.floor(at[..., 1]).astype(int)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    taken = x[jnp.clip(row, 0, rows - 1), jnp.clip(column, 0, columns - 1)]
    return jnp.where(inside[..., None], taken, GREY)


def rotated(x: Levels, degrees: Number) -> Levels:
    """Around the centre, anticlockwise."""
    angle = jnp.deg2rad(degrees)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.stack([jnp.stack([cosine, -sine]), jnp.stack([sine, cosine])])
    centre = jnp.asarray([x.shape[1] / 2, x.shape[0] / 2])
    return mapped(x, jnp.concatenate([turn, (centre - turn @ centre)[:, None]], 1))


def _affine(*rows: tuple[Any, Any, Any]) -> Array:
    return jnp.stack([jnp.stack([jnp.asarray(v, jnp.float32) for v in row]) for row in rows])


def sheared_x(x: Levels, factor: Number) -> Levels:
    """Rows move by `factor` times their distance from the top, to the left."""
    return mapped(x, _affine((1, factor, 0), (0, 1, 0)))


def sheared_y(x: Levels, factor: Number) -> Levels:
    """Columns move by `factor` times their distance from the left, upwards."""
    return mapped(x, _affine((1, 0, 0), (factor, 1, 0)))


def translated_x(x: Levels, pixels: Number) -> Levels:
    """To the left."""
    return mapped(x, _affine((1, 0, pixels), (0, 1, 0)))


def translated_y(x: Levels, pixels: Number) -> Levels:
    """Upwards."""
    return mapped(x, _affine((1, 0, 0), (0, 1, pixels)))


# At a strength in [0, 1], and a sign. The largest strengths are those of the paper.
OPERATIONS: tuple[Callable[[Levels, Number, Number], Levels], ...] = (
    lambda x, strength, sign: x,
    lambda x, strength, sign: autocontrast(x),
    lambda x, strength, sign: equalized(x),
    lambda x, strength, sign: rotated(x, sign * 30 * strength),
    lambda x, strength, sign: solarized(x, 256 * (1 - strength)),
    lambda x, strength, sign: coloured(x, 1 + sign * 0.9 * strength),
    lambda x, strength, sign: posterized(x, 8 - jnp.round(4 * strength).astype(int)),
    lambda x, strength, sign: contrasted(x, 1 + sign * 0.9 * strength),
    lambda x, strength, sign: brightened(x, 1 + sign * 0.9 * strength),
    lambda x, strength, sign: sharpened(x, 1 + sign * 0.9 * strength),
    lambda x, strength, sign: sheared_x(x, sign * 0.3 * strength),
    lambda x, strength, sign: sheared_y(x, sign * 0.3 * strength),
    lambda x, strength, sign: translated_x(x, jnp.round(sign * 0.45 * strength * x.shape[1])),
    lambda x, strength, sign: translated_y(x, jnp.round(sign * 0.45 * strength * x.shape[0])),
)


def randaugment(
    key: Any,
    x: Float[Array, "batch rows columns channels"],
    number: int = 2,
    strength: float = 0.5,
) -> Float[Array, "batch rows columns channels"]:
    """So many operations one after the other, each picked at random for each image.

    Args:
        key: of the draws.
        x: images in [0, 1]; they are rounded to 256 levels.
        number, strength: N; M, in units of the largest one.
    """

    def step(image: Levels, key: Any) -> tuple[Levels, None]:
        of_kind, of_sign = jax.random.split(key)
        kind = jax.random.randint(of_kind, (), 0, len(OPERATIONS))
        sign = jax.random.rademacher(of_sign, (), jnp.float32)
        return jax.lax.switch(kind, OPERATIONS, image, jnp.float32(strength), sign), None

    def one(key: Any, image: Levels) -> Levels:
        return jax.lax.scan(step, image, jax.random.split(key, number))[0]

    levels = jnp.round(255 * x).astype(jnp.int32)
    return (jax.vmap(one)(jax.random.split(key, len(x)), levels) / 255).astype(x.dtype)
