"""Element-wise functions with several results, each element of which is computed once on CPUs.

XLA's compiler for CPUs has no loop with several results that shares their intermediate values: it
writes those to memory, and every result reads them again. The one exception is a reduction of
several arrays at once. So two equal rows are reduced, of halves of the results, whose sum is the
result to the last bit. That both rows are equal is hidden from XLA, which would take the reduction
away, and plain to LLVM, which then computes one row only, for several elements at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import eval_jaxpr
from jax.extend.core import Jaxpr, Literal, Primitive
from jax.extend.core.primitives import add_jaxvals_p
from jaxtyping import Array, ArrayLike

from cgjax._gaussian.device import as_elsewhere

# What was measured to be computed once, and for several elements at a time.
_FIT = {
    *(lax.add_p, lax.sub_p, lax.mul_p, lax.div_p, lax.neg_p, lax.integer_pow_p, lax.square_p),
    *(lax.sqrt_p, lax.rsqrt_p, lax.exp_p, lax.log_p, lax.logistic_p, lax.erf_p, lax.abs_p),
    *(lax.sign_p, lax.max_p, lax.min_p, lax.select_n_p, lax.broadcast_in_dim_p),
    *(lax.convert_element_type_p, add_jaxvals_p),
    *(lax.lt_p, lax.le_p, lax.gt_p, lax.ge_p, lax.eq_p, lax.ne_p, lax.and_p, lax.or_p, lax.not_p),
}
# More operations than these take long to compile.
_MOST = 1500


class _DoesNotFitError(Exception):
    """An operation is not known to fit into a loop."""


def in_one_loop(function: Callable[..., Any], *arrays: Array) -> Callable[..., Any] | None:
    """An element-wise function, as one loop of a CPU; it is not differentiated.

    Args:
        function: to a tree of arrays. It depends on nothing but its arguments and fixed numbers.
        arrays: of one shape, such as it will be called with.

    Returns:
        The function; None if it holds an operation that does not fit into a loop.
    """
    shape, size = arrays[0].shape, arrays[0].size
    one = [jax.ShapeDtypeStruct((2, size), array.dtype) for array in arrays]
    with as_elsewhere():  # what is one kernel there is one loop
        program, out = jax.make_jaxpr(function, return_shape=True)(*one)
    if any(a.dtype != jnp.float32 for a in (*one, *jax.tree.leaves(out))):
        return None

    def halves(*rows: Array) -> list[Array]:
        rows = tuple(map(_hidden, rows))
        return [x / 2 for x in _evaluated(program.jaxpr, program.consts, rows)]

    try:
        loop = jax.make_jaxpr(halves)(*one)
    except _DoesNotFitError:
        return None
    if len(loop.eqns) > _MOST:
        return None

    def call(*arrays: Array) -> Any:
        rows = (jnp.broadcast_to(array.reshape(-1), (2, size)) for array in arrays)
        results = eval_jaxpr(loop.jaxpr, loop.consts, *rows)
        zeros = [jnp.zeros((), jnp.float32)] * len(results)
        sums = lax.reduce(results, zeros, _added, (0,))
        return jax.tree.unflatten(jax.tree.structure(out), [x.reshape(shape) for x in sums])

    return call


def _hidden(rows: Array) -> Array:
    """The same, by a condition of which LLVM knows, and XLA does not, that it always holds."""
    holds = lax.broadcasted_iota(jnp.uint32, rows.shape, 0) < 7
    return lax.select(holds, rows, lax.full_like(rows, 1))


def _added(first: list[Array], second: list[Array]) -> list[Array]:
    return [x + y for x, y in zip(first, second, strict=True)]


def _evaluated(jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """A program's results, by what there is in place of some operations."""
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))
    for eqn in jaxpr.eqns:
        values = [x.val if isinstance(x, Literal) else known[x] for x in eqn.invars]
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if inner is not None and eqn.primitive is not lax.scan_p:
            outs = _evaluated(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), values)
        elif eqn.primitive is lax.copy_p:
            outs = values
        elif eqn.primitive in _WRITTEN_OUT:
            outs = [_WRITTEN_OUT[eqn.primitive](*values)]
        elif eqn.primitive in _FIT or eqn.primitive.name == "stop_gradient":
            outs = [eqn.primitive.bind(*values, **eqn.params)]
        else:
            raise _DoesNotFitError
        known.update(zip(eqn.outvars, outs, strict=True))
    return [x.val if isinstance(x, Literal) else known[x] for x in jaxpr.outvars]


# In place of operations that are calls, which are not seen to be equal in both rows, what they
# compute; all keep the digits of small values.


def _quotient(x: ArrayLike, y: ArrayLike) -> Array:
    # XLA writes the result of a costly operation on two arrays to memory if two others need it; and
    # it makes divisions of products with inverses, if it sees them.
    above, below = jnp.asarray(x), jnp.asarray(y)
    return above * _hidden(1 / below) if below.ndim else above / below


# tanh as x P(x^2) / Q(x^2), to 2e-9 of it; constant beyond the last number. Coefficients by
# increasing power here and below, from least squares reweighted towards the least largest error,
# against float64.
_ABOVE = (
    *(0.999999998, 0.13128128, 0.0031536436, 1.16894782e-05),
    *(-2.25252922e-08, 6.48273155e-11, -1.19241685e-13),
)
_BELOW = 1.0, 0.464614597, 0.0246918703, 0.000261932557
_FURTHEST = 7.9


def _tanh(x: Array) -> Array:
    x = jnp.clip(x, -_FURTHEST, _FURTHEST)
    square = x * x
    above, below = (jnp.full_like(x, c[-1]) for c in (_ABOVE, _BELOW))
    for c in _ABOVE[-2::-1]:
        above = above * square + c
    for c in _BELOW[-2::-1]:
        below = below * square + c
    return _quotient(x * above, below)


def _log1p(x: Array) -> Array:
    # What is lost when 1 is added, which counts for small x only; to XLA, x + 1 - 1 is x.
    above = _hidden(1 + x)
    return jnp.log(above) + jnp.where(jnp.abs(x) < 1, x - (above - 1), 0)


# log(erfc(x) exp(x^2) / t) as a polynomial of t = 1 / (1 + x / 2), to 5e-8, for 0 <= x <= 10.
_COMPLEMENT = (
    *(-1.26545276, 0.998720994, 0.385951208, 0.037599487, -0.00676958539),
    *(-0.0664184334, -0.711698156, 1.16749889, -0.685099458, 0.145667855),
)


def _erfc(x: Array) -> Array:
    size = jnp.abs(x)
    share = 1 / (1 + size / 2)
    power = jnp.full_like(x, _COMPLEMENT[-1])
    for c in _COMPLEMENT[-2::-1]:
        power = power * share + c
    beyond = share * jnp.exp(power - size * size)
    return jnp.where(x < 0, 2 - beyond, beyond)


_WRITTEN_OUT: dict[Primitive, Callable[..., Array]] = {
    lax.div_p: _quotient,
    lax.tanh_p: lambda x, **_: _tanh(x),
    lax.log1p_p: lambda x, **_: _log1p(x),
    lax.erfc_p: lambda x, **_: _erfc(x),
}
