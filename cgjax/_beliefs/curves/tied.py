"""Sums of what the same weights made again and again: the steps of a solver, layers that are tied.

Each step x_t = x_{t-1} + a z_t of a network z_t = f(x_{t-1} W) V adds what moves together with all
that was added before, since weights and inputs are the same. Element by element, of z = u W,

    Cov(sum_s a z_s, z_t) = (sum_s a E[u_s] E[u_t] + C) Var[W] + C E[W]^2,
    C = Cov(sum_s a u_s, u_t),

in which the sum of the means is all that is kept of former steps. C goes through a function by the
square of its slope at this step, and starts as that of the state with the sum of its former values.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp

from cgjax._beliefs.curves.curve import Curve, as_curve
from cgjax._beliefs.curves.form import Coefficient, times
from cgjax._beliefs.curves.running import Path, Running, Use, Uses
from cgjax._beliefs.curves.skips import common, slope
from cgjax._beliefs.curves.total import Part, parts_of
from cgjax._beliefs.made import Layer, layers_of
from cgjax._beliefs.values import Gaussian, Moved, Origin, mean_of, origin_of, settle
from cgjax._gaussian.numerics import root as deviation
from cgjax._gaussian.numerics import wide


def with_tied(
    out: Gaussian | Curve, values: Sequence[Gaussian | Curve], signs: Sequence[int]
) -> Gaussian | Curve:
    """A sum of two, of which one may be made by the weights that the other is."""
    one, other = map(as_curve, values)
    goes_on = [_goes_on(_state(c.root)) and c.affine is not None for c in (one, other)]
    # Of a sum that knows its parts there is nothing else to say.
    anew = isinstance(out, Gaussian) and any(goes_on)
    if not anew and _last(one).isdisjoint(_last(other)):
        return out
    if goes_on == [False, True]:
        one, other, signs = other, one, signs[::-1]
    found = _grown(settle(out, 2), one, other, signs, anew)
    return out if found is None else found


def _grown(out: Gaussian, a: Curve, b: Curve, signs: Sequence[int], anew: bool) -> Running | None:
    """A sum with what its summands have in common, as one that goes on.

    Args:
        out: the sum as it is known without.
        a: what has gone on, if any has.
        b: what is added.
        signs: of the two.
        anew: whether to make one of summands that have nothing in common.
    """
    inside = {id(p.root) for p in parts_of(a.root)}
    both = inside & {id(p.root) for p in parts_of(b.root)}
    before, after = uses_of(a, inside), uses_of(b, inside)
    mine, its = uses_of(a, inside, both), uses_of(b, inside, both)
    new = uses_of(a, inside, {id(p.root) for p in parts_of(a.root) if _goes_on(p.root)})
    found = _total(_covariance(p, mine, its, a) for p in mine if len(p) == 1)
    if found is None:
        if not anew:
            return None
        found = jnp.zeros(out.shape)
    elif a.affine is None or b.affine is None:
        found = found * slope(b) * slope(b if a.affine else a)
    # What is known of the two without it, and what there can be at most.
    one, other = (wide(settle(c, 2).variance) for c in (a, b))
    known, most = (wide(out.variance) - one - other) / 2, deviation(one) * deviation(other)
    more = jnp.clip(signs[0] * signs[1] * found, -most - known, most - known)
    variance = jnp.maximum(wide(out.variance) + 2 * more, 0)
    uses = {}
    for path in dict.fromkeys((*before, *after)):
        use, *others = [
            u[path].times(s) for u, s in zip((before, after), signs, strict=True) if path in u
        ]
        use = use.plus(others[0]) if others else use
        base = _base(path, a, (new, after), signs, (known, more))
        uses[path] = use if base is None else use._replace(base=jnp.asarray(base, out.dtype))
    return Running(
        out.mean,
        jnp.asarray(variance, out.dtype),
        out.axes,
        out.correlation,
        out.gain,
        uses,
        grid=out.grid,
    )


def going_on(value: Curve) -> Uses:
    """What weights have added to a value, if it is a sum that goes on; else nothing."""
    parts = {id(p.root): p.root for p in parts_of(value.root)}
    on = {key for key, root in parts.items() if _goes_on(root)}
    if value.affine is None or not on:
        return {}
    new, zero = uses_of(value, parts, on), jnp.zeros(())
    found = {}
    for path, use in uses_of(value, parts).items():
        base = _base(path, value, (new,), (1,), (zero, zero))
        base = use.base if base is None else jnp.asarray(base, value.dtype)
        found[path] = use._replace(base=jnp.broadcast_to(base, use.base.shape))
    return found


def _base(
    path: Path,
    a: Curve,
    uses: Sequence[Uses],
    signs: Sequence[int],
    in_common: tuple[jax.Array, jax.Array],
) -> jax.Array | None:
    """Covariances of what some weights were applied to, so far, with the new sum.

    Args:
        path: the weights.
        a: the sum before.
        uses: those of the two that are added.
        signs: of the two.
        in_common: of the two, in the new sum, as is known without the weights and beside that.
    """
    known, more = in_common
    weights = {id(p.root): times(signs[0], p.weight) for p in _weighted(a)}
    main = _state(a.root)
    terms = []
    if isinstance(main, Running) and path in main.uses and id(main) in weights:
        old, weight = main.uses[path], weights[id(main)]
        terms.append(times(times(weight, weight), wide(old.base)) + old.level * (known + more / 2))
    new = [p for u, s in zip(uses, signs, strict=True) if path in u for p in u[path].times(s).ends]
    for root, weight in new:
        if id(root) in weights:
            own = times(weights[id(root)], wide(root.variance))
            terms.append(times(weight, own + (known + more) if root is main else own))
    found = _total(terms)
    return found if found is None or found.shape == a.shape else None


def _state(root: Gaussian) -> Gaussian:
    """The part of a sum that goes on, or else the first."""
    parts = [p.root for p in parts_of(root)]
    return next((r for r in parts if _goes_on(r)), parts[0])


def _goes_on(root: Gaussian) -> bool:
    return isinstance(root, Running)


def _total(terms: Iterable[jax.Array | None]) -> jax.Array | None:
    found = [t for t in terms if t is not None]
    return functools.reduce(jnp.add, found) if found else None


# -- which weights made a value

# How many layers of a branch are followed.
_DEEPEST = 4


def _last(curve: Curve) -> set[Origin]:
    """The weights that a value was made by last."""
    found: set[Origin] = set()
    for root, _ in parts_of(curve.root):
        if isinstance(root, Running) and curve.affine is not None:
            found.update(path[0] for path in root.uses)
        found.update(_named(layer.origin, curve) for layer in layers_of(root))
        if _is_addend(root):
            found.add(_named(origin_of(root), curve))
    return found


def _is_addend(root: Gaussian) -> bool:
    return type(root) in (Gaussian, Moved) and not root.axes


def _named(origin: Origin, curve: Curve) -> Origin:
    """Weights before a function that bends are others than those before none."""
    return origin if curve.affine is not None else Origin(origin.value, (*origin.moves, "bent"))


def _weighted(curve: Curve) -> list[Part]:
    """The parts of a curve's root that count alike in all elements, beside its bends."""
    whole = 1.0 if curve.affine is None else curve.affine.slope
    parts = [Part(root, times(whole, weight)) for root, weight in parts_of(curve.root)]
    return [p for p in parts if jnp.ndim(p.weight) == 0]


