"""Results of layers that know what they were made of: which element of a layer meets itself again.

In a residual block, x + W2 f(W1 x), each element of x is added to one that it is itself a part of.
The derivative of the one by the other is an element of the diagonal of W2 D W1, where D holds the
slopes of the activation between them: one more product with the kernel W2 * W1^T of the two, and
for convolutions with the taps of both that lead back to where they started.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from cgjax._beliefs.values import (
    Gaussian,
    Origin,
    Value,
    is_random,
    mean_of,
    origin_of,
    settle,
)
from cgjax._program.jaxprs import aval, bind


class Back(NamedTuple):
    """Derivatives of elements of a result by elements of what it was made of, of one shape.

    Attributes:
        itself: by the element at the same place.
        channel: by all elements that differ from that in the position alone, together with it;
            None where that was not asked for.
    """

    itself: jax.Array
    channel: jax.Array | None


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer: its input, and its kernel at the mean, of shape (taps..., inputs, outputs).

    Attributes:
        eqn: the product.
        data: its input: known, or a Gaussian or a function of one.
        kernel: the kernel.
        noise: the variances of its elements; None where it is known.
        origin: which array it is.
    """

    eqn: JaxprEqn
    data: Value
    kernel: jax.Array
    noise: jax.Array | None
    origin: Origin

    def back(self) -> Back | None:
        """Of the layer alone."""
        if self.kernel.shape[-1] != self.kernel.shape[-2]:
            return None
        taps = jnp.diagonal(self.kernel, axis1=-2, axis2=-1)
        channel = taps.sum(tuple(range(taps.ndim - 1)))
        center = self._center()
        if center is None:
            return None
        return Back(*(self._laid(a) for a in (taps[center], channel)))

    def back_through(self, first: Layer, slopes: jax.Array, positions: bool) -> Back | None:
        """Of the layer on a layer, with the slopes of the activation between them.

        Args:
            first: the layer that the data of this one is a function of.
            slopes: the derivatives of that function.
            positions: whether what positions contribute together is needed.
        """
        if self.eqn.primitive is not first.eqn.primitive:
            return None
        if first.kernel.shape[-2:] != self.kernel.shape[:-3:-1] or not self._alike(first):
            return None
        itself = self.product(slopes, jnp.swapaxes(self._met(first), -1, -2) * self.kernel)
        if self._window is None or not positions:
            return Back(itself, itself if positions else None)
        channel = first.kernel.sum(tuple(range(first.kernel.ndim - 2)))
        return Back(
            itself,
            self.product(slopes, jnp.broadcast_to(channel.T, self.kernel.shape) * self.kernel),
        )

    def beside(self, other: Layer) -> tuple[jax.Array, jax.Array] | None:
        """Kernels for the covariances with another layer of the same value.

        Returns:
            One for covariances of the value's elements with themselves; and one for those of
            different positions, as if all of a window had the same.
        """
        one, two = self.kernel, other.kernel
        if one.shape != two.shape or self.eqn.params != other.eqn.params:
            return None
        taps = tuple(range(one.ndim - 2))
        together = one.sum(taps, keepdims=True) * two.sum(taps, keepdims=True)
        return one * two, jnp.broadcast_to(together / math.prod(one.shape[:-2]), one.shape)

    def product(self, data: jax.Array, kernel: jax.Array) -> jax.Array:
        """The same product of other data with another kernel."""
        kernel = jnp.asarray(kernel, data.dtype)
        if self._window is None:
            return data @ kernel
        spec = self.eqn.params["dimension_numbers"].rhs_spec
        place = (*spec[2:], spec[1], spec[0])
        return bind(self.eqn, [data, jnp.transpose(kernel, np.argsort(place).tolist())])[0]

    # -- where a kernel's taps are: none in a matrix product

    @property
    def _window(self) -> Sequence[tuple[int, int]] | None:
        return self.eqn.params.get("padding")

    def _center(self) -> tuple[int, ...] | None:
        window = self._window
        if window is None:
            return ()
        center = tuple(low for low, _ in window)
        inside = all(c < n for c, n in zip(center, self.kernel.shape, strict=False))
        return center if inside else None

    def _alike(self, first: Layer) -> bool:
        one, other = (layer.eqn.params["dimension_numbers"] for layer in (self, first))
        return self._window is None or one == other

    def _met(self, first: Layer) -> jax.Array:
        """For each tap the one of the first layer that leads back to where it started."""
        if self._window is None or first._window is None:
            return first.kernel
        kernel = first.kernel
        pads = zip(self._window, first._window, strict=True)
        for axis, (mine, its) in enumerate(pads):
            place = mine[0] + its[0] - np.arange(self.kernel.shape[axis])
            inside = (place >= 0) & (place < kernel.shape[axis])
            kernel = jnp.take(kernel, np.where(inside, place, 0), axis)
            mask = inside.reshape([-1 if k == axis else 1 for k in range(kernel.ndim)])
            kernel = jnp.where(mask, kernel, 0)
        return kernel

    def _laid(self, channels: jax.Array) -> jax.Array:
        """Numbers of channels beside a result."""
        shape = [1] * len(aval(self.eqn.outvars[0]).shape)
        window = self._window
        shape[-1 if window is None else self.eqn.params["dimension_numbers"].out_spec[1]] = -1
        return channels.reshape(shape)


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Made(Gaussian):
    """A Gaussian that layers were added up to.

    Attributes:
        layers: the layers.
    """

    layers: tuple[Layer, ...] = ()

    @classmethod
    def of(cls, x: Gaussian, layers: Sequence[Layer]) -> Gaussian:
        """A Gaussian as the sum of some layers, and of what is not known of."""
        if not layers:
            return x
        return cls(x.mean, x.variance, x.axes, x.correlation, x.gain, tuple(layers), grid=x.grid)

    @classmethod
    def tree_unflatten(cls, static: Any, leaves: Sequence[Any]) -> Gaussian:
        """For JAX: what it is made of does not enter loops."""
        return Gaussian.tree_unflatten(static, leaves)


