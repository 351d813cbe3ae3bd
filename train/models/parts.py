"""What the networks of [B] Table 1 are made of: convolutions, normalisations, scaled branches.

Each network has its usual normalisation, another one, or none. Without one, convolutions have
biases, and residual branches are scaled, so that neither values nor gradients grow with depth.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

import cgjax as cg
from train.models.convolution import convolved

Images = Float[Array, "batch rows columns channels"]
Norm = Literal["batch", "layer", "stochastic", "none"]
_NUMBERS = ("NHWC", "HWIO", "NHWC")


class Parts(NamedTuple):
    """What all networks, and all parts of a network, are built with.

    Attributes:
        rngs: the source of initial weights.
        norm: the normalisation of every place that has one; none: the network's own.
        standardised: whether kernels are standardised in place of a normalisation (see
            `Convolution`).
        scale: what residual branches begin to be multiplied by where nothing is normalised; none:
            1/sqrt(number of branches). With 0 a network begins as its shortcuts (SkipInit).
        side, channels: rows and columns of an image, for networks that have to know; its channels.
        classes: the number of logits.
        dtype: of the computation; none: that of images and parameters.
        noise: M of `cg.layers.StochasticNorm`: the batch whose statistics the noise of a stochastic
            normalisation is that of.
    """

    rngs: nnx.Rngs
    norm: Norm | None = None
    standardised: bool = False
    scale: float | None = None
    side: int = 32
    channels: int = 3
    classes: int = 10
    dtype: Any = None
    noise: float = 32.0

    def checked(self, own: Norm) -> "Parts":
        """The same with the network's own normalisation, if none is named.

        Raises:
            ValueError: for another name; for standardised kernels beside a normalisation.
        """
        norm = own if self.norm is None else self.norm
        if norm not in get_args(Norm):
            raise ValueError(f"norm is one of {', '.join(get_args(Norm))}, got {norm!r}.")
        if self.standardised and norm != "none":
            raise ValueError(
                f"Standardised kernels stand in for a normalisation, got norm={norm!r} beside "
                'them: use norm="none".'
            )
        return self._replace(norm=norm)

    def normalisation(self, width: int) -> Callable[[Array], Array]:
        """A module that normalises an array whose last axis has `width` features."""
        if self.norm == "batch":
            # PyTorch's momentum of 0.1 is 0.9 in Flax's convention.
            return nnx.BatchNorm(
                width, momentum=0.9, epsilon=1e-5, dtype=self.dtype, rngs=self.rngs
            )
        if self.norm == "layer":
            return nnx.LayerNorm(width, dtype=self.dtype, rngs=self.rngs)
        if self.norm == "stochastic":
            return cg.layers.StochasticNorm(width, batch=self.noise, momentum=0.9)
        return Identity()

    def convolution(
        self, inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1
    ) -> "Convolution":
        """A convolution, with a bias where nothing normalises what it computes."""
        return Convolution(inputs, outputs, side, stride, groups, self)

    def branch(self, branches: int) -> "Scale | Identity":
        """What the end of a residual branch, of so many, is multiplied by: a number to be learnt,
        or, where branches are normalised, nothing."""
        if self.norm != "none":
            return Identity()
        return Scale(branches**-0.5 if self.scale is None else self.scale)

    def logits(self, width: int) -> nnx.Linear:
        """The affine map to the classes, in the precision of its input."""
        return nnx.Linear(width, self.classes, rngs=self.rngs)


class Identity(nnx.Module):
    """Returns what it is given."""

    def __call__(self, x: Array) -> Array:
        return x


class Scale(nnx.Module):
    """Multiplies by one number, which is learnt (De and Smith 2020, "SkipInit", arXiv 2002.10444,
    for a number that begins at 0)."""

    def __init__(self, initial: float):
        self.factor = nnx.Param(jnp.asarray(initial, jnp.float32))

    def __call__(self, x: Array) -> Array:
        return x * self.factor[...].astype(x.dtype)


class Convolution(nnx.Module):
    """A convolution with as many zeros around the images as keep their size at stride 1.

    Kernels are He-normal at first, of variance 2/n for n inputs of an output; biases 0. There is a
    bias where nothing normalises what it computes. A standardised kernel is

        gain (kernel - mean) / sqrt(n variance),

    mean and variance those of one output's n weights, and a gain for each output that is learnt,
    sqrt(2) at first: rectified inputs of whatever mean then give outputs of mean 0 (Brock et al.
    2021, "Scaled weight standardisation", arXiv 2101.08692; it wants inputs of variance 1, which
    ReLU of a standard normal number has times sqrt(1 - 1/pi)).

    Before a stochastic normalisation, whose statistics are constants in derivatives, the kernel of
    each output is divided by its norm (Shekhovtsov and Flach 2018, arXiv 1811.00639).
    """

    def __init__(
        self, inputs: int, outputs: int, side: int, stride: int, groups: int, parts: Parts
    ):
        shape = (side, side, inputs // groups, outputs)
        deviation = math.sqrt(2 / math.prod(shape[:-1]))
        self.kernel = nnx.Param(deviation * jax.random.normal(parts.rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outputs)) if parts.norm == "none" else None
        self.gain = nnx.Param(jnp.full(outputs, math.sqrt(2))) if parts.standardised else None
        self.unit = parts.norm == "stochastic"
        self.stride = stride
        self.groups = groups
        self.dtype = parts.dtype

    def __call__(self, x: Images) -> Images:
        kernel = self.kernel[...]
        if self.gain is not None:
            kernel = self.gain[...].reshape(1, 1, 1, -1) * standardised(kernel)
        if self.unit:
            kernel = kernel * lax.rsqrt(jnp.sum(kernel**2, (0, 1, 2), keepdims=True) + 1e-12)
        if self.dtype is not None:
            x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = convolution(x, kernel, self.stride, self.groups)
        if self.bias is None:
            return y
        return y + self.bias[...].astype(y.dtype).reshape(1, 1, 1, -1)


def convolution(x: Images, kernel: Array, stride: int, groups: int) -> Images:
    """A convolution by a kernel of an odd side s, on images with (s - 1)/2 zeros on all sides."""
    side = kernel.shape[0]
    if side == 3 and groups == 1:
        return convolved(x, kernel, stride)
    zeros = (side // 2, side // 2)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        (zeros, zeros),
        dimension_numbers=_NUMBERS,
        feature_group_count=groups,
    )


def standardised(kernel: Float[Array, "rows columns inputs outputs"]) -> Array:
    """(kernel - mean) / sqrt(n variance) over the n weights of each output."""
    n = math.prod(kernel.shape[:-1])
    centred = kernel - kernel.mean((0, 1, 2), keepdims=True)
    variance = jnp.mean(centred**2, (0, 1, 2), keepdims=True)
    return centred * lax.rsqrt(n * variance + 1e-8)


def halved(x: Images) -> Images:
    """The averages of squares of 2 x 2 positions."""
    batch, rows, columns, channels = x.shape
    return x.reshape(batch, rows // 2, 2, columns // 2, 2, channels).mean((2, 4))


def pooled(x: Images) -> Float[Array, "batch channels"]:
    """The averages over all positions, in at least 32 bits."""
    return x.mean((1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
