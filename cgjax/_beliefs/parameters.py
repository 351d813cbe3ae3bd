"""Nodes whose family has uncertain parameters, such as the transitions of a chain: first order.

With parameters theta ~ N(m, v) and a node's expectation q(e, theta),

    E[q] = q(e, m),    Var[q] = sum_j (d q / d theta_j)^2 v_j.

Where the elements of a node touch, each depends on all parameters, and one derivative along each
parameter is taken; what has a mean m between bounds a and b varies by (m - a) (b - m) at most. Of
other families a node depends on the parameters at its own place, and one derivative serves all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cgjax import _static
from cgjax._beliefs.values import (
    Gaussian,
    Known,
    Value,
    is_random,
    mean_of,
    over_pairs,
    sharing,
)
from cgjax._gaussian.numerics import root
from cgjax._node import extra_axes, node_rank
from cgjax.nodes import Family

# How many derivatives are computed at once. More take more memory, and few is faster on CPUs.
_AT_ONCE = 16


@dataclass(frozen=True)
class Parameters:
    """The parameters of a family, of which some may be uncertain.

    Attributes:
        structure: the family without its arrays.
        values: these, each an array or a Gaussian.
        positions: whether what the positions of a node share is followed.
    """

    structure: _static.Structure
    values: Sequence[Gaussian | Known]
    positions: bool

    @property
    def family(self) -> Family:
        """The family at the means."""
        return _static.join(self.structure, [mean_of(x) for x in self.values])

    @property
    def random(self) -> bool:
        """Whether any is uncertain."""
        return any(map(is_random, self.values))

    def added(self, method: str, e: Array, mean: Array, variance: Array) -> Value:
        """A belief about nodes, with the variance that comes from uncertain parameters.

        Args:
            method: of the family, whose derivatives by the parameters count.
            e: the natural parameter's mean.
            mean: of the nodes.
            variance: of the nodes without that.
        """
        shared = None
        extras = extra_axes(self.structure)
        axes = self._positions(e)
        for k, (x, extra) in enumerate(zip(self.values, extras, strict=True)):
            if not isinstance(x, Gaussian):
                continue
            function = self._function(method, k, e)
            if self.family.touching is None:
                _, slope = jax.jvp(function, (x.mean,), (jnp.ones_like(x.mean),))
                lead = (1,) * (e.ndim - x.mean.ndim)
                variance = variance + slope**2 * x.variance.reshape(lead + x.shape)
                continue
            own = min(x.mean.ndim, max(node_rank(self.family, e.shape) + extra, 0))
            squares, common = _of_touching(function, x, own, e.ndim, axes)
            variance = variance + squares
            shared = common if shared is None else shared + common
        if self.family.touching is not None:
            low, high = self.family.bounds()
            variance = jnp.minimum(variance, jnp.maximum((mean - low) * (high - mean), 0))
        if shared is None or not axes:
            return Gaussian(mean, variance)
        return sharing(mean, variance, shared, axes)

    def _positions(self, e: Array) -> tuple[int, ...]:
        """The axes of the positions of a node whose elements touch, if there are several."""
        if self.family.touching is None or not self.positions:
            return ()
        axes = tuple(range(e.ndim - node_rank(self.family, e.shape), e.ndim - 1))
        return axes if math.prod(e.shape[a] for a in axes) > 1 else ()

    def _function(self, method: str, k: int, e: Array) -> Callable[[Array], Array]:
        means = [mean_of(x) for x in self.values]

        def function(parameter: Array) -> Array:
            values = [*means[:k], parameter, *means[k + 1 :]]
            return getattr(_static.join(self.structure, values), method)(e)

        return function


def _of_touching(
    function: Callable[[Array], Array],
    parameter: Gaussian,
    own: int,
    rank: int,
    axes: tuple[int, ...],
) -> tuple[Array, Array]:
    """The sum of J_j^2 v_j over parameters, and the average of J_j J'_j v_j over two positions.

    Args:
        function: nodes given the parameter.
        parameter: with axes for nodes, which need not be there, and its own.
        own: how many axes are its own.
        rank: how many axes the nodes have.
        axes: those of the positions.
    """
    shape = parameter.shape
    lead, count = shape[: len(shape) - own], math.prod(shape[len(shape) - own :])
    deviations = root(parameter.variance).reshape(*lead, count)
    _, linear = jax.linearize(function, parameter.mean)

    def along(j: Array) -> tuple[Array, Array]:
        one = jax.nn.one_hot(j, count, dtype=parameter.dtype)  # 0 beyond the last
        step = (deviations * one.reshape(*(1,) * len(lead), count)).reshape(shape)
        moved = linear(step)
        assert moved.ndim == rank
        return moved**2, over_pairs(moved, axes) if axes else jnp.zeros((), moved.dtype)

    def some(sums: tuple[Array, Array], first: Array) -> tuple[tuple[Array, Array], None]:
        found = jax.vmap(along)(first + jnp.arange(size))
        return jax.tree.map(lambda total, x: total + x.sum(0), sums, found), None

    size = min(_AT_ONCE, count)
    like = jax.eval_shape(along, jnp.zeros((), int))
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    return lax.scan(some, start, jnp.arange(0, count, size))[0]
