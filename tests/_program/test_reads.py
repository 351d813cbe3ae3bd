"""Which elements a value is a function of, against derivatives that are not zero."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax._program import trace
from cgjax._program.inline import inlined
from cgjax._program.jaxprs import aval, open_jaxpr
from cgjax._program.reads import positions, reads

KERNEL = jnp.array([1.0, 2.0, 3.0])

FUNCTIONS = {
    "slices": lambda h: (h[2:4], h[-1], h[::2], h[3]),
    "moves": lambda h: (h[::-1], jnp.roll(h, 2), h.reshape(2, 3).T, jnp.pad(h, (1, 2))),
    "rows": lambda h: (jnp.stack([h, 2 * h]), jnp.concatenate([h[3:], h]), h[:, None] * h[None]),
    "sums": lambda h: (h.reshape(2, 3).sum(0), jnp.cumsum(h), h.reshape(2, 3).max(1)),
    "windows": lambda h: (jnp.convolve(h, KERNEL, "same"), jnp.convolve(h, KERNEL, "valid")),
    "products": lambda h: (h.reshape(3, 2) @ jnp.ones((2, 4)), jnp.ones((2, 6)) @ h),
    "batches": lambda h: jax.vmap(lambda a, b: a * b.sum())(h.reshape(2, 3), h.reshape(2, 3)),
    "places": lambda h: (jnp.take(h, 4), h.at[2].set(0.0), h.at[1:3].add(h[4:])),
    "functions": lambda h: (jax.nn.relu(h + 2), jax.nn.silu(h), jnp.where(h > 0, h, h[::-1])),
    "two dimensions": lambda h: jax.lax.reduce_window(
        h.reshape(2, 3), 0.0, jax.lax.add, (1, 2), (1, 1), "VALID"
    ),
}


def bits_of(function):
    def net(x):
        return function(cg.node(cg.nodes.Spin(), x, name="h"))

    program = trace(net, (jnp.zeros(6),))
    jaxpr = inlined(program.jaxpr, program.counts)
    program = type(program)(
        jaxpr, program.out_tree, program.in_structure, program.sites, program.counts
    )
    found = reads(program, {0: np.array([1 << k for k in range(6)], object)})
    return [(found.of(v), aval(v).shape) for v in open_jaxpr(jaxpr).outvars]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elements_are_followed_exactly(name):
    function = FUNCTIONS[name]
    found = bits_of(function)
    at = jnp.asarray(np.random.default_rng(0).normal(size=6), jnp.float32)
    slopes = [jax.jacobian(lambda h: jax.tree.leaves(function(h)))(x) for x in (at, -at)]
    for k, (bits, shape) in enumerate(found):
        each: Any = np.broadcast_to(np.asarray(bits, object), shape)
        nonzero = np.logical_or(*(np.asarray(s[k]) != 0 for s in slopes))
        for place in np.ndindex(*shape):
            if name in ("functions", "sums"):  # what is decided on elements has no derivative
                assert set(np.flatnonzero(nonzero[place])) <= set(positions(each[place]))
                assert len(list(positions(each[place]))) < 6 or name == "sums"
            else:
                assert set(positions(each[place])) == set(np.flatnonzero(nonzero[place]))


def test_what_is_not_followed_depends_on_everything():
    for bits, shape in bits_of(lambda h: (jnp.sort(h), jnp.fft.rfft(h).real)):
        for found in np.broadcast_to(np.asarray(bits, object), shape).reshape(-1):
            assert list(positions(found)) == list(range(6))
