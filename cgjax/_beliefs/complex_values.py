"""Products, quotients and exponentials of complex values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs.complex_functions import OfComplex, composed, quotient
from cgjax._beliefs.linear import linear, linearised
from cgjax._beliefs.maps import LARGEST_MAP, Array, Complex, Linear, as_linear, moments
from cgjax._beliefs.values import Gaussian, Value, is_random
from cgjax._program.jaxprs import bind

Pair = tuple[Array, Array]
_PRODUCTS = (lax.dot_general_p, lax.conv_general_dilated_p)
_CURVED = (*_PRODUCTS, lax.mul_p, lax.div_p, lax.square_p, lax.integer_pow_p, lax.exp_p)


def of_complex(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Value | list[Value] | None:
    """The results of an operation on complex values, or one that makes them; None without a rule.

    A large product has the moments of its results alone, without what these have in common.
    """
    found = linear(eqn, operands, order)
    if found is not None and not (eqn.primitive in _PRODUCTS and _is_large(found[0])):
        return _followed(eqn, operands, found)
    function = composed(eqn, operands)
    if function is not None:
        bent = order == 1 or any(isinstance(x, OfComplex) for x in operands)
        return function if bent else replace(function, known=_moments(eqn, operands, order))
    return linearised(eqn, operands, 1) if order == 1 else _moments(eqn, operands, order)


def _moments(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Complex | None:
    """The moments of products, quotients and exponentials of linear maps; None of all else."""
    values = [as_linear(x, order) if is_random(x) else None for x in operands]
    known = [v for v in values if v is not None]
    if eqn.primitive not in _CURVED or len(known) < sum(map(is_random, operands)):
        return None
    if eqn.primitive in _PRODUCTS:
        return contracted(eqn, *map(_in_parts, operands, values))
    if eqn.primitive is lax.mul_p:
        return multiplied(*known)
    if eqn.primitive is lax.div_p:
        return divided(*operands, *values)
    if eqn.primitive is lax.exp_p:
        return exponential(_in_parts(*operands, *known))
    return multiplied(*known, *known) if eqn.params.get("y", 2) == 2 else None


def _followed(eqn: JaxprEqn, operands: Sequence[Value], found: list[Value]) -> list[Value]:
    """A linear map that is an element-wise function of another, as which it is known then."""
    function = composed(eqn, operands)
    if function is None:
        return found
    if any(isinstance(x, OfComplex) for x in operands):
        return [replace(function, known=found[0])]
    if not isinstance(found[0], Linear):
        return found
    return [replace(found[0], made_of=(function.base, function.function))]


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


def divided(x: Value, y: Value, of_x: Linear | None, of_y: Linear | None) -> Complex:
    """The moments of a quotient, of which the divisor is uncertain."""
    above, below = _in_parts(x, of_x), _in_parts(y, of_y)
    if of_x is None or of_y is None:
        nothing = jnp.zeros_like(above.mean * below.mean)
        return quotient(above, below, nothing, nothing)
    return quotient(above, below, *_joint(of_x, of_y)[3:])


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
    (m, n), size, square, product, turned = _joint(one, other)
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


def _joint(one: Linear, other: Linear) -> tuple[Pair, Pair, Pair, Array, Array]:
    """The means, E[|a|^2] and E[a^2] of two linear maps, and their E[a b] and E[a b*]."""
    roots = list({id(r): r for v in (one, other) for r in v.roots}.values())
    place = {id(r): k for k, r in enumerate(roots)}

    def parts(*numbers: Array) -> list[Array]:
        a, b = (v.function(*(numbers[place[id(r)]] for r in v.roots)) for v in (one, other))
        return [a + 0j, b + 0j, a + b, a + 1j * b]

    means, squares = moments(parts, roots, min(one.alike, other.alike))
    size = [s.real + s.imaginary for s in squares]
    square = [lax.complex(s.real - s.imaginary, 2 * s.covariance) for s in squares]
    product = (square[2] - square[0] - square[1]) / 2
    turned = (size[2] - size[0] - size[1]) / 2 + 1j * (size[3] - size[0] - size[1]) / 2
    return (means[0], means[1]), (size[0], size[1]), (square[0], square[1]), product, turned


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
