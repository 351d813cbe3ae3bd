"""The activations that are recognised, as plain functions: one way of writing each a line.

Whatever makes no difference to a form (constants added or subtracted, multiplied or divided by,
operands that change places, conversions, kept axes) needs no line of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
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


_LOGISTIC: tuple[Callable[[Array], Array], ...] = (
    jax.nn.sigmoid,
    lambda x: 1 / (1 + jnp.exp(-x)),
    lambda x: jnp.exp(x) / (1 + jnp.exp(x)),
    lambda x: 0.5 * (jnp.tanh(0.5 * x) + 1),
    lambda x: jnp.exp(-jax.nn.softplus(-x)),
    lambda x: jnp.exp(-jnp.log1p(jnp.exp(-x))),
)
_CUBES: tuple[Callable[[Array], Array], ...] = (
    lambda x: x**3,
    lambda x: x * x * x,
    lambda x: jnp.power(x, 3.0),
)
_ROOT = math.sqrt(2 / math.pi)
# What the approximate GELU takes the tanh of.
_CUBIC: tuple[Callable[[Array], Array], ...] = (
    *(lambda x, c=c: _ROOT * (x + 0.044715 * c(x)) for c in _CUBES),
    lambda x: _ROOT * (x + 0.044715 * x * x * x),
    lambda x: _ROOT * x * (1 + 0.044715 * x * x),
    lambda x: x * (_ROOT * (1 + 0.044715 * x * x)),
    lambda x: _ROOT * (x * (1 + 0.044715 * x * x)),
    lambda x: x * (_ROOT + 0.044715 * _ROOT * x * x),
)


def _gated(gates: Iterable[Callable[[Array], Array]]) -> Iterator[Callable[[Array], Array]]:
    """The ways to write half of x times one of some functions."""
    for gate in gates:
        yield lambda x, g=gate: 0.5 * x * g(x)
        yield lambda x, g=gate: x * (0.5 * g(x))
        yield lambda x, g=gate: 0.5 * (x * g(x))


def _below(negative: Function) -> tuple[Function, ...]:
    """The ways to have x above 0 and a function, whose value at 0 is 0, below."""
    return (
        lambda x, *s: jnp.where(x > 0, x, negative(jnp.where(x > 0, 0.0, x), *s)),
        lambda x, *s: jnp.maximum(x, 0) + negative(jnp.minimum(x, 0), *s),
        lambda x, *s: jax.nn.relu(x) - (-1) * negative(-jax.nn.relu(-x), *s),
        *_either(lambda x, *s: x, negative),
    )


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


_ELEMENTWISE: dict[str, tuple[Callable[[Array], Array], ...]] = {
    "softplus": (
        jax.nn.softplus,
        lambda x: jnp.logaddexp(0, x),
        lambda x: jnp.log1p(jnp.exp(x)),
        lambda x: jnp.log(1 + jnp.exp(x)),
        lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))),
        lambda x: jnp.maximum(x, 0) + jnp.log(1 + jnp.exp(-jnp.abs(x))),
    ),
    "logistic": _LOGISTIC,
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
    "gelu": (
        *_gated(lambda x, u=u: 1 + jnp.tanh(u(x)) for u in _CUBIC),
        *(lambda x, u=u: x * jax.nn.sigmoid(2 * u(x)) for u in _CUBIC),
    ),
    "exact gelu": (
        *_gated((lambda x: lax.erfc(-x * 0.5**0.5), lambda x: 1 + lax.erf(x * 0.5**0.5))),
        lambda x: x * jax.scipy.special.ndtr(x),
    ),
    "silu": (
        *(lambda x, g=g: x * g(x) for g in _LOGISTIC),
        lambda x: x / (1 + jnp.exp(-x)),
    ),
    "mish": (
        jax.nn.mish,
        lambda x: x * jnp.tanh(jnp.log1p(jnp.exp(x))),
        lambda x: x * jnp.tanh(jnp.log(1 + jnp.exp(x))),
    ),
    "hard_silu": (
        jax.nn.hard_silu,
        lambda x: x * jnp.clip(x + 3, 0, 6) / 6,
        lambda x: x * (jnp.clip(x + 3, 0, 6) / 6),
        lambda x: x * jnp.clip(x / 6 + 0.5, 0, 1),
    ),
    "hard_sigmoid": (
        jax.nn.hard_sigmoid,
        lambda x: jnp.clip(x + 3, 0, 6) / 6,
        lambda x: jnp.clip(x / 6 + 0.5, 0, 1),
    ),
    "relu6": (
        jax.nn.relu6,
        lambda x: jnp.maximum(jnp.minimum(x, 6), 0),
        lambda x: jnp.clip(x, 0, 6),
    ),
    "hard_tanh": (
        jax.nn.hard_tanh,
        lambda x: jnp.clip(x, -1, 1),
        lambda x: jnp.minimum(jnp.maximum(x, -1), 1),
        lambda x: jnp.maximum(jnp.minimum(x, 1), -1),
    ),
    "sparse_sigmoid": (jax.nn.sparse_sigmoid,),
    "sparse_plus": (jax.nn.sparse_plus,),
    "soft_sign": (jax.nn.soft_sign,),
    "arctan": (jnp.arctan,),
    "sine": (jnp.sin,),
    "selu": tuple(
        lambda x, f=f: _SELU_SCALE * f(x)
        for exp1 in (jnp.expm1, lambda x: jnp.exp(x) - 1)
        for f in _below(lambda x, e=exp1: _SELU_ALPHA * e(x))
    ),
}
# Of x and a number, which `Candidate.slope` is.
PARAMETRIC: dict[str, tuple[Callable[[Array, ArrayLike], Array], ...]] = {
    "leaky_relu": (
        *_either(lambda x, s: x, lambda x, s: s * x),
        *(lambda x, s, c=c: x * jnp.where(c(x), 1, s) for c in _ABOVE),
        *(lambda x, s, c=c: x * jnp.where(c(x), s, 1) for c in _BELOW),
        lambda x, s: jnp.maximum(x, s * x),
        lambda x, s: jnp.maximum(x, 0) + s * jnp.minimum(x, 0),
        lambda x, s: jax.nn.relu(x) - s * jax.nn.relu(-x),
    ),
    "elu": (
        *_below(lambda x, s: s * jnp.expm1(x)),
        *_below(lambda x, s: s * (jnp.exp(x) - 1)),
    ),
    "celu": _below(lambda x, s: s * jnp.expm1(x / s)),
    "swish": tuple(lambda x, s, g=g: x * g(jnp.asarray(s) * x) for g in _LOGISTIC),
}


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

# From large to small: a gelu holds a tanh, softplus a relu, and one form of the logistic a tanh.
FUNCTIONS = (
    *("softmax", "gelu", "exact gelu", "mish", "hard_silu", "silu", "swish"),
    *("selu", "elu", "celu", "softplus", "hard_sigmoid", "sparse_sigmoid", "sparse_plus"),
    *("logistic", "relu6", "hard_tanh", "soft_sign", "leaky_relu", "relu", "tanh"),
    *("arctan", "sine"),
)


class Template(NamedTuple):
    """A way of writing an activation.

    Attributes:
        function: one of `FUNCTIONS`.
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
    if function in PARAMETRIC:
        return 2 * len(PARAMETRIC[function])  # slopes that are constants, and that are values
    return len(_SOFTMAX) + 1 if function == "softmax" else len(_ELEMENTWISE[function])


def _function(template: Template, axis: int) -> tuple[Function, tuple[str, ...]]:
    """A template's function, and what its arguments are."""
    name, number = template
    if name in PARAMETRIC:
        way = PARAMETRIC[name][number // 2]
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
