"""Operations that move elements or repeat them, and what positions share after them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from cgjax._beliefs import layouts
from cgjax._beliefs.pairs import constant_root, over_pairs
from cgjax._beliefs.spacing import grid_after, of_some, within
from cgjax._beliefs.values import Averages, Exact, Gaussian, Known, Value, is_random, moved_from
from cgjax._program.jaxprs import aval, bind
from cgjax._program.primitives import facts

# Moves the elements of an array.
Move = Callable[[Array], Array]


# -- what positions share


def common_axes(values: Sequence[Gaussian]) -> tuple[int, ...]:
    """The axes along which what the values share is still shared by a mixture of them.

    A value without shared noise does not restrict them. Where the values share along different
    axes, as those of a Mixer do, positions come before features, which are last.
    """
    known = [set(v.axes) for v in values if v.axes]
    if not known:
        return ()
    if not set.intersection(*known):
        known = [axes for axes in known if len(values[0].shape) - 1 not in axes] or known
    return tuple(sorted(set.intersection(*known)))


def shared_variance(x: Gaussian, axes: tuple[int, ...], factor: Exact | float = 1.0) -> Array:
    """The average covariances of two positions, as `over_pairs`; for others, without derivatives.

    Args:
        x: a Gaussian.
        axes: axes of positions, all of them x's own if it has any.
        factor: what each element of x is multiplied by.
    """
    if x.correlation is None or not set(axes) <= set(x.axes):
        return jnp.zeros((), x.dtype)
    if isinstance(factor, float) and factor == 1 and tuple(axes) == tuple(x.axes):
        return x.constant_covariance()
    beside = x.variance if x.gain is None else x.variance - x.gain**2
    correlation = x.correlation if set(axes) == set(x.axes) else within(x, axes)
    covariance = correlation * over_pairs(constant_root(beside) * factor, axes)
    if x.gain is None:
        return covariance
    return covariance + over_pairs(x.gain * factor, axes)


def correlation(x: Gaussian, axes: tuple[int, ...]) -> Array:
    """The correlations of positions along some axes; 0 where x has none."""
    if x.correlation is None or not set(axes) <= set(x.axes):
        return jnp.zeros((2, *(1,) * len(x.shape)), x.dtype)
    return x.correlation


def each(move: Move, correlation: Array, x: Gaussian, axes: tuple[int, ...]) -> Array:
    """Correlations moved as x's elements are; `axes` are those of the positions afterwards."""
    return jnp.stack(
        [move(jnp.broadcast_to(c, x.shape)).max(axes, keepdims=True) for c in correlation]
    )


def spread(x: Gaussian, shape: tuple[int, ...], dimensions: Sequence[int] = ()) -> Gaussian:
    """Broadcasts: what is repeated along a new axis is one and the same number there.

    Args:
        x: a Gaussian.
        shape: the result's shape.
        dimensions: the axis of the result that each axis of x becomes.
    """

    def over(array: Array, sizes: Sequence[int]) -> Array:
        return lax.broadcast_in_dim(array, tuple(sizes), tuple(dimensions))

    # The leading axis of several holds examples: what they share does not matter.
    first = 1 if len(shape) > 1 else 0
    repeated = {
        axis
        for axis in range(first, len(shape))
        if shape[axis] > 1
        and (axis not in dimensions or x.shape[list(dimensions).index(axis)] == 1)
    }
    kept = {dimensions[axis] for axis in x.axes}
    mean, variance = over(x.mean, shape), over(x.variance, shape)
    axes = tuple(sorted(repeated | kept))
    if not axes:
        return moved_from(Gaussian(mean, variance), x, tuple(shape), tuple(dimensions))
    sizes = [1 if axis in axes else n for axis, n in enumerate(shape)]
    if x.correlation is None:
        out = Gaussian(mean, variance, axes, jnp.ones((2, *(1,) * len(shape)), x.dtype))
        same = over(x.mean, sizes), over(x.variance, sizes)
        covariance = lax.stop_gradient(jnp.stack([same[1], same[1]]))
        return out.averaged(Averages(covariance, same=same))
    mine = [1 if a in x.axes else n for a, n in enumerate(x.shape)]
    both = jnp.stack([over(jnp.broadcast_to(c, mine), sizes) for c in x.correlation])
    return Gaussian(mean, variance, axes, both)


def carried(x: Gaussian, move: Move, axes: tuple[int, ...]) -> Gaussian:
    """Both moments moved alike; `axes` are the axes of positions afterwards."""
    mean, variance = move(x.mean), move(x.variance)
    if not axes or x.correlation is None or mean.size == 0:
        return Gaussian(mean, variance)
    return Gaussian(mean, variance, axes, each(move, x.correlation, x, axes))


