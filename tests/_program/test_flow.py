"""Parents, outputs and the flat list of operations, past what changes no value."""

from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax._program import parents, trace
from cgjax._program.control import Call, Cond, Scan, While, control
from cgjax._program.jaxprs import aval
from cgjax._program.operations import Flat

X = np.zeros(3, np.float32)
SPIN = cg.nodes.Spin()


def spin(x, name):
    return cg.node(SPIN, x, name=name)


def parents_of_results(net, *args):
    program = trace(net, args)
    return [
        sorted(program.sites[i].name for i, _ in tags if i >= 0) for tags in parents(program)[1]
    ]


@pytest.mark.parametrize("pair", [lax.optimization_barrier, jax.device_put])
def test_arrays_that_are_moved_together_keep_their_own_parents(pair):
    def net(x):
        return pair((spin(x, "a"), spin(2 * x, "b"), x))

    assert parents_of_results(net, X) == [["a"], ["b"], []]


def test_parents_through_calls_loops_and_branches():
    def net(x):
        a, b = spin(x, "a"), spin(-x, "b")
        through_call = jax.jit(lambda a: 2 * a)(a)
        through_remat = jax.checkpoint(lambda a, b: (b, a))(a, b)[0]
        through_scan = lax.scan(lambda c, x: (c + x, c), a, jnp.stack([b, b]))
        chosen = lax.cond(a[0] > 0, lambda b: b, lambda b: -b, b)
        stopped = lax.while_loop(lambda c: c.sum() + a[0] < 3, lambda c: c + 1, b)
        kept = lax.scan(lambda c, _: ((c[1], c[1]), None), (a, b), length=2)[0]
        never = lax.scan(lambda c, _: (c + b, None), a, length=0)[0]
        return through_call, through_remat, through_scan[1], chosen, stopped, kept, never

    assert parents_of_results(net, X) == [
        ["a"], ["b"], ["a", "b"], ["a", "b"], ["a", "b"], ["b"], ["b"], ["a"],
    ]  # fmt: skip


Readout = namedtuple("Readout", "function output")


@pytest.mark.parametrize(
    "readout",
    [
        Readout(lambda h: (jax.debug.callback(lambda h: None, h), h)[1], True),
        Readout(lambda h: lax.optimization_barrier((h, jnp.ones(2)))[0], True),
        Readout(lambda h: jax.device_put((h, 1.0)), True),
        Readout(lambda h: h.astype(jnp.int32), True),
        Readout(lambda h: h.astype(jnp.bfloat16), True),
        Readout(lambda h: jnp.where(jnp.arange(3) > 0, h, 0), True),
        Readout(lambda h: jnp.zeros(9).at[2:5].set(h), True),
        Readout(lambda h: lax.scan(lambda _, x: (0, x), 0, h)[1], True),
        Readout(lambda h: h + lax.fori_loop(0, 3, lambda i, c: 2 * c, jnp.float32(1)), True),
        Readout(lambda h: h * lax.scan(lambda c, x: (c + x, c), h[0], h)[1], False),
        Readout(lambda h: h @ jnp.ones((3, 2)), False),
        Readout(jnp.tanh, False),
        Readout(lambda h: (h, h.sum()), False),
        Readout(lambda h: jnp.arange(3.0)[h.astype(jnp.int32)], False),
    ],
)
def test_outputs(readout):
    (site,) = trace(lambda x: readout.function(spin(x, "h")), (X,)).sites
    assert site.output == readout.output


# -- the list of operations


def flat(function, *args):
    return Flat(jax.make_jaxpr(function)(*args))


def printing(x):
    jax.debug.print("{}", x)
    jax.debug.callback(lambda x: None, x)
    lax.fori_loop(0, 3, lambda i, _: jax.debug.print("{}", i), None)
    return jnp.tanh(x)


def test_every_operation_in_the_list_has_a_result():
    found = flat(lambda x: jax.jit(printing)(x) + lax.map(printing, x), X)
    assert {"tanh", "add"} <= {op.name for op in found.operations}
    assert all(op.outputs for op in found.operations)
    (value,) = found.arguments
    # Printing uses nothing: only the function itself, and the loop, do.
    assert sorted(op.name for op, _ in found.consumers[value]) == ["<step>", "tanh"]


def test_networks_that_print_are_lifted():
    def net(x):
        h = printing(x @ jnp.ones((3, 2)))
        return h @ jnp.ones(2)

    assert "lifted   tanh" in str(cg.lift(net).report(jnp.asarray(X)))


def test_constants_are_followed_through_what_moves_them():
    def function(x):
        half = jnp.full((2, 3), 0.5)
        moved = lax.optimization_barrier((x, half[:, ::-1].T.reshape(-1)))[1]
        rounded = lax.convert_element_type(jnp.full(3, 1.5), jnp.int32)
        padded = lax.pad(half, np.float32(1), ((0, 1, 0), (0, 0, 0)))
        kept = lax.stop_gradient(half.astype(jnp.float16))
        return moved, rounded, padded, kept

    found = flat(function, X)
    assert [found.constants.get(v) for v in found.results] == [0.5, None, None, 0.5]


# -- control flow as records


def records(function, *args):
    closed = jax.make_jaxpr(function)(*args)
    made = [control(eqn, [v.aval.shape for v in eqn.invars]) for eqn in closed.jaxpr.eqns]
    return [record for record in made if record is not None]


def test_calls_and_loops_as_records():
    def function(x, w):
        step = jax.jit(lambda x: jnp.tanh(x))
        y, rows = lax.scan(lambda c, r: (c + r @ w, c[0]), x, w, reverse=True)
        z = lax.while_loop(lambda c: c[0] < 3, lambda c: c + w[0], y)
        return lax.cond(x[0] > 0, step, lambda z: z, jax.nn.relu(step(z))), rows

    scan, loop, call, custom, cond = records(function, X, np.zeros((3, 3), np.float32))
    assert isinstance(scan, Scan) and isinstance(loop, While) and isinstance(cond, Cond)
    assert isinstance(call, Call) and isinstance(custom, Call)
    assert (scan.consts, scan.carry, scan.xs) == ([(3, 3)], [(3,)], [(3, 3)])
    assert (scan.length, scan.reverse) == (3, True)
    assert scan.split(["carry", "rows"]) == (["carry"], ["rows"])
    assert [aval(v).shape for v in scan.row_variables] == [(3,)]
    assert (loop.cond_consts, loop.carry) == ([], [(3,)])
    assert [call.kind, custom.kind] == ["jit", "custom"] and custom.name == "relu"
    assert (cond.index, cond.operands, len(cond.branches)) == ((), [(3,)], 2)
    assert control(jax.make_jaxpr(jnp.sin)(X).jaxpr.eqns[0], [0]) is None