def layers_of(value: Gaussian) -> tuple[Layer, ...]:
    """The layers that a Gaussian is known to be made of."""
    return value.layers if isinstance(value, Made) else ()


def made(out: Value, eqn: JaxprEqn, operands: Sequence[Value]) -> Value:
    """The result of a product, with what it was made of where that is followed."""
    if not isinstance(out, Gaussian):
        return out
    data, other = operands[0], settle(operands[1], 2)
    if is_random(other) and not isinstance(other, Gaussian):
        return out
    laid = _as_layer(eqn, jnp.asarray(mean_of(other)))
    if laid is None:
        return out
    noise = _as_layer(eqn, other.variance) if isinstance(other, Gaussian) else None
    return Made.of(out, [Layer(eqn, data, laid, noise, origin_of(other))])


def _as_layer(eqn: JaxprEqn, kernel: jax.Array) -> jax.Array | None:
    """A kernel with its axes in order; None for products that do not keep positions."""
    p, numbers = eqn.params, eqn.params["dimension_numbers"]
    if eqn.primitive.name == "dot_general":
        (contract, other), batch = numbers
        last = len(aval(eqn.invars[0]).shape) - 1
        if tuple(contract) != (last,) or any(batch) or kernel.ndim != 2:
            return None
        return kernel if tuple(other) == (0,) else kernel.T
    steps = (*p["window_strides"], *p["lhs_dilation"], *p["rhs_dilation"])
    groups = p["feature_group_count"], p["batch_group_count"]
    if {*steps, *groups} != {1} or numbers.lhs_spec != numbers.out_spec:
        return None
    before, after = (aval(v).shape for v in (eqn.invars[0], eqn.outvars[0]))
    if any(before[a] != after[a] for a in numbers.out_spec[2:]):
        return None
    spec = numbers.rhs_spec
    return jnp.transpose(kernel, (*spec[2:], spec[1], spec[0]))
