"""Labels of pixels, each of which touches all others: the fully connected CRF of segmentation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Key

from cgjax.kernels import dense_grids, grids
from cgjax.kernels.grids import Labels
from cgjax.nodes._field import Field, Parameters
from cgjax.nodes._values import require_parameter

# The kernel of colours is a matrix of all pairs of pixels: 1 GiB in float32.
_MOST_PIXELS = 2**14


@dataclasses.dataclass(frozen=True, eq=False)
class DenseGrid(Field):
    """An image of labels as one node, in which all pixels touch, near and alike ones more.

        P(x) ~ exp(sum_i e_i(x_i) - sum over pairs i < j of k_ij M(x_i, x_j))
        k_ij = w_1 exp(-|p_i - p_j|^2 / 2 a^2 - |c_i - c_j|^2 / 2 b^2)
             + w_2 exp(-|p_i - p_j|^2 / 2 s^2)

    with positions p in pixels and colours c. The activation is what a number of mean-field updates
    give, all pixels at once: the layer "CRF as RNN". That is approximate, and may overshoot where
    the kernels are strong (`damping`).

    Args:
        image: the colours, (..., height, width, channels); leading axes broadcast against those of
            e. None leaves the first kernel out, and images of any size are possible.
        compatibility: M, the penalty of a pair of labels, (labels, labels) and symmetric; for
            Potts's model `1 - jnp.eye(labels)`.
        appearance_weight, smoothness_weight: w_1 and w_2.
        position_scale, colour_scale: a, in pixels, and b, in the unit of the image.
        smoothness_scale: s, in pixels.
        iterations: mean-field updates.
        damping: share of the old probabilities that an update keeps, from 0 to below 1.
        sweeps: of Gibbs sampling, pixel by pixel, which a sample takes.

    Raises:
        ValueError: shapes that do not fit, scales that are not positive, numbers out of range, more
            than 16,384 pixels with an image.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> image = jnp.array([[[0.0], [0.0], [1.0]]])  # one row: two dark pixels and a bright one
        >>> node = DenseGrid(image, 1 - jnp.eye(2), smoothness_weight=0.0, colour_scale=0.1)
        >>> e = jnp.array([[[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])  # the first is known to be dark
        >>> print(node.activation(e)[0, :, 0].round(2))
        [0.78 0.64 0.5 ]

    Source: Krahenbuhl and Koltun 2011, Algorithm 1 (without their filter); Zheng et al. 2015.
    """

    touching: ClassVar[str | None] = "all pixels"
    parameter_axes: ClassVar[Mapping[str, int]] = {
        "image": 3,
        "compatibility": 2,
        "appearance_weight": 0,
        "smoothness_weight": 0,
        "position_scale": 0,
        "colour_scale": 0,
        "smoothness_scale": 0,
    }

    image: Float[ArrayLike, "..."] | None
    compatibility: Float[ArrayLike, "..."]
    appearance_weight: Float[ArrayLike, "..."] = 1.0
    smoothness_weight: Float[ArrayLike, "..."] = 1.0
    position_scale: Float[ArrayLike, "..."] = 10.0
    colour_scale: Float[ArrayLike, "..."] = 0.2
    smoothness_scale: Float[ArrayLike, "..."] = 1.0
    iterations: int = dataclasses.field(default=5, metadata={"static": True})
    sweeps: int = dataclasses.field(default=20, metadata={"static": True})

    def __post_init__(self) -> None:
        shape = np.shape(self.compatibility)
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(
                f"DenseGrid.compatibility has shape {shape}; expected (labels, labels)"
            )
        require_parameter(self, "compatibility", np.isfinite, "finite")
        require_parameter(
            self, "compatibility", lambda m: m == m.T, "symmetric: a pair of pixels has no order"
        )
        for name in ("position_scale", "colour_scale", "smoothness_scale"):
            require_parameter(self, name, lambda scale: scale > 0, "positive")
        for name in ("appearance_weight", "smoothness_weight"):
            require_parameter(self, name, np.isfinite, "finite")
        self._require_counts("iterations", "sweeps")
        self._require_damping()

    def labels(self) -> int:
        """The number of labels."""
        return np.shape(self.compatibility)[-1]

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the shape is (..., height, width, labels) and fits the image."""
        super().check(shape)
        if self.image is None:
            return
        got = np.shape(self.image)
        if len(got) < 3 or got[-3:-1] != tuple(shape[-3:-1]) or len(got) > len(shape):
            raise ValueError(
                f"DenseGrid.image has shape {got}; expected (..., {shape[-3]}, {shape[-2]}, "
                f"channels) for scores of shape {tuple(shape)}."
            )
        if shape[-3] * shape[-2] > _MOST_PIXELS:
            raise ValueError(
                f"DenseGrid with an image compares all pairs of {shape[-3] * shape[-2]} pixels; at "
                f"most {_MOST_PIXELS} pixels fit. Make the image smaller, or give image=None."
            )

    def _marginals(self, e: Labels, parameters: Parameters) -> Labels:
        pull = self._pull(e, parameters)

        def update(q: Labels, _: None) -> tuple[Labels, None]:
            new = jax.nn.softmax(e + pull(q))
            return (1 - self.damping) * new + self.damping * q, None

        return lax.scan(update, jax.nn.softmax(e), None, length=self.iterations)[0]

    def _given_others(self, x: Labels, e: Labels, parameters: Parameters) -> Labels:
        return e + self._pull(e, parameters)(x)

    def _drawn(self, key: Key[Array, ""], e: Labels, parameters: Parameters) -> Labels:
        first, rest = jax.random.split(key)
        gumbel = jax.random.gumbel(rest, (self.sweeps, *e.shape), e.dtype)
        start = grids.drawn(first, jnp.log(self._marginals(e, parameters)))
        return self._one_by_one(start, e, parameters, gumbel)

    def _best(self, e: Labels, parameters: Parameters) -> Labels:
        start = grids.best(self._marginals(e, parameters))
        return self._one_by_one(start, e, parameters, jnp.zeros((self.sweeps, *e.shape), e.dtype))

    def _one_by_one(self, start: Labels, e: Labels, parameters: Parameters, noise: Array) -> Labels:
        touch, penalties = self._touch(e, parameters)
        return dense_grids.updated_one_by_one(start, e, touch, penalties, noise)

    def _pull(self, e: Labels, parameters: Parameters) -> Callable[[Labels], Labels]:
        """What the neighbours add to the scores, as a function of their labels."""
        touch, penalties = self._touch(e, parameters)
        return lambda x: -touch.sums(x) @ penalties

    def _touch(self, e: Labels, parameters: Parameters) -> tuple[dense_grids.Touch, Array]:
        """How strongly pixels touch, and the penalties of pairs of labels."""
        image, compatibility, appearance, smoothness, position, colour, smooth = parameters

        def near(size: int) -> Array:
            places = jnp.arange(size, dtype=e.dtype)
            return dense_grids.gaussian(places[:, None] - places[None], smooth)

        alike = None
        if self.image is not None:
            alike = appearance * dense_grids.appearance(image, position, colour)
        touch = dense_grids.Touch(smoothness * near(e.shape[0]), near(e.shape[1]), alike)
        return touch, compatibility
