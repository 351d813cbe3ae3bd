"""The activations that are recognised, as plain functions: one way of writing each a line.

Whatever makes no difference to a form (constants added or subtracted, multiplied or divided by,
operands that change places, conversions, kept axes) needs no line of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from cgjax._cache import recent
from cgjax._lift.forms import Form, Forms
from cgjax._program.operations import Flat
from cgjax._static import Function

_ABOVE: tuple[Callable[[Array], Array], ...] = (lambda x: x > 0, lambda x: x >= 0)
_BELOW: tuple[Callable[[Array], Array], ...] = (lambda x: x < 0, lambda x: x <= 0)


def _either(above: Function, below: Function) -> tuple[Function, ...]:
    """The ways to choose between two functions by the sign of x."""
    return (
        *(lambda x, *s, c=c: jnp.where(c(x), above(x, *s), below(x, *s)) for c in _ABOVE),
        *(lambda x, *s, c=c: jnp.where(c(x), below(x, *s), above(x, *s)) for c in _BELOW),
        *(lambda x, *s, c=c: jnp.select([c(x)], [above(x, *s)], below(x, *s)) for c in _ABOVE),
        *(lambda x, *s, c=c: jnp.select([c(x)], [below(x, *s)], above(x, *s)) for c in _BELOW),
        *(
            lambda x, *s, c=c, d=d: jnp.select([c(x), d(x)], [above(x, *s), below(x, *s)])
            for c in _ABOVE
            for d in _BELOW
        ),
        *(
            lambda x, *s, c=c, d=d: jnp.select([d(x), c(x)], [below(x, *s), above(x, *s)])
            for c in _ABOVE
            for d in _BELOW
        ),
    )


_ELEMENTWISE: dict[str, tuple[Callable[[Array], Array], ...]] = {
    "softplus": (
        jax.nn.softplus,
        lambda x: jnp.logaddexp(0, x),
        lambda x: jnp.log1p(jnp.exp(x)),
        lambda x: jnp.log(1 + jnp.exp(x)),
        lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))),
        lambda x: jnp.maximum(x, 0) + jnp.log(1 + jnp.exp(-jnp.abs(x))),
    ),
    "logistic": (
        jax.nn.sigmoid,
        lambda x: 1 / (1 + jnp.exp(-x)),
        lambda x: jnp.exp(x) / (1 + jnp.exp(x)),
        lambda x: 0.5 * (jnp.tanh(0.5 * x) + 1),
        lambda x: jnp.exp(-jax.nn.softplus(-x)),
        lambda x: jnp.exp(-jnp.log1p(jnp.exp(-x))),
    ),
    "tanh": (
        jnp.tanh,
        lambda x: jnp.sinh(x) / jnp.cosh(x),
        lambda x: (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-x)),
        lambda x: (1 - jnp.exp(-2 * x)) / (1 + jnp.exp(-2 * x)),
        lambda x: (jnp.exp(2 * x) - 1) / (jnp.exp(2 * x) + 1),
    ),
    "relu": (
        jax.nn.relu,
        lambda x: -jnp.minimum(-x, 0),
        *_either(lambda x: x, jnp.zeros_like),
        *(lambda x, c=c: x * c(x) for c in _ABOVE),
        *(lambda x, a=a: x * jnp.heaviside(x, a) for a in (0.0, 0.5, 1.0)),
        lambda x: 0.5 * (x + jnp.abs(x)),
        lambda x: 0.5 * x + 0.5 * jnp.abs(x),
    ),
}
# Of x and the slope.
_LEAKY: tuple[Callable[[Array, ArrayLike], Array], ...] = (
    *_either(lambda x, s: x, lambda x, s: s * x),
    *(lambda x, s, c=c: x * jnp.where(c(x), 1, s) for c in _ABOVE),
    *(lambda x, s, c=c: x * jnp.where(c(x), s, 1) for c in _BELOW),
    lambda x, s: jnp.maximum(x, s * x),
    lambda x, s: jnp.maximum(x, 0) + s * jnp.minimum(x, 0),
    lambda x, s: jax.nn.relu(x) - s * jax.nn.relu(-x),
)


def _shifted(x: Array, c: Array, k: int) -> Array:
    return x - jnp.expand_dims(c, k)


def _divided(e: Array, k: int) -> Array:
    return e / e.sum(k, keepdims=True)


def _log_sum(x: Array, k: int) -> Array:
    return jnp.log(jnp.exp(x).sum(k, keepdims=True))


def _masked(x: Array, c: Array, m: Array, k: int) -> tuple[Array, Array]:
    x = jnp.where(m, x, -jnp.inf)
    e = jnp.exp(_shifted(x, c, k))
    return e / jnp.where(m, e, 0).sum(k, keepdims=True), x


# Of x, a value c that is the same for all classes (such as the largest x), and the class axis.
_SOFTMAX: tuple[Callable[[Array, Array, int], Array], ...] = (
    lambda x, c, k: jax.nn.softmax(x, k),
    lambda x, c, k: _divided(jnp.exp(_shifted(x, c, k)), k),
    lambda x, c, k: _divided(jnp.exp(x), k),
    lambda x, c, k: jnp.exp(_shifted(x, c, k)) * (1 / _sum(x, c, k)),
    lambda x, c, k: jnp.exp(x) * (1 / jnp.exp(x).sum(k, keepdims=True)),
    # Through the logarithm, as `log_softmax` and `logsumexp` have it.
    lambda x, c, k: jnp.exp(jax.nn.log_softmax(x, k)),
    lambda x, c, k: jnp.exp(_shifted(x, c, k) - _log_sum(_shifted(x, c, k), k)),
    lambda x, c, k: jnp.exp(x - _log_sum(x, k)),
    lambda x, c, k: jnp.exp(x - (jnp.log(_sum(x, c, k)) + jnp.expand_dims(c, k))),
    lambda x, c, k: jnp.exp(x - (jnp.log(jnp.abs(_sum(x, c, k))) + jnp.expand_dims(c, k))),
)


def _sum(x: Array, c: Array, k: int) -> Array:
    return jnp.exp(_shifted(x, c, k)).sum(k, keepdims=True)


# A slope that is a constant is traced as this one, and recognised in the form.
SLOPE = 0.3712849

# From large to small: softplus holds a relu, and one form of the logistic a tanh.
FUNCTIONS = ("softmax", "softplus", "logistic", "leaky_relu", "relu", "tanh")


class Template(NamedTuple):
    """A way of writing an activation.

    Attributes:
        function: "relu", "leaky_relu", "tanh", "logistic", "softplus" or "softmax".
        number: its number among the function's ways.
    """

    function: str
    number: int


class Pattern(NamedTuple):
    """A template at some shape.

    Attributes:
        forms: the forms of its values.
        result: the form of the activation.
        e: the form of the natural parameter.
        variables: the cores that stand for any value: "x", "slope" (a number), "shift" (any value
            that is the same for all classes) and "mask".
    """

    forms: Forms
    result: Form
    e: Form
    variables: dict[int, str]


def _ways(function: str) -> int:
    if function == "leaky_relu":
        return 2 * len(_LEAKY)  # slopes that are constants, and that are values
    return len(_SOFTMAX) + 1 if function == "softmax" else len(_ELEMENTWISE[function])


def _function(template: Template, axis: int) -> tuple[Function, tuple[str, ...]]:
    """A template's function, and what its arguments are."""
    name, number = template
    if name == "leaky_relu":
        way = _LEAKY[number // 2]
        return (way, ("x", "slope")) if number % 2 else (lambda x: way(x, SLOPE), ("x",))
    if name == "softmax" and number == len(_SOFTMAX):
        return partial(_masked, k=axis), ("x", "shift", "mask")
    if name == "softmax":
        softmax = _SOFTMAX[number]
        return (lambda x, c: softmax(x, c, axis)), ("x", "shift")
    return _ELEMENTWISE[name][number], ("x",)


@recent(4096)
def pattern(template: Template, shape: tuple[int, ...], axis: int) -> Pattern:
    """A template, traced at a shape like a value's, with a class axis where it has one."""
    function, kinds = _function(template, axis)
    shapes = {"x": shape, "mask": shape, "slope": (), "shift": shape[:axis] + shape[axis + 1 :]}
    arguments = [
        jax.ShapeDtypeStruct(shapes[kind], bool if kind == "mask" else jnp.float32)
        for kind in kinds
    ]

    def traced(*arguments: Array) -> tuple[Array, Array]:
        out = function(*arguments)
        return out if isinstance(out, tuple) else (out, arguments[0])

    forms = Forms(Flat(jax.make_jaxpr(traced)(*arguments)))
    result, e = (forms.of[v] for v in forms.flat.results)
    variables = {}
    for kind, value in zip(kinds, forms.flat.arguments, strict=True):
        core = forms.of[value].core
        assert core is not None
        variables[core] = kind
    return Pattern(forms, result, e, variables)


@recent(1)
def roots() -> dict[str, list[Template]]:
    """For each primitive the templates whose last operation it is, larger functions first."""
    found: dict[str, list[Template]] = {}
    for function in FUNCTIONS:
        for number in range(_ways(function)):
            template = Template(function, number)
            forms, result, _, _ = pattern(template, (2,), 0)
            assert result.core is not None
            found.setdefault(forms.cores[result.core].name, []).append(template)
    return found
