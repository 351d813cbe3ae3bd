"""Augmentation of images on the device: pure functions of a key and a batch, each image on its own.

Images are in [0, 1], (batch, rows, columns, channels). What mixes images gives, for each, the image
that it was mixed with, and the share of its own label.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from train.data import randaugment

Images = Float[Array, "batch rows columns channels"]


class Mixed(NamedTuple):
    """Images, and their labels as mixtures: `share` of the own one, the rest of the partner's."""

    images: Images
    partners: Int[Array, " batch"]
    share: Float[Array, " batch"] | None  # none: nothing was mixed


def flipped(key: Any, x: Images) -> Images:
    """Left and right change places, with probability 1/2."""
    flips = jax.random.bernoulli(key, shape=(len(x), 1, 1, 1))
    return jnp.where(flips, x[:, :, ::-1], x)


def cropped(key: Any, x: Images, padding: int, fill: Array | float = 0.0) -> Images:
    """A part of the image's size, at a random place, of the image padded on all sides.

    Args:
        key, x: of the draws; the images.
        padding: pixels on each side.
        fill: a number, or one for each channel, (1, 1, 1, channels).
    """
    edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    inside = jnp.pad(jnp.ones((1, *x.shape[1:3], 1), bool), edges)
    padded = jnp.where(inside, jnp.pad(x, edges), fill)
    starts = jax.random.randint(key, (len(x), 2), 0, 2 * padding + 1)

    def cut(image: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice(image, (start[0], start[1], 0), x.shape[1:])

    return jax.vmap(cut)(padded, starts)


def cutout(key: Any, x: Images, side: int, fill: float = 0.0) -> Images:
    """A square of `side` pixels around a random pixel is `fill`; what of it lies outside the image
    is cut off (DeVries and Taylor 2017, arXiv 1708.04552)."""
    rows, columns = x.shape[1:3]
    of_row, of_column = jax.random.split(key)
    row = jax.random.randint(of_row, (len(x),), 0, rows)
    column = jax.random.randint(of_column, (len(x),), 0, columns)
    inside = _box(x, row - side // 2, column - side // 2, side, side)
    return jnp.where(inside[..., None], jnp.asarray(fill, x.dtype), x)


def mixup(key: Any, x: Images, concentration: float = 1.0) -> Mixed:
    """s x + (1 - s) x', s ~ Beta(a, a) for each image, x' another image of the batch (Zhang et al.
    2018, arXiv 1710.09412, where a batch has one s).

    Args:
        key, x: of the draws; the images.
        concentration: a.
    """
    of_share, of_partner = jax.random.split(key)
    share = jax.random.beta(of_share, concentration, concentration, (len(x),)).astype(x.dtype)
    partners = jax.random.permutation(of_partner, len(x))
    s = share.reshape(-1, 1, 1, 1)
    return Mixed(s * x + (1 - s) * x[partners], partners, share)


def cutmix(key: Any, x: Images) -> Mixed:
    """A box of another image of the batch takes the place of the image's own. Its sides are
    sqrt(1 - s) of the image's, s ~ U(0, 1), around a random point, cut off at the edges; the share
    of the own label is that of the pixels left (Yun et al. 2019, arXiv 1905.04899, where a batch
    has one box)."""
    rows, columns = x.shape[1:3]
    of_share, of_partner, of_row, of_column = jax.random.split(key, 4)
    part = jnp.sqrt(1 - jax.random.uniform(of_share, (len(x),)))
    height, width = ((part * n).astype(int) for n in (rows, columns))
    row = jax.random.randint(of_row, (len(x),), 0, rows)
    column = jax.random.randint(of_column, (len(x),), 0, columns)
    inside = _box(x, row - height // 2, column - width // 2, height, width)
    partners = jax.random.permutation(of_partner, len(x))
    share = 1 - inside.mean((1, 2), dtype=x.dtype)
    return Mixed(jnp.where(inside[..., None], x[partners], x), partners, share)


def _box(
    x: Images, row: Array, column: Array, height: Array | int, width: Array | int
) -> Bool[Array, "batch rows columns"]:
    """The pixels in a box from a row and a column on, of each image."""

    def between(n: int, start: Array, length: Array | int) -> Array:
        at = jnp.arange(n)[None]
        end = start + length
        return (at >= start[:, None]) & (at < end[:, None])

    rows, columns = between(x.shape[1], row, height), between(x.shape[2], column, width)
    return rows[:, :, None] & columns[:, None, :]


def _alone(function: Callable[[Any, Images], Images]) -> Callable[[Any, Mixed], Mixed]:
    return lambda key, mixed: mixed._replace(images=function(key, mixed.images))


# At the sizes that are usual for images of 32 x 32 pixels, in proportion.
BY_NAME: dict[str, Callable[[Any, Mixed], Mixed]] = {
    "flip": _alone(flipped),
    "crop": _alone(lambda key, x: cropped(key, x, x.shape[1] // 8)),
    "cutout": _alone(lambda key, x: cutout(key, x, x.shape[1] // 2)),
    "randaugment": _alone(randaugment.randaugment),
    "mixup": lambda key, mixed: mixup(key, mixed.images),
    "cutmix": lambda key, mixed: cutmix(key, mixed.images),
}