def uses_of(curve: Curve, inside: Collection[int], without: Collection[int] = ()) -> Uses:
    """What weights have added to a value.

    Args:
        curve: the value.
        inside: the Gaussians, by id, that are not followed further.
        without: the parts of the value, by id, that are left out.
    """
    found: Uses = {}
    for root, weight in _weighted(curve):
        if id(root) in without:
            continue
        if isinstance(root, Running) and curve.affine is not None:
            _add(found, {path: use.times(weight) for path, use in root.uses.items()})
        else:
            like = jnp.ones(root.shape, root.dtype)
            for path, mean, counts, ends, layer in _of_part(root, weight, curve, (), inside):
                use = Use(mean, jnp.asarray(counts, root.dtype) * like, 0 * like, ends, layer)
                _add(found, {path: use})
    return found


def _add(found: Uses, more: Uses) -> None:
    for path, use in more.items():
        found[path] = found[path].plus(use) if path in found else use


Made = tuple[Path, jax.Array, Coefficient, tuple[Part, ...], Layer | Gaussian]


def _of_part(
    root: Gaussian, weight: Coefficient, curve: Curve, path: Path, inside: Collection[int]
) -> Iterator[Made]:
    """The layers and the addend that one part of a value is made of, and theirs."""
    counts = jnp.asarray(weight, root.dtype)
    if _is_addend(root):
        own = (*path, _named(origin_of(root), curve))
        yield own, jnp.broadcast_to(counts, root.shape), weight, (), root
    for layer in layers_of(root):
        data = layer.data if isinstance(layer.data, Curve) else settle(layer.data, 2)
        own, ends = (*path, _named(layer.origin, curve)), []
        inner = as_curve(data) if isinstance(data, Gaussian | Curve) else None
        for part in () if inner is None else _weighted(inner):
            share = times(weight, part.weight)
            further = layers_of(part.root) or _is_addend(part.root)
            if id(part.root) in inside or not further or len(own) >= _DEEPEST:
                ends.append(Part(part.root, share))
            elif inner is not None:
                yield from _of_part(part.root, share, inner, own, inside)
        mean = jnp.asarray(mean_of(settle(data, 2)), root.dtype)
        yield own, counts * mean, weight, tuple(ends), layer


# -- what they have in common


def _covariance(path: Path, mine: Uses, its: Uses, a: Curve) -> jax.Array | None:
    """Of two values, by weights that both were made by."""
    if path not in its:
        return None
    one, other = mine[path], its[path]
    layer = other.layer or one.layer
    product = wide(one.mean) * wide(other.mean)
    if not isinstance(layer, Layer):
        return None if layer is None else product * wide(layer.variance)
    terms = [_of_ends(one, other, a)]
    terms += [_covariance(p, mine, its, a) for p in mine if p[:-1] == path]
    inner = _total(terms)
    data = layer.data
    if inner is not None and isinstance(data, Curve) and data.affine is None:
        inner = inner * slope(data) ** 2
    kernel, noise = wide(layer.kernel), layer.noise
    parts = []
    if noise is not None:
        parts.append(layer.product(_like(product, layer), wide(noise)))
        kernel = kernel**2 + wide(noise)
    else:
        kernel = kernel**2
    if inner is not None:
        parts.append(layer.product(_like(inner, layer), kernel))
    return _total(map(wide, parts))


def _like(array: jax.Array, layer: Layer) -> jax.Array:
    return jnp.broadcast_to(array, layer.data.shape).astype(layer.data.dtype)


def _of_ends(one: Use, other: Use, a: Curve) -> jax.Array | None:
    """Of what two uses are functions of, where no weights lead on to it."""
    terms, state = [], _state(a.root)
    for root, weight in other.ends:
        if root is state and _goes_on(root):
            terms.append(times(weight, wide(one.base)))
            continue
        for mine, its in one.ends:
            if mine is root:
                terms.append(times(times(weight, its), wide(root.variance)))
            elif (both := common(mine, root)) is not None:
                terms.append(times(times(weight, its), both.itself))
    return _total(terms)
