"""Dropout as noise nodes ([A] section 4.3)."""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from cgjax import _static
from cgjax._node import check_name, noise
from cgjax._static import Leaf
from cgjax.nodes import BernoulliMask, GaussianMask

_FAMILIES = {"bernoulli": BernoulliMask, "gaussian": GaussianMask}


class Dropout(nnx.Module):
    """Multiplies its input by noise nodes of mean 1.

        y = x D / (1 - rate),   D ~ Bernoulli(1 - rate)     (Bernoulli noise)
        y = x D,                D ~ N(1, rate / (1 - rate))   (Gaussian noise)

    There is no mode to set: plain evaluation and `feed_forward` marginalise the noise, which gives
    back x (at rate 1, where every draw is 0, it gives 0); `forward_sample`, and `pcff` at any rate,
    sample it. With Bernoulli noise the sampled output is distributed as that of
    `flax.nnx.Dropout`; what is dropped is 0, even if it was infinite or not a number.

    Args:
        rate: the probability that an element is dropped, in [0, 1]. May be an array or traced. A
            number may be replaced later by a number, and an array by an array.
        broadcast_dims: axes along which all elements share one draw, for example (0,) to share the
            mask over time in arrays whose first axis is time.
        distribution: "bernoulli" or "gaussian".
        name: the name of the noise node.

    Raises:
        ValueError: for a rate outside [0, 1] (Gaussian noise: also 1) or an unknown distribution.
        TypeError: for a rate that is no number, or a name that is no string.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> drop = cg.layers.Dropout(0.5)
        >>> drop(jnp.ones(3))
        Array([1., 1., 1.], dtype=float32)
        >>> cg.pcff(drop, 0.0)(jax.random.key(1), jnp.ones(6))
        Array([0., 2., 0., 2., 0., 0.], dtype=float32)

    Source: [A] Eq. 12-13.
    """

    def __init__(
        self,
        rate: Leaf,
        *,
        broadcast_dims: Sequence[int] = (),
        distribution: Literal["bernoulli", "gaussian"] = "bernoulli",
        name: str = "dropout",
    ):
        if distribution not in _FAMILIES:
            raise ValueError(
                f"distribution is one of {', '.join(_FAMILIES)}, got {distribution!r}."
            )
        if not _static.is_traced(rate):
            known = np.asarray(rate)
            if not jnp.issubdtype(known.dtype, jnp.number):
                raise TypeError(f"A drop rate is a number, or an array of them, got {rate!r}.")
            largest_ok = known <= 1 if distribution == "bernoulli" else known < 1
            if not np.all((known >= 0) & largest_ok):
                bound = "[0, 1]" if distribution == "bernoulli" else "[0, 1)"
                raise ValueError(f"A drop rate is a probability in {bound}, got {rate!r}.")
        check_name("node", name)
        self.rate = rate
        self.broadcast_dims = tuple(broadcast_dims)
        self.distribution = distribution
        self.name = name

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The input times its noise.

        Args:
            x: any floating-point array; every element has a draw of its own, but for
                `broadcast_dims`.

        Returns:
            An array of x's shape and dtype.

        Raises:
            TypeError: if x is not floating point.
            ValueError: if x has no axis of a number in `broadcast_dims`.
        """
        x = jnp.asarray(x)
        factor = self.factor(x)
        product = masked(x, factor) if self.distribution == "bernoulli" else x * factor
        return product.astype(x.dtype)

    def factor(self, x: Array) -> Float[Array, "..."]:
        """The noise for an input, of mean 1: to be drawn once and used several times.

        Args:
            x: the first of the inputs; only its shape and dtype matter.

        Returns:
            An array of x's dtype and shape, with size 1 along `broadcast_dims`.

        Raises:
            TypeError, ValueError: as for a call.
        """
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"Dropout takes a floating-point array, got {x.dtype}{list(x.shape)}.")
        if not all(-x.ndim <= axis < x.ndim for axis in self.broadcast_dims):
            raise ValueError(
                f"broadcast_dims are axes of the input, got {self.broadcast_dims} for an input of "
                f"shape {x.shape}."
            )
        axes = {axis % x.ndim for axis in self.broadcast_dims}
        shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        # A number is subtracted in Python's precision, so that 0.9 keeps exactly float32(0.1).
        rate = jnp.asarray(self.rate, dtype) if _static.is_array(self.rate) else self.rate
        keep = jnp.broadcast_to(jnp.asarray(1 - rate, dtype), shape)
        draw = noise(_FAMILIES[self.distribution](), keep, name=self.name, like=x)
        if self.distribution == "bernoulli":
            # Divided before it meets x, so that the marginalised factor is exactly 1.
            draw = jnp.where(keep > 0, draw / jnp.where(keep > 0, keep, 1), 0)
        return draw.astype(x.dtype)


def masked(x: Array, factor: Array) -> Array:
    """The product, which is 0 where the factor is, whatever x is there; its derivative likewise."""
    return jnp.where(factor == 0, 0, x) * factor
