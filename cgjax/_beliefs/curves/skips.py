"""What a value has in common with one that was made of it: a skip and its branch.

For z = W2 f(W1 x), element by element and with independent elements of x,

    Cov(x_i, z_i) = Var[x_i] (W1 D W2)_ii,    D = E[f'],

exactly for a Gaussian W1 x. Where positions share noise, those of the same channel count too.
Products of more layers than two are not followed, and neither is what elements of x have in common.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cgjax._beliefs.curves.curve import Curve, as_curve
from cgjax._beliefs.curves.form import Coefficient, number, plus, times
from cgjax._beliefs.curves.running import counted_layers
from cgjax._beliefs.curves.total import parts_of, same_root
from cgjax._beliefs.made import Back, Layer, Made, layers_of
from cgjax._beliefs.values import Gaussian, sharing
from cgjax._gaussian.numerics import wide


class Common(NamedTuple):
    """Covariances of the elements of two values.

    Attributes:
        itself: of those at the same place.
        apart: of those that differ in the position alone, for any two positions and for
            neighbours, along a new leading axis; None where positions are independent.
    """

    itself: jax.Array
    apart: jax.Array | None


def with_common(
    out: Gaussian, curves: Sequence[Gaussian | Curve], signs: Sequence[int]
) -> Gaussian:
    """A sum of two, of which one may be made of the other."""
    both = common(*curves)
    if both is not None:
        twice = 2 * signs[0] * signs[1]
        variance = jnp.maximum(wide(out.variance) + twice * both.itself, 0).astype(out.dtype)
        shared = out.constant_covariance()
        if out.axes and both.apart is not None:
            axes = tuple(a + 1 for a in out.axes)
            shared = shared + jnp.asarray(twice * both.apart.mean(axes, keepdims=True), out.dtype)
        known = replace(out, variance=variance)
        out = sharing(out.mean, variance, shared, out.axes).on(out.grid) if out.axes else known
    layers = [layer for c in curves for layer in _whole_layers(as_curve(c))]
    return Made.of(out, layers) if signs == (1, 1) else out


def _whole_layers(curve: Curve) -> Sequence[Layer]:
    """The layers that a value is a sum of, beside known numbers."""
    if curve.affine is None or number(curve.affine.slope) != 1:
        return ()
    return [x for p in parts_of(curve.root) if number(p.weight) == 1 for x in layers_of(p.root)]


def common(x: Gaussian | Curve, y: Gaussian | Curve) -> Common | None:
    """What two functions of different Gaussians have in common; None where nothing is known."""
    if not (jnp.issubdtype(x.dtype, jnp.floating) and jnp.issubdtype(y.dtype, jnp.floating)):
        return None
    one, other = as_curve(x), as_curve(y)
    for a, b in ((one, other), (other, one)):
        terms = [_made_of(a, part.root, part.weight) for part in parts_of(b.root)]
        found = _total([t for t in terms if t is not None])
        if found is not None:
            return _scaled(found, slope(b))
    return None


def _made_of(a: Curve, z: Gaussian, weight: Coefficient) -> Common | None:
    """The covariances of a function with a Gaussian that may be made of it, times a weight."""
    terms = []
    for layer, counts in counted_layers(z):
        inner = _function(layer)
        if inner is None:
            continue
        start = len(terms)
        met, back = _meeting(a, inner), layer.back()
        if met is not None and back is not None:
            terms.append(_led(met, back))
        for first, its_weight in _layers(inner.root):
            before = _function(first)
            met = None if before is None else _meeting(a, before)
            if met is None:
                continue
            slopes = jnp.broadcast_to(times(slope(inner), its_weight), inner.shape)
            slopes = jnp.asarray(slopes, inner.root.dtype)
            back = layer.back_through(first, slopes, met.apart is not None)
            if back is not None:
                terms.append(_led(met, back))
        # Two layers of one value.
        for other, its_weight in _layers(a.root):
            second = _function(other)
            met = None if second is None else _meeting(second, inner)
            if met is not None and (found := _beside(other, layer, met)) is not None:
                terms.append(_scaled(found, times(slope(a), its_weight)))
        terms[start:] = [_scaled(t, counts) for t in terms[start:]]
    found = _total(terms)
    return None if found is None else _scaled(found, weight)


def _beside(one: Layer, other: Layer, met: Common) -> Common | None:
    """The covariances of two layers of one value, or of two that are correlated."""
    kernels = one.beside(other)
    if kernels is None:
        return None

    def through(covariance: jax.Array, kernel: jax.Array) -> jax.Array:
        return wide(one.product(jnp.asarray(covariance, one.data.dtype), kernel))

    if met.apart is None:
        return Common(through(met.itself, kernels[0]), None)
    near = met.apart.mean(0)
    itself = through(met.itself - near, kernels[0]) + through(near, kernels[1])
    return Common(itself, jnp.stack([through(c, kernels[1]) for c in met.apart]))


def _function(layer: Layer) -> Curve | None:
    data = layer.data
    real = isinstance(data, Gaussian | Curve) and jnp.issubdtype(data.dtype, jnp.floating)
    return as_curve(data) if real else None


def _layers(root: Gaussian) -> Iterator[tuple[Layer, Coefficient]]:
    for part in parts_of(root):
        yield from ((layer, part.weight) for layer in layers_of(part.root))


def _meeting(a: Curve, b: Curve) -> Common | None:
    """The covariances of two functions of the same Gaussian, or of sums with the same parts."""
    if a is b:
        own = a.settled(2)
        return _apart(own, wide(own.variance)) if isinstance(own, Gaussian) else None
    if same_root(a.root, b.root):
        variance: Coefficient = wide(a.root.variance)
    else:
        # What different parts have in common is left out: its products would outnumber the layers'.
        pairs = [*itertools.product(parts_of(a.root), parts_of(b.root))]
        met = [(p, q) for p, q in pairs if p.root is q.root]
        if not met:
            return None
        shares = [times(times(p.weight, q.weight), wide(p.root.variance)) for p, q in met]
        variance = functools.reduce(plus, shares)
    return _apart(a.root, jnp.asarray(times(times(slope(a), slope(b)), variance)))


def _apart(root: Gaussian, itself: jax.Array) -> Common:
    """Beside a covariance of elements at the same place, that of elements of other positions."""
    itself = jnp.broadcast_to(itself, root.shape)
    correlation = root.without_gain().correlation
    if correlation is None:
        return Common(itself, None)
    return Common(itself, wide(correlation) * itself[None])


def _led(met: Common, back: Back) -> Common:
    """Covariances behind layers that lead back to the same place and to other positions."""
    back = jax.tree.map(wide, back)
    if met.apart is None or back.channel is None:
        return Common(met.itself * back.itself, None)
    # Positions that taps lead to lie a few steps apart: between neighbours and any two.
    near = met.apart.mean(0)
    itself = (met.itself - near) * back.itself + near * back.channel
    return Common(itself, met.apart * back.channel[None])


def _total(terms: Sequence[Common]) -> Common | None:
    if not terms:
        return None
    apart = [t.apart for t in terms if t.apart is not None]
    itself = functools.reduce(jnp.add, [t.itself for t in terms])
    return Common(itself, functools.reduce(jnp.add, apart) if apart else None)


def _scaled(x: Common, factor: Coefficient) -> Common:
    itself = jnp.asarray(times(factor, x.itself))
    if x.apart is None:
        return Common(itself, None)
    beside = jnp.expand_dims(factor, 0) if jnp.ndim(factor) else factor
    return Common(itself, jnp.asarray(times(beside, x.apart)))


def slope(curve: Curve) -> Coefficient:
    """E[f'] of a function, as a constant."""
    if curve.affine is not None:
        return curve.affine.slope
    x = curve.root
    found = curve.form.evaluated(curve.function, wide(x.mean), wide(x.variance), True)
    assert found.slope is not None
    return lax.stop_gradient(found.slope)
