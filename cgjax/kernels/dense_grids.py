"""Random fields in which every pixel of an image touches every other."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from cgjax.kernels.grids import Labels, best


class Touch(NamedTuple):
    """How strongly pixels touch: the sum of two Gaussian kernels.

    Attributes:
        rows, columns: of the smoothness kernel, whose weight is in `rows`: it is a product.
        alike: the appearance kernel times its weight, 0 on the diagonal; None for none.
    """

    rows: Float[Array, "height height"]
    columns: Float[Array, "width width"]
    alike: Float[Array, "pixels pixels"] | None

    def sums(self, x: Labels) -> Labels:
        """For each pixel and label, sum over all other pixels j of k_ij x_j."""
        near = jnp.einsum("ha,wb,abk->hwk", self.rows, self.columns, x) - self.rows[0, 0] * x
        if self.alike is None:
            return near
        return near + (self.alike @ x.reshape(-1, x.shape[-1])).reshape(x.shape)

    def of_one(self, pixel: Int[Array, ""]) -> Float[Array, " pixels"]:
        """k_ij for one pixel i and all pixels j; 0 for itself."""
        row, column = jnp.divmod(pixel, self.columns.shape[0])
        near = (self.rows[row][:, None] * self.columns[column][None]).reshape(-1)
        near = jnp.where(jnp.arange(near.size) == pixel, 0, near)
        return near if self.alike is None else near + self.alike[pixel]


def gaussian(distance: Array, scale: Array) -> Array:
    """exp(-d^2 / 2 s^2)."""
    return jnp.exp(-((distance / scale) ** 2) / 2)


def appearance(
    image: Float[Array, "height width channels"], position_scale: Array, colour_scale: Array
) -> Float[Array, "pixels pixels"]:
    """exp(-|p_i - p_j|^2 / 2 a^2 - |c_i - c_j|^2 / 2 b^2), with 0 on the diagonal."""
    height, width, channels = image.shape
    places = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1)
    scaled = jnp.concatenate([places / position_scale, image / colour_scale], axis=-1)
    features = scaled.reshape(-1, 2 + channels)
    # Differences channel by channel: |f|^2 - 2 f g + |g|^2 would lose the digits of near pixels.
    square = sum((f[:, None] - f[None]) ** 2 for f in features.T)
    kernel = jnp.exp(-jnp.asarray(square) / 2)
    return kernel * (1 - jnp.eye(len(features), dtype=kernel.dtype))


def updated_one_by_one(
    x: Labels,
    e: Labels,
    touch: Touch,
    compatibility: Float[Array, "labels labels"],
    noise: Float[Array, "sweeps height width labels"],
) -> Labels:
    """One-hot labels after sweeps in which each pixel in turn takes argmax(score + noise).

    With Gumbel noise this is Gibbs sampling; without, iterated conditional modes.
    """
    labels = x.shape[-1]
    scores = e.reshape(-1, labels)

    def visit(x: Array, turn: tuple[Array, Array]) -> tuple[Array, None]:
        pixel, its_noise = turn
        penalty = (touch.of_one(pixel) @ x) @ compatibility
        return x.at[pixel].set(best(scores[pixel] - penalty + its_noise)), None

    def sweep(x: Array, noise: Array) -> tuple[Array, None]:
        return lax.scan(visit, x, (jnp.arange(len(scores)), noise.reshape(-1, labels)))[0], None

    return lax.scan(sweep, x.reshape(-1, labels), noise)[0].reshape(x.shape)
