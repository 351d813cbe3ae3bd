"""Moments of functions of complex values that are no linear maps: absolute values, products."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from cgjax._beliefs.linear import Array, Complex, as_linear, moments
from cgjax._beliefs.values import Gaussian, Value
from cgjax._gaussian.numerics import root


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
    (mean, square), _ = jax.lax.scan(add, (nothing, nothing), jnp.arange(24 * 24))
    return Gaussian(mean, jnp.maximum(square - mean**2, 0))


def multiplied(x: Value, y: Value) -> Complex | None:
    """The moments of the product of two linear maps of one Gaussian, such as z and its conjugate.

    By the moments of up to four Gaussian variables, with a = x - E[x], b = y - E[y]:

        E[x y] = E[x] E[y] + E[a b],
        the variance, E[|x y - E[x y]|^2], and E[(x y - E[x y])^2] of E[|a|^2], E[a^2], E[a b], ….
    """
    one, other = as_linear(x), as_linear(y)
    if one is None or other is None or one.shape != other.shape:
        return None
    roots = list({id(r): r for v in (one, other) for r in v.roots}.values())
    place = {id(r): k for k, r in enumerate(roots)}

    def parts(*numbers: Array) -> list[Array]:
        a, b = (v.function(*(numbers[place[id(r)]] for r in v.roots)) for v in (one, other))
        return [a + 0j, b + 0j, a + b, a + 1j * b]

    means, squares = moments(parts, roots, one.rows and other.rows)
    m, n = means[0], means[1]
    size = [s.real + s.imaginary for s in squares]  # E[|a|^2]
    square = [jax.lax.complex(s.real - s.imaginary, 2 * s.covariance) for s in squares]  # E[a^2]
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
    real, imaginary = (variance + jnp.real(pseudo)) / 2, (variance - jnp.real(pseudo)) / 2
    return Complex(m * n + product, real, jnp.maximum(imaginary, 0), jnp.imag(pseudo) / 2)


def _hermite(number: int) -> tuple[Array, Array]:
    points, weights = np.polynomial.hermite_e.hermegauss(number)
    weights = weights / math.sqrt(2 * math.pi)
    return jnp.asarray(points, jnp.float32), jnp.asarray(weights, jnp.float32)
