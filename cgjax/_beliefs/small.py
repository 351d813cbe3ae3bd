"""Functions of groups of two or three elements, integrated over all elements of a group at once.

In so small a group what one element contributes to a sum is no small part of it, so that an
expansion in the sums says little. Products of Gauss-Hermite points do, since they are few there.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cgjax._beliefs.layouts import Shape
from cgjax._gaussian.numerics import root

# By the number of elements in a group: how many points there are for each.
_POINTS = {2: 24, 3: 12}
# Points that hardly count lie far out, where a function need not be defined.
_LIGHTEST = 1e-7


def is_small(fine: Shape, over: frozenset[int]) -> bool:
    """Whether groups over some axes have so few elements."""
    return math.prod(fine[k] for k in over) in _POINTS


def moments(
    function: Callable[[jax.Array], jax.Array],
    mean: jax.Array,
    variance: jax.Array,
    over: frozenset[int],
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of a function of independent Gaussians.

    Args:
        function: of an array whose elements in different groups it does not mix.
        mean, variance: of the Gaussians.
        over: the axes of a group, which is a small one.
    """
    shape = tuple(n if k in over else 1 for k, n in enumerate(mean.shape))
    points, weights = _product(math.prod(shape))
    deviation, start = root(variance), function(mean)

    def add(
        sums: tuple[jax.Array, jax.Array], point: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        place, weight = point
        change = function(mean + deviation * place.reshape(shape)) - start
        return (sums[0] + weight * change, sums[1] + weight * change**2), None

    zero = jnp.zeros_like(start)
    numbers = jnp.asarray(points, mean.dtype), jnp.asarray(weights, mean.dtype)
    (first, second), _ = lax.scan(add, (zero, zero), numbers)
    return start + first, jnp.maximum(second - first**2, 0)


@functools.cache
def _product(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Points for several standard normal variables, and their weights."""
    points, weights = np.polynomial.hermite_e.hermegauss(_POINTS[number])
    places = np.array(list(itertools.product(points, repeat=number)))
    each = np.array([math.prod(w) for w in itertools.product(weights, repeat=number)])
    each /= each.sum()
    heavy = each >= _LIGHTEST
    places, each = places[heavy], each[heavy] / each[heavy].sum()
    return places / np.sqrt(each @ places[:, 0] ** 2), each
