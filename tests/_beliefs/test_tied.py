"""Sums of what the same weights made, in loops and written out: against exact sums and samples."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import cgjax as cg
from cgjax import Belief

STEPS = 6


def beliefs(*shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    means = [jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(keys, shapes, strict=True)]
    return [Belief(m, 0.1 * jnp.mean(m**2) * jnp.ones_like(m)) for m in means]


def scanned(step, h):
    return lax.scan(lambda h, _: (step(h), None), h, None, length=STEPS)[0]


def nested(step, h):
    def two(_, h):
        return lax.fori_loop(0, 2, lambda _, h: jax.jit(step)(h), h)

    return lax.fori_loop(0, STEPS // 2, two, h)


def each_by_itself(step, h):
    """Of examples each has a condition of its own."""

    def one(count, h):
        def turn(state):
            return state[0] + 1, step(state[1])

        return lax.while_loop(lambda state: state[0] < STEPS, turn, (count, h))[1]

    return jax.vmap(one)(jnp.zeros(len(h), int), h)


def written_out(step, h):
    for _ in range(STEPS):
        h = step(h)
    return h


LOOPS = (scanned, nested, written_out)


def test_what_is_the_same_at_each_step_adds_up_as_one():
    """Exactly: an addend, layers of known and of uncertain data, with a share of the sum kept."""
    h, weights, bias, x = beliefs((2, 3), (4, 3), (3,), (2, 4))

    def all_of(h, w, b, x, known):
        steps = [
            lambda h: h + b.reshape(1, 3),
            lambda h: h - b.reshape(1, 3),
            lambda h: known @ w / 4 + h,
            lambda h: h + x @ w,
            lambda h: 0.5 * h + b.reshape(1, 3),
        ]
        return [[loop(step, h) for step in steps] for loop in LOOPS]

    known = jnp.asarray(x.mean)
    offset = bias.variance.reshape(1, 3)
    single = [
        offset,
        offset,
        (known / 4) ** 2 @ weights.variance,
        (x.mean**2 + x.variance) @ weights.variance + x.variance @ weights.mean**2,
    ]
    expected = [h.variance + STEPS**2 * jnp.broadcast_to(v, h.mean.shape) for v in single]
    count = sum(0.5**k for k in range(STEPS))
    expected.append(0.25**STEPS * h.variance + count**2 * offset)
    for found in jax.jit(cg.moments(all_of))(h, weights, bias, x, known):
        for one, variance in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.variance, variance, rtol=2e-5)


def test_layers_of_their_own_have_nothing_in_common():
    h, rows = beliefs((2, 3), (STEPS, 3))

    def steps(h, rows):
        return lax.scan(lambda h, row: (h + row.reshape(1, 3), None), h, rows)[0]

    variance = h.variance + rows.variance.sum(0, keepdims=True)
    np.testing.assert_allclose(cg.moments(steps)(h, rows).variance, variance, rtol=1e-5)
    # The diagonal method takes each step for one of its own.
    apart = cg.moments(lambda h, b: scanned(lambda h: h + b.reshape(1, 3), h), positions=False)
    found = apart(h, Belief(rows.mean[0], rows.variance[0])).variance
    np.testing.assert_allclose(found, h.variance + STEPS * rows.variance[:1], rtol=1e-5)


def field(params, h, transposed=False):
    (first, shift), (second, offset) = params
    if h.ndim > 1:
        shift, offset = shift.reshape(1, -1), offset.reshape(1, -1)
    if transposed:
        first, second = first.T.T, second.T.reshape(second.T.shape).T
    return jax.nn.relu(h @ first + shift) @ second + offset


def residual(params, h):
    return h + field(params, h) / STEPS


def moved(params, h):
    return h - field(params, h, transposed=True) / -STEPS


def bent(params, h):
    return 0.9 * h + jax.nn.relu(field(params, h)) / STEPS


def halfway(params, h):
    """Heun's method, of two stages."""
    slope = field(params, h)
    return h + (slope + field(params, h + slope / STEPS)) / (2 * STEPS)


def test_steps_of_one_network():
    """Against samples, whose total variance has an error of 2 %; independent steps have half."""
    h, *layers = beliefs((2, 8), (8, 16), (16,), (16, 8), (8,))
    about = [tuple(layers[:2]), tuple(layers[2:])]

    def all_of(about, h):
        forms = [(residual, scanned), (residual, each_by_itself)]
        forms += [(moved, scanned), (bent, scanned), (halfway, scanned)]
        return [loop(lambda h, s=step: s(about, h), h) for step, loop in forms]

    def drawn(key):
        leaves, tree = jax.tree.flatten((about, h), is_leaf=lambda x: isinstance(x, Belief))
        keys = jax.random.split(key, len(leaves))
        values = [
            x.mean + x.variance**0.5 * jax.random.normal(k, x.mean.shape)
            for k, x in zip(keys, leaves, strict=True)
        ]
        params, start = jax.tree.unflatten(tree, values)
        return [scanned(lambda h, s=s: s(params, h), start) for s in (residual, bent, halfway)]

    draws = jax.jit(jax.vmap(drawn))(jax.random.split(jax.random.key(1), 2000))
    exact, curved, staged = (d.var(0).sum() for d in draws)
    totals = [b.variance.sum() for b in jax.jit(cg.moments(all_of))(about, h)]
    np.testing.assert_allclose(totals[1:3], [totals[0]] * 2, rtol=1e-4)
    # Five standard errors, and what is left out.
    np.testing.assert_allclose(totals[::3], [exact, curved], rtol=0.1)
    np.testing.assert_allclose(totals[4], staged, rtol=0.15)


def test_gradients_know_of_it():
    h, weights, x = beliefs((2, 3), (4, 3), (2, 4))

    def loss(variance):
        steps = cg.moments(lambda h, w: scanned(lambda h: h + x.mean @ w, h))
        return steps(h, Belief(weights.mean, variance)).variance.sum()

    slope = jax.jit(jax.grad(loss))(weights.variance)
    expected = STEPS**2 * (x.mean**2).sum(0)[:, None] * jnp.ones((1, 3))
    np.testing.assert_allclose(slope, expected, rtol=1e-5)
