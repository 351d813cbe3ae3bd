"""How the positions of Gaussians lie, and what some of them have in common."""

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array

from cgjax._beliefs import fading, grids, layouts
from cgjax._beliefs.values import Gaussian


def grid_of(x: Gaussian) -> dict[int, tuple[grids.Step, ...]]:
    """For each axis of positions how they lie."""
    grid = x.grid or grids.own([x.shape[axis] for axis in x.axes])
    return dict(zip(x.axes, grid, strict=True))


def grid_after(x: Gaussian, layout: layouts.Layout, axes: Sequence[int]) -> grids.Grid | None:
    """How positions lie once they have been moved, along which axes they stand then."""
    return grids.normal(grids.laid([layout.axes[a] for a in axes], x.shape, grid_of(x)))


def grid_of_rest(x: Gaussian, axes: Sequence[int]) -> grids.Grid | None:
    """How positions lie along some of their axes."""
    known = grid_of(x)
    return grids.normal([known[axis] for axis in axes])


def common_grid(axes: tuple[int, ...], *values: Gaussian) -> grids.Grid | None:
    """How positions lie that are shared along some axes by a mixture of values."""
    return next((v.grid for v in values if v.axes == axes and v.grid is not None), None)


def in_parts(x: Gaussian, inside: Sequence[int]) -> fading.Parts:
    """The correlations of positions that differ in some axes alone, and of all others."""
    assert x.correlation is not None
    part, parts = (
        [s for axis, steps in grid_of(x).items() if (axis in inside) == inner for s in steps]
        for inner in (True, False)
    )
    if not part or not parts:
        return fading.Parts(x.correlation[0], x.correlation)
    return fading.of_parts(x.correlation, [*part, *parts], part, parts)


def within(x: Gaussian, axes: Sequence[int]) -> Array:
    """The correlations of positions that differ in some axes alone: of any two, of neighbours."""
    assert x.correlation is not None
    return jnp.stack([in_parts(x, axes).inside, x.correlation[1]])


def of_some(out: Gaussian, x: Gaussian, strides: Sequence[int]) -> Gaussian:
    """Some of the positions, which lie nearer to each other or further apart than all did."""
    if out.correlation is None or all(out.shape[a] == x.shape[a] for a in x.axes):
        return out.on(x.grid)
    known, left = grid_of(x), []
    for axis, steps in known.items():
        number = out.shape[axis]
        if number < x.shape[axis]:
            if len(steps) > 1:
                return out
            steps = [s._replace(length=s.length * strides[axis], number=number) for s in steps]
        left.append(tuple(s for s in steps if s.number > 1))
    whole, some = ([s for steps in grid for s in steps] for grid in (known.values(), left))
    if not some:
        return out
    found = fading.of_parts(out.correlation, whole, [], some)
    return replace(out, correlation=found.between, grid=grids.normal(left))