def _transpose(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    (x,) = operands
    permutation = eqn.params["permutation"]
    axes = tuple(i for i, axis in enumerate(permutation) if axis in x.axes)
    return _lying(carried(x, lambda a: bind(eqn, [a])[0], axes), x, eqn)


def _lying(out: Gaussian, x: Gaussian, eqn: JaxprEqn) -> Gaussian:
    """A Gaussian after a move, which knows how its positions lie."""
    layout = layouts.moved(layouts.identity(x.shape), eqn, []) if out.axes else None
    return out if layout is None else out.on(grid_after(x, layout, out.axes))


def _broadcast(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    dimensions = tuple(map(int, eqn.params["broadcast_dimensions"]))
    return spread(operands[0], eqn.params["shape"], dimensions)


def _reshape(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    x = operands[0]
    axes = reshaped_axes(x.shape, aval(eqn.outvars[0]).shape, x.axes)
    return _lying(carried(x, lambda a: bind(eqn, [a, *operands[1:]])[0], axes), x, eqn)


def reshaped_axes(old: Sequence[int], new: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """The axes of positions after a reshape; none where one is merged with another axis."""
    if not axes:
        return ()
    found: list[int] = []
    i = j = 0
    while i < len(old) or j < len(new):
        olds, news = [], []
        left = right = 1
        while True:
            if left == right and (olds or news):
                break
            if (left <= right and i < len(old)) or j >= len(new):
                left *= old[i]
                olds.append(i)
                i += 1
            else:
                right *= new[j]
                news.append(j)
                j += 1
        sized = [k for k in olds if old[k] > 1]
        if any(k in axes for k in sized):
            if not all(k in axes for k in sized):
                return ()
            found += [k for k in news if new[k] > 1]
    return tuple(found)


def _tile(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    """Copies side by side; what is repeated from a single element is one number there."""
    x, reps = operands[0], eqn.params["reps"]
    repeated = {axis for axis, number in enumerate(reps) if number > 1}
    if all(x.shape[axis] == 1 for axis in repeated):
        return spread(x, tuple(aval(eqn.outvars[0]).shape), range(len(x.shape)))
    axes = () if repeated & set(x.axes) else x.axes
    return carried(x, lambda a: bind(eqn, [a])[0], axes)


def _squeeze(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    (x,) = operands
    gone = {d % len(x.shape) for d in eqn.params["dimensions"]}
    kept = [axis for axis in range(len(x.shape)) if axis not in gone]
    axes = tuple(i for i, axis in enumerate(kept) if axis in x.axes)
    return _lying(carried(x, lambda a: bind(eqn, [a])[0], axes), x, eqn)


def _expand(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    (x,) = operands
    shape = aval(eqn.outvars[0]).shape
    axes = reshaped_axes(x.shape, shape, x.axes)
    return _lying(carried(x, lambda a: bind(eqn, [a])[0], axes), x, eqn)


def _in_place(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    """Slices and reversals: the axes stay what they are; other operands are indices."""
    x, *rest = operands
    out = carried(x, lambda a: bind(eqn, [a, *rest])[0], x.axes)
    return of_some(out, x, eqn.params.get("strides") or (1,) * len(x.shape))


def _pad(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    x, filling = (v if is_random(v) else _exactly(v) for v in operands)
    mean = bind(eqn, [x.mean, filling.mean])[0]
    variance = bind(eqn, [x.variance, filling.variance])[0]
    if not x.axes:
        return Gaussian(mean, variance)
    zero = jnp.zeros((), x.dtype)
    moved = carried(x, lambda a: bind(eqn, [a, zero])[0], x.axes)
    return replace(moved, mean=mean, variance=variance)


def _exactly(array: Known) -> Gaussian:
    array = jnp.asarray(array)
    return Gaussian(array, jnp.zeros_like(array))


def _together(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    """Concatenation and stacking."""
    parts = [v if is_random(v) else _exactly(v) for v in operands]
    mean = bind(eqn, [p.mean for p in parts])[0]
    variance = bind(eqn, [p.variance for p in parts])[0]
    along = eqn.params.get("dimension")
    axes = parts[0].axes
    alike = eqn.primitive.name == "concatenate" and all(p.axes == axes for p in parts)
    if not axes or not alike or along in axes:
        return Gaussian(mean, variance)
    known = [correlation(p, axes) for p in parts]
    joined = [
        bind(eqn, [jnp.broadcast_to(c[k], p.shape) for c, p in zip(known, parts, strict=True)])[0]
        for k in range(2)
    ]
    both = jnp.stack([c.max(axes, keepdims=True) for c in joined])
    return Gaussian(mean, variance, axes, both)


def _apart(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> list[Gaussian]:
    (x,) = operands
    means, variances = bind(eqn, [x.mean]), bind(eqn, [x.variance])
    if eqn.params["axis"] in x.axes or not x.axes or eqn.primitive.name != "split":
        return [Gaussian(m, v) for m, v in zip(means, variances, strict=True)]
    pieces = [bind(eqn, [jnp.broadcast_to(c, x.shape)]) for c in x.correlation]
    return [
        Gaussian(m, v, x.axes, jnp.stack([c.max(x.axes, keepdims=True) for c in both]))
        for m, v, *both in zip(means, variances, *pieces, strict=True)
    ]


def _moved(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    """Elements picked or written by index: what positions share is not followed."""
    data = facts(eqn).data.of(len(operands))
    parts = [v if is_random(v) else _exactly(v) if i in data else v for i, v in enumerate(operands)]
    mean = bind(eqn, [p.mean if i in data else p for i, p in enumerate(parts)])[0]
    spread: list[Value] = [p.variance if i in data else p for i, p in enumerate(parts)]
    if eqn.primitive.name in ("scatter-sub", "scatter_sub"):
        spread[2] = -spread[2]  # differences have the sum of the variances
    return Gaussian(mean, bind(eqn, spread)[0])


STRUCTURE: dict[str, Callable[..., Gaussian | list[Gaussian]]] = {
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "tile": _tile,
    "squeeze": _squeeze,
    "expand_dims": _expand,
    "slice": _in_place,
    "dynamic_slice": _in_place,
    "rev": _in_place,
    "pad": _pad,
    "concatenate": _together,
    "stack": _together,
    "split": _apart,
    "unstack": _apart,
    "gather": _moved,
    "dynamic_update_slice": _moved,
    "copy_to_host": _moved,
    "scatter": _moved,
    "scatter-add": _moved,
    "scatter_add": _moved,
    "scatter-sub": _moved,
    "scatter_sub": _moved,
}
