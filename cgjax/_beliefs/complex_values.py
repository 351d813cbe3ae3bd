"""Functions of complex values that are no linear maps: products, exponentials, absolute values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs.linear import linear, linearised
from cgjax._beliefs.maps import LARGEST_MAP, Array, Complex, Linear, as_linear, moments
from cgjax._beliefs.values import Gaussian, Value, is_random
from cgjax._gaussian.numerics import root
from cgjax._program.jaxprs import bind

_PRODUCTS = (lax.dot_general_p, lax.conv_general_dilated_p)
_CURVED = (*_PRODUCTS, lax.mul_p, lax.square_p, lax.integer_pow_p, lax.exp_p, lax.abs_p)


def of_complex(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Value | list[Value] | None:
    """The results of an operation on complex values, or one that makes them; None without a rule.

    A large product has the moments of its results alone, without what these have in common.
    """
    found = linear(eqn, operands, order)
    if found is not None and not (eqn.primitive in _PRODUCTS and _is_large(found[0])):
        return found
    values = [as_linear(x, order) if is_random(x) else None for x in operands]
    known = [v for v in values if v is not None]
    if eqn.primitive not in _CURVED or len(known) < sum(map(is_random, operands)):
        return None
    if order == 1:
        return linearised(eqn, operands, order)
    if eqn.primitive in _PRODUCTS:
        return contracted(eqn, *map(_in_parts, operands, values))
    if eqn.primitive is lax.mul_p:
        return multiplied(*known)
    if eqn.primitive is lax.exp_p:
        return exponential(_in_parts(*operands, *known))
    if eqn.primitive is lax.abs_p:
        return absolute(_in_parts(*operands, *known))
    return multiplied(*known, *known) if eqn.params.get("y", 2) == 2 else None


def _is_large(value: Value) -> bool:
    return isinstance(value, Linear) and value.evaluations > LARGEST_MAP


def _in_parts(x: Value, of: Linear | None) -> Complex:
    """A value with the moments of its real and its imaginary part."""
    value = jnp.asarray(x) if of is None else of.settled(2)
    if isinstance(value, Complex):
        return value
    if isinstance(value, Gaussian):
        nothing = jnp.zeros_like(value.variance)
        return Complex(value.mean, value.variance, nothing, nothing)
    return Complex.certain(value)


def absolute(value: Complex) -> Gaussian:
    """The moments of the absolute value, by quadrature along the ellipse's axes."""
    points, weights = _hermite(24)
    first = root(value.real)
    along = value.covariance / jnp.where(first > 0, first, 1)
    beside = root(value.imaginary - along**2)
    real, imaginary = jnp.real(value.mean), jnp.imag(value.mean)

    def add(total: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], None]:
        x, y = points[k // 24], points[k % 24]
        square = (real + first * x) ** 2 + (imaginary + along * x + beside * y) ** 2
        weight = weights[k // 24] * weights[k % 24]
        return (total[0] + weight * root(square), total[1] + weight * square), None

    nothing = jnp.zeros_like(real)
    (mean, square), _ = lax.scan(add, (nothing, nothing), jnp.arange(24 * 24))
    return Gaussian(mean, jnp.maximum(square - mean**2, 0))


def exponential(value: Complex) -> Complex:
    """The moments of exp(z), whose square and squared absolute value are such functions too.

    E[exp(z)] = exp(E[z] + s / 2), with s = E[(z - E[z])^2],
    E[(exp(z) - E[exp(z)])^2] = exp(2 E[z] + s) (exp(s) - 1),
    E[|exp(z) - E[exp(z)]|^2] = |exp(2 E[z] + s)| (exp(r) - 1), with r = E[|z - E[z]|^2].
    """
    mean = jnp.exp(value.mean + value.square / 2)
    size = jnp.abs(mean) ** 2 * jnp.expm1(value.size)
    return Complex.of(mean, size, mean**2 * jnp.expm1(value.square))


def multiplied(one: Linear, other: Linear) -> Complex:
    """The moments of the product of two linear maps of Gaussians, such as z and its conjugate.

    By the moments of up to four Gaussian variables, with a = x - E[x], b = y - E[y]:

        E[x y] = E[x] E[y] + E[a b],
        the variance, E[|x y - E[x y]|^2], and E[(x y - E[x y])^2] of E[|a|^2], E[a^2], E[a b], ….
    """
    roots = list({id(r): r for v in (one, other) for r in v.roots}.values())
    place = {id(r): k for k, r in enumerate(roots)}

    def parts(*numbers: Array) -> list[Array]:
        a, b = (v.function(*(numbers[place[id(r)]] for r in v.roots)) for v in (one, other))
        return [a + 0j, b + 0j, a + b, a + 1j * b]

    means, squares = moments(parts, roots, min(one.alike, other.alike))
    m, n = means[0], means[1]
    size = [s.real + s.imaginary for s in squares]  # E[|a|^2]
    square = [lax.complex(s.real - s.imaginary, 2 * s.covariance) for s in squares]  # E[a^2]
    product = (square[2] - square[0] - square[1]) / 2  # E[a b]
    turned = (size[2] - size[0] - size[1]) / 2 + 1j * (size[3] - size[0] - size[1]) / 2
    variance = (
        jnp.abs(m) ** 2 * size[1]
        + jnp.abs(n) ** 2 * size[0]
        + 2 * jnp.real(m * jnp.conj(n) * jnp.conj(turned))
        + size[0] * size[1]
        + jnp.abs(turned) ** 2
    )
    pseudo = m**2 * square[1] + n**2 * square[0] + 2 * m * n * product
    pseudo = pseudo + square[0] * square[1] + product**2
    return Complex.of(m * n + product, variance, pseudo)


def contracted(eqn: JaxprEqn, x: Complex, y: Complex) -> Complex:
    """The moments of a product of matrices or a convolution, of independent elements.

    With a = x - E[x] and b = y - E[y], of each product of two elements

        E[|x y - E[x y]|^2] = |E[x]|^2 E[|b|^2] + E[|a|^2] (|E[y]|^2 + E[|b|^2]),

    and the same of squares in place of squared absolute values.
    """

    def product(*factors: Array) -> Array:
        # Of real numbers, which may meet complex ones, squares are real.
        pairs = [
            (a if jnp.iscomplexobj(v.mean) else a.real, v)
            for a, v in zip(factors, (x, y), strict=True)
        ]
        return bind(eqn, [jnp.asarray(a, v.dtype) for a, v in pairs])[0]

    absolute = [jnp.abs(v.mean) ** 2 for v in (x, y)]
    size = product(absolute[0], y.size) + product(x.size, absolute[1] + y.size)
    square = product(x.mean**2, y.square) + product(x.square, y.mean**2 + y.square)
    return Complex.of(product(x.mean, y.mean), jnp.real(size), square)


def _hermite(number: int) -> tuple[Array, Array]:
    points, weights = np.polynomial.hermite_e.hermegauss(number)
    weights = weights / math.sqrt(2 * math.pi)
    return jnp.asarray(points, jnp.float32), jnp.asarray(weights, jnp.float32)
