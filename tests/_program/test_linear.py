"""What a result is linear in is found however the network is written, and nothing else is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import cgjax as cg
from cgjax._program import linear, trace

N = 24  # 2^24 joint states are more than exact marginals enumerate
W = np.random.default_rng(0).normal(size=(N, N)).astype(np.float32) / N
MASK = np.arange(N) % 3 > 0
ORDER = np.random.default_rng(1).permutation(N)


@jax.custom_jvp
def doubled(h):
    return h * 2


doubled.defjvp(lambda primals, tangents: (doubled(*primals), 5 * tangents[0]))


@jax.custom_vjp
def reversed_gradient(h, w):
    return h * w


reversed_gradient.defvjp(lambda h, w: (h * w, (h, w)), lambda kept, g: (-g * kept[1], -g * kept[0]))


@jax.custom_batching.custom_vmap
def mapped(h):
    return 3 * h


@mapped.def_vmap
def _(size, batched, h):
    return 3 * h, True


def stepwise(h):
    """A loop that carries something nonlinear beside something linear."""
    (total, _, count), rows = lax.scan(
        lambda c, x: ((c[0] + x, jnp.tanh(c[1]) + 1, c[2] + 1), c[0] * 2 - x),
        (jnp.float32(0), jnp.float32(0), 0),
        h,
    )
    return rows + total


# Linear functions from vectors of N numbers to such vectors.
STEPS = {
    "product": lambda h: h @ W,
    "einsum": lambda h: jnp.einsum("i,ij->j", h, W),
    "product of an array in two": lambda h: h[:7] @ W[:7] + h[7:] @ W[7:],
    "mask": lambda h: jnp.where(MASK, h, 0),
    "mask that adds": lambda h: jnp.where(MASK, h, 1 - h[::-1]),
    "select": lambda h: jnp.select([MASK, ~MASK], [h, 2 * h]),
    "times a mask": lambda h: h * MASK,
    "take": lambda h: jnp.take(h, ORDER),
    "indices": lambda h: h[ORDER],
    "numbers of where": lambda h: jnp.zeros(N).at[ORDER[:9]].set(h[:9]),
    "masked by its numbers": lambda h: jnp.zeros(N).at[np.flatnonzero(MASK)].add(h[MASK]),
    "roll": lambda h: jnp.roll(h, 5),
    "roll by what is computed": lambda h: jnp.roll(h, jnp.argmax(jnp.asarray(W[0]))),
    "flip": lambda h: jnp.flip(h),
    "pad": lambda h: jnp.pad(h[2:], (0, 2)),
    "pad with ones": lambda h: jnp.pad(h[1:], (1, 0), constant_values=1.0),
    "stack": lambda h: jnp.stack([h, 2 * h]).sum(0),
    "reshape": lambda h: h.reshape(4, 6).T.reshape(-1),
    "repeat": lambda h: jnp.repeat(h, 2)[::2],
    "tile": lambda h: jnp.tile(h, 2)[3 : N + 3],
    "split": lambda h: jnp.concatenate(jnp.split(h, 3)[::-1]),
    "set": lambda h: h.at[3].set(0.5),
    "add": lambda h: h.at[jnp.array([3, 3])].add(1.0),
    "scale one": lambda h: h.at[2].multiply(3.0),
    "update": lambda h: lax.dynamic_update_slice(h, h[:4], (jnp.int32(9),)),
    "slice": lambda h: jnp.pad(lax.dynamic_slice(h, (jnp.int32(2),), (N - 1,)), (0, 1)),
    "mean": lambda h: h - h.mean(),
    "running sum": lambda h: jnp.cumsum(h) / N,
    "differences": lambda h: jnp.diff(h, prepend=0.0),
    "convolution": lambda h: jnp.convolve(h, jnp.array([1.0, -2.0, 0.5]), mode="same"),
    "pooling": lambda h: lax.reduce_window(h, 0.0, lax.add, (3,), (1,), "SAME"),
    "reduction": lambda h: h - lax.reduce(h, np.float32(0), lax.add, (0,)) / N,
    "interpolation": lambda h: jnp.interp(jnp.linspace(0.3, 20.2, N), jnp.arange(float(N)), h),
    "Fourier transform": lambda h: jnp.fft.irfft(jnp.fft.rfft(h) * jnp.exp(1j), N),
    "complex": lambda h: jnp.real((h + 1j * h[::-1]) * (1 + 2j)),
    "first power": lambda h: h**1,
    "triangular": lambda h: jax.scipy.linalg.solve_triangular(np.tril(W) + np.eye(N, dtype="f"), h),
    "iterative": lambda h: lax.custom_linear_solve(lambda x: 2 * x, h, lambda _, b: b / 2),
    "bfloat16": lambda h: (h.astype(jnp.float16) + 0).astype(jnp.float32),
    "barrier": lambda h: lax.optimization_barrier((jnp.tanh(h), h))[1],
    "device": lambda h: jax.device_put(h),
    "devices": lambda h: jax.device_put((jnp.tanh(h), h))[1],
    "jit": jax.jit(lambda h: h @ W),
    "jit in jit": jax.jit(lambda h: 1 - jax.jit(lambda h: jnp.where(MASK, h, 0))(h)),
    "remat": jax.checkpoint(lambda h: -(h @ W)),
    "own derivative": doubled,
    "own derivative, with weights": lambda h: reversed_gradient(h, W[0]),
    "own map": mapped,
    "known branch": lambda h: lax.cond(True, lambda h: h @ W, jnp.tanh, h),
    "known case": lambda h: lax.switch(1, [jnp.tanh, lambda h: h @ W, jnp.sin], h),
    "branch by weights": lambda h: lax.cond(
        jnp.asarray(W).sum() > 0, lambda h: h @ W, lambda h: 3 * h, h
    ),
    "loop": lambda h: lax.fori_loop(0, N, lambda i, a: a + h[i] * jnp.asarray(W)[i], jnp.zeros(N)),
    "loop of unknown length": lambda h: lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2 - h), (0, h)
    )[1],
    "scan": stepwise,
    "scan beside another": lambda h: lax.scan(
        lambda c, x: ((jnp.tanh(c[0]) * x, c[1] + x), None), (h[0] * h[1], jnp.float32(0)), h
    )[0][1] - h,
    "row by row": lambda h: lax.map(lambda w: h @ w, W.T),
    "vmap": lambda h: jax.vmap(lambda w: (h * w).sum())(W.T),
    "derivative": lambda h: jax.grad(lambda v: (h * jnp.sin(v)).sum())(jnp.asarray(W[0])),
    "print": lambda h: (jax.debug.callback(lambda h: None, h), h)[1],
}  # fmt: skip

# Functions of N numbers that are linear in none of them.
OTHERS = {
    "square": lambda h: h * h,
    "power": lambda h: h**3,
    "product with itself": lambda h: jnp.outer(h, h).sum(0),
    "tanh": jnp.tanh,
    "integers": lambda h: (h * 1.5).astype(jnp.int32),
    "rounded": lambda h: jnp.round(1.5 * h),
    "there and back": lambda h: (h * 1.5).astype(jnp.int32).astype(jnp.float32),
    "count": lambda h: 2 * (h > 0.5).sum(),
    "sorted": jnp.sort,
    "largest": lambda h: h.max(),
    "product": lambda h: (h + 0.5).prod(),
    "chosen by itself": lambda h: jnp.where(h > h[::-1], h, 2.0),
    "taken by itself": lambda h: h[jnp.argmin(h + jnp.arange(h.size) / 10)],
    "divided by itself": lambda h: h / (1 + h.sum()),
    "written by itself": lambda h: jnp.zeros(9).at[h.astype(jnp.int32)].add(h),
    "branch": lambda h: lax.cond(h.sum() > 1, lambda h: h, lambda h: 2 * h, h),
    "branch that bends": lambda h: lax.cond(
        jnp.asarray(W).sum() > 0, jnp.sin, lambda h: h * h[0], h
    ),
    "loop": lambda h: lax.scan(lambda c, x: (c * x + 1, c), jnp.float32(1), h)[0],
    "loop that feeds back": lambda h: lax.scan(
        lambda c, _: ((c[1] * 1, c[0] * c[1]), None), (h, jnp.ones(h.size)), length=3
    )[0][1],
    "loop that stops itself": lambda h: lax.while_loop(
        lambda c: c.sum() < 3, lambda c: c + 0.3, h
    ),
    "own derivative": lambda h: jax.nn.relu(h - 0.5),
    "product with a function of it": lambda h: reversed_gradient(h, jnp.tanh(h[::-1])),
    "jit": jax.jit(lambda h: jnp.exp(h) @ h),
    "solution": lambda h: jax.scipy.linalg.solve_triangular(jnp.diag(1 + h), h, lower=True),
    "node": lambda h: cg.node(cg.nodes.Spin(), h, name="next"),
    "turned to bits": lambda h: lax.bitcast_convert_type(h, jnp.int32) >> 20,
}  # fmt: skip


def network(readout):
    return lambda x: readout(cg.node(cg.nodes.Bernoulli(), x, name="h"))


def needed(readout, size=N) -> list[int | None]:
    """For each value that the result is affine in, the node that it is the statistic of."""
    return list(linear(trace(network(readout), (np.zeros(size, np.float32),))).nodes)


@pytest.mark.parametrize("name", STEPS)
def test_linear_steps_need_the_expectation_alone(name):
    assert needed(STEPS[name]) == [0]


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_linear_is_not_taken_for_it(name):
    assert needed(OTHERS[name], 4) != [0]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=5),
    st.sampled_from(["", "jit", "remat", "scan", "branch"]),
)
def test_linear_steps_after_one_another(names, around):
    def readout(h):
        for name in names:
            h = STEPS[name](h)
        return h

    wrapped = {
        "": readout,
        "jit": jax.jit(readout),
        "remat": jax.checkpoint(readout),
        "scan": lambda h: lax.scan(lambda c, _: (readout(c), None), h, length=2)[0],
        "branch": lambda h: lax.cond(W[0, 0] > 0, readout, readout, h),
    }
    assert needed(wrapped[around]) == [0]


def test_expectations_of_linear_readouts():
    x = jnp.linspace(-1.0, 1.0, N)
    net = network(lambda h: {name: step(h) for name, step in STEPS.items()})
    mean = jax.nn.sigmoid(x)
    got = cg.exact_marginals(net)(x)
    want = jax.jit(lambda h: {name: step(h) for name, step in STEPS.items()})(mean)
    for name in STEPS:
        # Half precision has steps of 5e-4 at 1; else sums of 24 products in float32.
        tolerance = 1e-3 if name == "bfloat16" else 1e-5
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=tolerance, err_msg=name)


def brute_force(readout, x):
    """The sum over all states, with the probabilities that depend on x."""
    states = jnp.asarray((np.arange(1 << x.size)[:, None] >> np.arange(x.size)) & 1, x.dtype)
    log_p = jnp.where(states > 0, jax.nn.log_sigmoid(x)[None], jax.nn.log_sigmoid(-x)[None])
    p = jnp.exp(log_p.sum(1))
    values = jax.vmap(readout)(states)
    return jax.tree.map(lambda v: jnp.tensordot(p, v.astype(jnp.float32), 1), values)


def test_expectations_of_other_readouts():
    x = jnp.array([0.4, -0.9, 1.3, -0.2])
    others = {name: f for name, f in OTHERS.items() if name != "node"}

    def readouts(h):
        return {name: f(h) for name, f in others.items()}

    got = cg.exact_marginals(network(readouts))(x)
    want = jax.jit(lambda x: brute_force(readouts, x))(x)
    for name in others:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_derivatives_are_those_of_the_sum_over_states():
    # A function's own rule is for its arguments; the expectation varies by the probabilities.
    def readouts(h, w):
        return (
            (doubled(h) @ w + reversed_gradient(h, w).sum() + lax.stop_gradient(h) @ w)
            + jax.checkpoint(lambda h: (h * w).sum())(h) ** 2
            + (doubled(w) * h).sum()
        )

    x, w = jnp.array([0.4, -0.9, 1.3]), jnp.array([0.5, -1.5, 0.7])

    @jax.jit
    def both(x, w):
        def exact(x, w):
            net = lambda x: readouts(cg.node(cg.nodes.Bernoulli(), x), w)  # noqa: E731
            return cg.exact_marginals(net)(x)

        def summed(x, w):
            return brute_force(lambda h: readouts(h, w), x)

        return [jax.value_and_grad(f, (0, 1))(x, w) for f in (exact, summed)]

    for got, want in zip(*map(jax.tree.leaves, both(x, w)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4)


def test_a_branch_that_is_not_taken_is_not_looked_into():
    size = jnp.arange(3)  # known, though it is computed in the network

    def readout(h):
        return lax.cond((size + 1).max() > 5, lambda h: jnp.tanh(h) * h[0], lambda h: h @ W, h)

    assert needed(jax.jit(readout)) == [0]


def test_nodes_keep_their_order_where_calls_are_opened():
    def net(x):
        a = cg.node(cg.nodes.Spin(), x, name="a")
        b = jax.jit(lambda a: cg.node(cg.nodes.Spin(), 2 * a, name="b") * 3)(a)
        c = cg.node(cg.nodes.Bernoulli(), b, name="c")
        return jax.jit(lambda a, c: a - 2 * c)(a, c), b

    split = linear(trace(net, (np.zeros(2, np.float32),)))
    assert [split.values.sites[k].name for k in split.nodes if k is not None] == ["a", "b", "c"]
    x = jnp.array([0.3, -0.6])
    got = cg.exact_marginals(net)(x)
    a, b, c = (cg.with_nodes(cg.exact_marginals(net))(x)[1][k] for k in "abc")
    np.testing.assert_allclose(got, (a - 2 * c, 3 * b), rtol=1e-5)


ROUNDINGS = {
    "there and back": lambda z: z.astype(jnp.bfloat16).astype(jnp.float32),
    "through two narrow dtypes": lambda z: z.astype(jnp.bfloat16).astype(jnp.float16),
    "fewer digits": lambda z: lax.reduce_precision(z, 5, 2),
    "a product": lambda z: (z.astype(jnp.bfloat16) @ jnp.eye(2, dtype=jnp.bfloat16)) * 1,
    "a mask": lambda z: jnp.where(jnp.array([True, True]), z.astype(jnp.bfloat16), 2),
    "a concatenation": lambda z: jnp.concatenate([z.astype(jnp.bfloat16)] * 2)[:2],
    "whole numbers": lambda z: z.astype(jnp.int32).astype(jnp.bfloat16),
}


def test_a_conversion_rounds_the_values_and_not_their_mean():
    def every(x):
        z = cg.node(cg.nodes.Bernoulli(), x * jnp.ones(2))
        return {name: f(z).astype(jnp.float32) for name, f in ROUNDINGS.items()}

    def narrow(x):
        z = cg.node(cg.nodes.Bernoulli(), x * jnp.ones(2))
        return {name: f(z) for name, f in ROUNDINGS.items()}

    x = jnp.float32(0.3)
    for name, mean in jax.jit(cg.exact_marginals(every))(x).items():
        np.testing.assert_allclose(mean, jax.nn.sigmoid(x), rtol=1e-6, err_msg=name)
    dtypes = {name: out.dtype for name, out in jax.eval_shape(narrow, x).items()}
    found = jax.eval_shape(cg.exact_marginals(narrow), x)
    assert {name: out.dtype for name, out in found.items()} == dtypes


def test_moments_are_exact_through_a_linear_function_on_a_mesh():
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("i")

    def on_mesh(f):
        return jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec)

    belief = cg.Belief(jnp.array([1.0, -2.0]), jnp.array([0.5, 2.0]))
    product = jnp.array([[1.0, 2.0], [0.0, 3.0]])
    out = cg.moments(on_mesh(lambda x: 2 * lax.psum(product @ x, "i")))(belief)
    np.testing.assert_allclose(out.mean, 2 * product @ belief.mean, rtol=1e-6)
    np.testing.assert_allclose(out.variance, 4 * product**2 @ belief.variance, rtol=1e-6)
    nonlinear = on_mesh(lambda x: jnp.tanh(x))
    with pytest.raises(TypeError, match=r"shard_map.*test_linear.py.*first_order"):
        cg.moments(lambda x: nonlinear(x))(belief)
    linearised = cg.moments(nonlinear, first_order=["shard_map"])(belief)
    np.testing.assert_allclose(linearised.mean, jnp.tanh(belief.mean), rtol=1e-6)
