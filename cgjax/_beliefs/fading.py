"""Correlations of positions that are near to each other, and of those that are far.

Known are the average correlation of all pairs of positions and that of neighbours. Between these
the correlation of two that lie (i, j) apart is taken to be

    c + (1 - c) b^(i^2 + j^2),

with c and b such that both averages are right. On images of MNIST, of noise and smooth random ones,
behind a convolution with uncertain weights, variances of averages over squares, rows, columns, and
each second or fourth position were 0.90 to 1.13 of the true ones then, and 1.22 for columns of the
largest smooth images; with b^(i + j) up to 2.5 of them.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cgjax._beliefs.grids import Step, smallest
from cgjax._gaussian.numerics import wide

# Below 0 neighbours have less in common than any two.
_FADING = np.concatenate([np.linspace(-0.5, 0.96, 147), 1 - np.geomspace(0.04, 1e-4, 53)[1:]])
_NODES = 129
# Where nothing is left of any of them: 1e-17.
_FURTHEST = math.isqrt(round(17 * math.log(10) / 1e-4)) + 1


class Parts(NamedTuple):
    """What sums over parts of the positions have in common.

    Attributes:
        inside: the average correlation of two positions of one part.
        between: that of positions of any two parts, and of neighbouring ones.
    """

    inside: Float[Array, "..."]
    between: Float[Array, "2 ..."]


def of_parts(
    correlation: Float[Array, "2 ..."],
    whole: Sequence[Step],
    part: Sequence[Step],
    parts: Sequence[Step],
) -> Parts:
    """The correlations of positions in parts.

    Args:
        correlation: of any two positions, and of neighbours.
        whole: how all positions lie.
        part: how those of one part do.
        parts: how one part lies to the others.
    """
    whole, part, parts = (tuple(s for s in g if s.number > 1) for g in (whole, part, parts))
    if not whole:
        return Parts(correlation[0], correlation)
    low, high, table = _table(whole, part, parts)
    far, near = wide(correlation)
    left = 1 - far
    beyond = jnp.where(left > 0, (1 - near) / jnp.where(left > 0, left, 1), 1)
    place = jnp.clip((beyond - low) * ((_NODES - 1) / (high - low)), 0, _NODES - 1)
    index = jnp.minimum(place.astype(jnp.int32), _NODES - 2)
    start, rise = (jnp.asarray(t, far.dtype)[:, index] for t in (table[:, :-1], np.diff(table)))
    found = 1 - left[None] * (start + rise * (place - index)[None])
    found = lax.convert_element_type(found, correlation.dtype)
    return Parts(found[0], found[1:])


@functools.lru_cache(maxsize=256)
def _table(
    whole: tuple[Step, ...], part: tuple[Step, ...], parts: tuple[Step, ...]
) -> tuple[float, float, np.ndarray]:
    """What `1 - correlation` is inside of parts, between any two, and between neighbours.

    All relative to that of any two positions, at equal steps of what it is of neighbours, from the
    first number to the second.
    """
    number, inner, outer = (math.prod(s.number for s in steps) for steps in (whole, part, parts))
    everywhere = (_average(whole) * number - 1) / (number - 1)
    inside = (_average(part) * inner - 1) / max(inner - 1, 1) if inner > 1 else _FADING
    between = near = everywhere
    if outer > 1:
        between = (_average((*part, *parts)) * outer - _average(part)) / (outer - 1)
        least = smallest(parts)
        near = np.mean([_average(part, {axis: n}) for axis, n in least.items()], axis=0)
    beyond, *rest = ((1 - x) / (1 - everywhere) for x in (_FADING, inside, between, near))
    order = np.argsort(beyond)
    nodes = np.linspace(beyond.min(), beyond.max(), _NODES)
    table = np.stack([np.interp(nodes, beyond[order], x[order]) for x in rest])
    return float(nodes[0]), max(float(nodes[-1]), float(nodes[0]) + 1e-6), table


def _average(steps: Sequence[Step], shift: dict[int, int] | None = None) -> np.ndarray:
    """The average of b^(i^2 + j^2) over pairs of places, each place with itself too.

    Args:
        steps: where the places are.
        shift: how far the second of a pair is moved along axes of the grid; by default nowhere.
    """
    shift = shift or {}
    out = np.ones_like(_FADING)
    for axis in {s.axis for s in steps} | set(shift):
        apart = np.ones(1)
        for s in steps:
            if s.axis == axis:
                apart = _convolved(apart, _differences(s))
        reach = len(apart) // 2
        distances = np.arange(-reach, reach + 1) + shift.get(axis, 0)
        seen = np.abs(distances) <= _FURTHEST
        powers = _FADING[:, None] ** distances[seen] ** 2
        out = out * (apart[seen] * powers).sum(1)
    return out


def _convolved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if len(a) * len(b) <= 1 << 20:
        return np.convolve(a, b)
    length = len(a) + len(b) - 1
    return np.fft.irfft(np.fft.rfft(a, length) * np.fft.rfft(b, length), length)


def _differences(step: Step) -> np.ndarray:
    """How often two of so many places are how far apart, from one end to the other."""
    reach = (step.number - 1) * step.length
    out = np.zeros(2 * reach + 1)
    count = step.number - np.abs(np.arange(1 - step.number, step.number))
    out[:: step.length] = count / step.number**2
    return out
