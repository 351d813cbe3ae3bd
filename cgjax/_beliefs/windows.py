"""The geometry of convolutions: which inputs windows see, and which of them two windows share."""

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from cgjax._beliefs.pairs import neighbour_average, over_pairs
from cgjax._beliefs.values import Exact, Gaussian
from cgjax._gaussian.numerics import root
from cgjax._program.jaxprs import Params


class Window:
    """A convolution's geometry: which inputs each of its taps sees."""

    def __init__(self, params: Params, lhs: Sequence[int], rhs: Sequence[int], out: Sequence[int]):
        self.numbers = params["dimension_numbers"]
        self.groups = params["feature_group_count"]
        self.out = out
        lhs_spec, rhs_spec, out_spec = self.numbers
        self.lhs_spec, self.rhs_spec, self.out_spec = lhs_spec, rhs_spec, out_spec
        self.steps = [
            max(s // d, 1)
            for s, d in zip(params["window_strides"], params["lhs_dilation"], strict=True)
        ]
        self.dilations = params["rhs_dilation"]
        self.spread = any(d > 1 for d in params["lhs_dilation"])
        self.masks, self.beside = [], []
        for d, (i, k, o) in enumerate(zip(lhs_spec[2:], rhs_spec[2:], out_spec[2:], strict=True)):
            low, _ = params["padding"][d]
            place = (
                np.arange(out[o])[:, None] * params["window_strides"][d]
                - low
                + np.arange(rhs[k])[None] * params["rhs_dilation"][d]
            )
            index, left = np.divmod(place, params["lhs_dilation"][d])
            seen = (left == 0) & (index >= 0) & (index < lhs[i])
            mask = np.zeros((lhs[i], rhs[k]), np.float32)
            np.add.at(mask, (np.where(seen, index, 0), np.arange(rhs[k])[None] + 0 * index), seen)
            self.masks.append(mask / out[o])
            # The same for the first of two neighbours, where both see an input by that tap.
            mask = np.zeros((lhs[i], rhs[k]), np.float32)
            both = seen[:-1] & seen[1:]
            first = np.where(both, index[:-1], 0)
            np.add.at(mask, (first, np.arange(rhs[k])[None] + 0 * first), both)
            self.beside.append(mask / max(out[o] - 1, 1))

    @property
    def overlap(self) -> bool:
        """Whether neighbours see the same inputs."""
        return not self.spread and any(
            step % dilation == 0 and step // dilation < mask.shape[1] and len(mask) > step
            for step, dilation, mask in zip(self.steps, self.dilations, self.masks, strict=True)
        )

    @property
    def inside(self) -> float:
        """The share of taps that lie inside the image: at the edges windows see fewer inputs."""
        return math.prod(float(m.sum(0).mean()) for m in self.masks)

    def taps(self, x: Exact) -> Array:
        """For each tap the average, over all windows, of the input it sees: (n, taps, g, i)."""
        return self._averages(x, self.masks)

    def _averages(self, x: Exact, masks: Sequence[np.ndarray]) -> Array:
        x = jnp.transpose(x, (self.lhs_spec[0], *self.lhs_spec[2:], self.lhs_spec[1]))
        for mask in masks:
            # The next spatial axis is always axis 1; its taps go last.
            x = jnp.tensordot(x, jnp.asarray(mask, x.dtype), ((1,), (0,)))
        x = jnp.swapaxes(x.reshape(*x.shape[:2], -1), 1, 2)
        return x.reshape(*x.shape[:2], self.groups, -1)

    def pairs(self, x: Exact) -> Array:
        """For each tap the average product of the inputs that two windows see: any, neighbours."""
        number = math.prod(self.out[a] for a in self.out_spec[2:])
        anywhere = (number * self.taps(x) ** 2 - self.taps(x**2)) / (number - 1)
        axes = self.lhs_spec[2:]
        along = [
            (k, axis, step)
            for k, (axis, out, step) in enumerate(
                zip(axes, self.out_spec[2:], self.steps, strict=True)
            )
            if self.out[out] > 1 and x.shape[axis] > step
        ]
        if not along:
            return jnp.stack([anywhere, anywhere])
        if not self.spread:
            near = [self._beside(x, *where) for where in along]
            return jnp.stack([anywhere, functools.reduce(jnp.add, near) / len(near)])
        near = [self.channels(neighbour_average(x, axis, axes, step)) for _, axis, step in along]
        # That of all neighbours, in the share of windows in which the tap is inside the image.
        seen = functools.reduce(np.multiply.outer, [m.sum(0) for m in self.masks]).reshape(-1)
        neighbours = functools.reduce(jnp.add, near)[:, None] / len(near)
        return jnp.stack([anywhere, neighbours * jnp.asarray(seen, x.dtype)[None, :, None, None]])

    def _beside(self, x: Exact, number: int, axis: int, step: int) -> Array:
        """For each tap the average product of what two neighbours along an axis see by it."""
        size = x.shape[axis]
        products = lax.slice_in_dim(x, 0, size - step, axis=axis) * lax.slice_in_dim(
            x, step, size, axis=axis
        )
        masks = list(self.masks)
        masks[number] = self.beside[number][: size - step]
        return self._averages(products, masks)

    def overlaps(self, level: Array, weights: Array) -> Array:
        """The covariances that inputs of such variances give to any two windows, to neighbours."""
        if self.spread:
            return jnp.zeros((), weights.dtype)
        grid = weights.reshape(*(m.shape[1] for m in self.masks), *weights.shape[1:])
        spatial = tuple(range(len(self.masks)))
        number = math.prod(self.out[a] for a in self.out_spec[2:])
        near, classes = [], [grid]
        for axis, (step, dilation) in enumerate(zip(self.steps, self.dilations, strict=True)):
            # Windows one step apart see an input by taps `shift` apart, or after some more steps.
            shift, size = step // math.gcd(step, dilation), grid.shape[axis]
            if self.out[self.out_spec[2 + axis]] > 1:
                apart = shift if step % dilation == 0 and shift < size else size
                parts = [
                    lax.slice_in_dim(grid, *ends, axis=axis)
                    for ends in ((apart, size), (0, size - apart))
                ]
                near.append((parts[0] * parts[1]).sum(spatial))
            classes = [
                lax.slice_in_dim(c, start, size, shift, axis)
                for c in classes
                for start in range(min(shift, size))
            ]
        anywhere = functools.reduce(jnp.add, [c.sum(spatial) ** 2 for c in classes])
        anywhere = (anywhere - (grid**2).sum(spatial)) / (number - 1)
        both = jnp.stack([anywhere, functools.reduce(jnp.add, near) / len(near)])
        return self.inside * jnp.einsum("ngi,cigo->cngo", level, both)

    def spaced(self, x: Gaussian, axes: tuple[int, ...]) -> Array:
        """The covariances of x's positions, where neighbours are one stride apart."""
        assert x.correlation is not None
        near, far = x.correlation[1], x.correlation[0]
        # What neighbours have in common beyond any two fades within a few steps.
        faded = far + (near - far) / max(self.steps)
        return jnp.stack([far, faded]) * over_pairs(root(x.variance), axes)

    def kernel(self, kernel: Exact) -> Array:
        """The kernel as (taps, inputs, groups, outputs)."""
        output, inputs, *taps = self.rhs_spec
        kernel = jnp.transpose(kernel, (*taps, inputs, output))
        *_, inputs, outputs = kernel.shape
        return kernel.reshape(-1, inputs, self.groups, outputs // self.groups)

    def channels(self, x: Array) -> Array:
        """An array of size 1 along the positions, as (examples, groups, inputs)."""
        x = jnp.transpose(x, self.lhs_spec)
        return x.reshape(x.shape[0], self.groups, -1)

    def outputs(self, x: Array) -> Array:
        """(examples, groups, outputs) laid out as the result, of size 1 along the positions."""
        shape = (x.shape[0], x.shape[1] * x.shape[2], *(1,) * len(self.masks))
        return jnp.transpose(x.reshape(shape), [int(a) for a in np.argsort(self.out_spec)])
