"""One layer, `x @ w` with w of shape (4, 6), written in ways that are equal as functions."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

MASK = np.arange(24).reshape(4, 6) % 3 > 0
ORDER = np.array([3, 0, 2, 1])
HALVES = jnp.array([0, 3])


def columns(x, w):
    return jnp.concatenate([x @ a for a in jnp.split(w, 3, axis=1)], axis=1)


def rows(x, w):
    return sum(a @ b for a, b in zip(jnp.split(x, 2, axis=1), jnp.split(w, 2), strict=True))


def slices(x, w):
    return x[:, :1] @ w[:1] + x[:, 1:] @ w[1:]


def masked(x, w):
    return x @ jnp.where(MASK, w, 0) + x @ jnp.where(MASK, 0, w)


def multiplied(x, w):
    return 2 * (x @ (w * np.full((4, 6), 0.5, np.float32)))


def taken(x, w):
    return x[:, ORDER] @ w[ORDER]


def taken_along(x, w):
    return x[:, ORDER] @ jnp.take(w, ORDER, axis=0)


def rolled(x, w):
    return jnp.roll(x @ jnp.roll(w, 2, axis=1), -2, axis=1)


def flipped(x, w):
    return (x @ w[:, ::-1])[:, ::-1]


def padded(x, w):
    return jnp.pad(x, ((0, 0), (2, 0))) @ jnp.pad(w, ((2, 0), (0, 1)))[:, :6]


def with_constants(x, w):
    wider = jnp.concatenate([w, jnp.ones((4, 2))], axis=1)
    return (x @ wider)[:, :6]


def pieces_joined(x, w):
    return x @ jnp.concatenate([w[:, :2], w[:, 2:]], axis=1)


def pieces_stacked(x, w):
    return jnp.einsum("bi,kio->bko", x, jnp.stack([w[:, :3], w[:, 3:]])).reshape(x.shape[0], 6)


def reshaped(x, w):
    return x @ w.reshape(2, 2, 6).reshape(24).reshape(4, 6)


def heads(x, w):
    return jnp.einsum("bi,iho->bho", x, w.reshape(4, 2, 3)).reshape(x.shape[0], 6)


def half_precision(x, w):
    return x @ w.astype(jnp.bfloat16).astype(jnp.float32)


def behind_a_barrier(x, w):
    x, w = lax.optimization_barrier((x, w))
    return x @ w


def jitted(x, w):
    return jax.jit(lambda x, w: x @ jax.jit(jnp.transpose)(w).T)(x, w)


def rematerialised(x, w):
    return jax.checkpoint(jnp.matmul)(x, w)


def moved_in_a_rematerialised_part(x, w):
    return x @ jax.checkpoint(lambda w: w[::-1])(w)[::-1]


def written(x, w):
    empty = jnp.zeros((4, 6))
    return x @ empty.at[:, :4].set(w[:, :4]).at[:, 4:].add(w[:, 4:])


def updated(x, w):
    return x @ lax.dynamic_update_slice(jnp.zeros((5, 6)), w, (jnp.int32(1), jnp.int32(0)))[1:]


def transposed(x, w):
    return (w.T @ x.T).T


def einsum(x, w):
    return jnp.einsum("io,bi->bo", w, x)


def one_by_one(x, w):
    return jax.vmap(lambda row: row @ w)(x)


def by_output(x, w):
    return jax.vmap(lambda column: x @ column, 1, 1)(w)


def scaled_and_summed(x, w):
    return (x[:, :, None] * w[None]).sum(1)


def with_zero(x, w):
    return x @ (w + jnp.zeros_like(w)) - 0.0


def over_columns(x, w):
    _, found = lax.scan(lambda c, a: (c, x @ a), None, jnp.moveaxis(w.reshape(4, 2, 3), 1, 0))
    return jnp.concatenate([found[0], found[1]], axis=1)


def by_number(x, w):
    found = [x @ lax.dynamic_slice(w, (0, start), (4, 3)) for start in HALVES]
    return jnp.concatenate(found, axis=1)


def branched(x, w):
    return lax.cond(x.sum() > -100.0, lambda: x @ w, lambda: 2 * (x @ w))


def chosen(x, w):
    return x @ lax.cond(x.sum() > -100.0, lambda: w, lambda: w[::-1])


def carried(x, w):
    def turn(_, state):
        y, w = state
        return y + x @ w, w

    return lax.fori_loop(0, 1, turn, (jnp.zeros((x.shape[0], 6)), w))[0]


@jax.custom_jvp
def product(x, w):
    return x @ w


product.defjvp(lambda primals, tangents: (product(*primals), product(tangents[0], primals[1])))


def as_a_convolution(x, w):
    kernel = w.T[:, :, None]
    return lax.conv_general_dilated(x[:, :, None], kernel, (1,), "VALID")[:, :, 0]


def row_by_row(x, w):
    return lax.map(lambda row: row @ w, x)


def turned_over_examples(x, w):
    return (x.T[::-1].T @ w[::-1])[::-1][::-1]


LAYERS = {
    f.__name__: f
    for f in (
        columns,
        rows,
        slices,
        masked,
        multiplied,
        taken,
        taken_along,
        rolled,
        flipped,
        padded,
        with_constants,
        pieces_joined,
        pieces_stacked,
        reshaped,
        heads,
        half_precision,
        behind_a_barrier,
        jitted,
        rematerialised,
        moved_in_a_rematerialised_part,
        written,
        updated,
        transposed,
        einsum,
        one_by_one,
        by_output,
        scaled_and_summed,
        with_zero,
        over_columns,
        by_number,
        branched,
        chosen,
        carried,
        as_a_convolution,
        row_by_row,
        turned_over_examples,
    )
}
LAYERS["product"] = product
LAYERS["plain"] = lambda x, w: jnp.matmul(x, w)
