"""Networks with nodes in every kind of control flow; each maps (4,) to (4,)."""

import jax
import jax.numpy as jnp
from jax import lax

from tests.helpers import (
    spin,
)

KEY = jax.random.key(7)
X = jnp.linspace(-1.0, 1.0, 4)


def scanned(x):
    return lax.scan(lambda c, s: (spin(c + s, "h"), c), x, jnp.ones((5, 4)))[0]


def reverse_scanned(x):
    return lax.scan(lambda c, s: (spin(c + s, "h"), c), x, jnp.ones((5, 4)), reverse=True)[0]


def nested_scans(x):
    def outer(c, _):
        c = lax.scan(lambda c, _: (spin(c, "inner"), None), c, None, length=2)[0]
        return spin(c * 2, "outer"), None

    return lax.scan(outer, x, None, length=3)[0]


def while_loop(x):
    def body(c):
        return c[0] + 1, spin(c[1], "h")

    return lax.while_loop(lambda c: c[0] < 4, body, (0, x))[1]


def while_with_random_condition(x):
    def cond(c):
        return (c[0] < 3) | (spin(c[1], "stop").sum() > 100)

    return lax.while_loop(cond, lambda c: (c[0] + 1, spin(c[1], "h")), (0, x))[1]


def while_in_scan(x):
    return lax.scan(lambda c, _: (while_loop(c), None), x, None, length=2)[0]


def scan_in_while(x):
    return lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, scanned(c[1])), (0, x))[1]


def fori_loop(x):
    return lax.fori_loop(0, 4, lambda i, c: spin(c + i, "h"), x)


def fori_loop_of_unknown_length(x):
    stop = 4 + 0 * x[0].astype(jnp.int32)
    return lax.fori_loop(0, stop, lambda i, c: spin(c, "h"), x)


def conditional(x):
    x = lax.cond(x.sum() < 1, lambda x: spin(x, "yes"), lambda x: spin(2 * x, "no"), x)
    branches = [lambda x, k=k: spin(x + k, f"branch{k}") for k in range(3)]
    return lax.switch(1, branches, x)


def same_function_in_both_branches(x):
    f = lambda x: spin(x, "h")  # noqa: E731
    return lax.cond(x[0] > 0, f, f, x)


def jitted(x):
    f = jax.jit(lambda x: spin(x, "h"))
    return f(f(x) * 2)


def rematerialised(x):
    f = jax.checkpoint(lambda x: spin(spin(x, "a") * 2, "b"))
    return f(f(x))


def remat_in_scan(x):
    f = jax.checkpoint(lambda c, _: (spin(spin(c, "a") * 2, "b"), None))
    return lax.scan(f, x, None, length=3)[0]


def mapped(x):
    return jax.vmap(lambda x: spin(x[None], "h")[0])(x)


def mapped_while(x):
    """Rows that stop after 1, 2, 3 and 4 steps."""

    def one(x, limit):
        def body(c):
            return c[0] + 1, spin(c[1], "h")

        return lax.while_loop(lambda c: c[0] < limit, body, (0, x[None]))[1][0]

    return jax.vmap(one)(x, jnp.arange(1, 5))


def mapped_cond(x):
    f = lambda x: lax.cond(x > 0, lambda x: spin(x, "yes"), lambda x: spin(x, "no"), x)  # noqa: E731
    return jax.vmap(f)(x)


def mapped_scan(x):
    f = lambda x: lax.scan(lambda c, _: (spin(c, "h"), None), x, None, length=3)[0]  # noqa: E731
    return jax.vmap(f)(x)


def lax_map(x):
    return lax.map(lambda x: spin(x, "h"), x)


def with_custom_jvp(x):
    @jax.custom_jvp
    def f(x):
        return spin(spin(x, "a") * 2, "b")

    f.defjvp(lambda p, t: (f(*p), t[0]))
    return f(x)


def with_custom_vjp(x):
    @jax.custom_vjp
    def f(x):
        return spin(x, "a")

    f.defvjp(lambda x: (f(x), None), lambda _, g: (g,))
    return f(f(x))


def three_of_a_shape(x):
    return sum(spin(x * k, f"h{k}") for k in range(4))


def grouped_around_loops(x):
    """Small nodes of equal shape inside and outside a loop, a branch and a remat."""
    x = spin(spin(spin(x, "a"), "b"), "c")
    x = spin(conditional(scanned(x)), "d")
    return spin(rematerialised(x), "e") * x


# The network, and how many draws one run of `forward_sample` makes, by hand.
NETWORKS = {
    scanned: 5,
    reverse_scanned: 5,
    nested_scans: 3 * (2 + 1),
    while_loop: 4,
    while_with_random_condition: 3 + 4,
    while_in_scan: 8,
    scan_in_while: 10,
    fori_loop: 4,
    fori_loop_of_unknown_length: 4,
    # Words of five small nodes of one shape are made together, outside the branches.
    conditional: 5,
    same_function_in_both_branches: 1,
    jitted: 2,
    rematerialised: 4,
    remat_in_scan: 6,
    mapped: 1,
    mapped_while: 4,
    mapped_cond: 2,
    mapped_scan: 3,
    lax_map: 4,
    with_custom_jvp: 2,
    with_custom_vjp: 2,
    three_of_a_shape: 4,
    grouped_around_loops: 5 + 5 + 5 + 4,
}
CUSTOM = (with_custom_jvp, with_custom_vjp)
