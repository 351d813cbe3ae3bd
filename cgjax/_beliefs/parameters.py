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
from cgjax._beliefs.pairs import over_pairs
from cgjax._beliefs.values import Gaussian, Known, Value, is_random, mean_of, sharing
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
        uncertain = {k: x for k, x in enumerate(self.values) if isinstance(x, Gaussian)}
        if self.family.touching is None:
            for k, x in uncertain.items():
                ones = (jnp.ones_like(x.mean),)
                _, slope = jax.jvp(self._function(method, [k], e), (x.mean,), ones)
                lead = (1,) * (e.ndim - x.mean.ndim)
                variance = variance + slope**2 * x.variance.reshape(lead + x.shape)
            return Gaussian(mean, variance)
        axes, shared = self._positions(e), None
        if uncertain:
            extras, rank = extra_axes(self.structure), node_rank(self.family, e.shape)
            own = [max(rank + extras[k], 0) for k in uncertain]
            function = self._function(method, list(uncertain), e)
            squares, shared = _of_touching(function, list(uncertain.values()), own, axes)
            variance = variance + squares
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

    def _function(self, method: str, places: Sequence[int], e: Array) -> Callable[..., Array]:
        """A method of the family as a function of some of its parameters."""
        means = [mean_of(x) for x in self.values]

        def function(*parameters: Array) -> Array:
            values = list(means)
            for k, parameter in zip(places, parameters, strict=True):
                values[k] = parameter
            return getattr(_static.join(self.structure, values), method)(e)

        return function


def _of_touching(
    function: Callable[..., Array],
    parameters: Sequence[Gaussian],
    own: Sequence[int],
    axes: tuple[int, ...],
) -> tuple[Array, Array]:
    """The sum of J_j^2 v_j over parameters, and the average of J_j J'_j v_j over two positions.

    Args:
        function: nodes given the parameters.
        parameters: each with axes of several nodes, which need not be there, and its own.
        own: how many axes are its own, at most.
        axes: the axes of the positions.
    """
    leads = [x.shape[: max(len(x.shape) - n, 0)] for x, n in zip(parameters, own, strict=True)]
    counts = [math.prod(x.shape[len(lead) :]) for x, lead in zip(parameters, leads, strict=True)]
    _, linear = jax.linearize(function, *(x.mean for x in parameters))

    def along(j: Array) -> tuple[Array, Array]:
        steps, first = [], 0
        for x, lead, count in zip(parameters, leads, counts, strict=True):
            one = jax.nn.one_hot(j - first, count, dtype=x.dtype)  # 0 for those of others
            one = one.reshape((1,) * len(lead) + x.shape[len(lead) :])
            steps.append(root(x.variance) * one)
            first += count
        moved = linear(*steps)
        return moved**2, over_pairs(moved, axes) if axes else jnp.zeros((), moved.dtype)

    def some(sums: tuple[Array, Array], first: Array) -> tuple[tuple[Array, Array], None]:
        found = jax.vmap(along)(first + jnp.arange(size))
        return jax.tree.map(lambda total, x: total + x.sum(0), sums, found), None

    size = min(_AT_ONCE, sum(counts))
    like = jax.eval_shape(along, jnp.zeros((), int))
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    return lax.scan(some, start, jnp.arange(0, sum(counts), size))[0]
