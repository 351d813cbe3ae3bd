"""What the recursions of a linear chain are given: potentials in one canonical form."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float


class Chain(NamedTuple):
    """Independent linear chains of one length, with K states at each of T positions.

        score(z) = sum_t unary[t, z_t] + sum_t transitions[t, z_t, z_{t+1}]

    A masked position is skipped, and its neighbours become adjacent: the transition between them is
    the one that leads to the later one. Masked positions hold finite potentials, which count for
    nothing.

    Attributes:
        unary: (B, T, K), at least float32; -inf forbids a state.
        transitions: (B or 1, T - 1 or 1, K, K), from i to j; -inf forbids a step.
        mask: (B, T), where a position takes part; None: everywhere.
    """

    unary: Float[Array, "B T K"]
    transitions: Float[Array, "b E K K"]
    mask: Bool[Array, "B T"] | None = None

    @property
    def length(self) -> int:
        """T."""
        return self.unary.shape[1]

    @property
    def homogeneous(self) -> bool:
        """Whether all edges have the same transitions."""
        return self.transitions.shape[1] == 1


def firsts(chain: Chain) -> Bool[Array, "b T"]:
    """Where a chain begins: (1 or B, T)."""
    if chain.mask is None:
        return jnp.arange(chain.length)[None] == 0
    return chain.mask & (jnp.cumsum(chain.mask, 1) == 1)


def lasts(chain: Chain) -> Bool[Array, "b T"]:
    """Where a chain ends: (1 or B, T)."""
    if chain.mask is None:
        return jnp.arange(chain.length)[None] == chain.length - 1
    return chain.mask & (jnp.cumsum(chain.mask[:, ::-1], 1)[:, ::-1] == 1)


def edges(chain: Chain) -> Bool[Array, "b E"]:
    """Where a position follows another one, by the number of the step: (1 or B, T - 1)."""
    inside = ~firsts(chain)
    return (inside if chain.mask is None else inside & chain.mask)[:, 1:]


def with_ends(
    chain: Chain, start: Float[Array, "b K"] | None, end: Float[Array, "b K"] | None
) -> Chain:
    """The chain with potentials of its first and its last state, (B or 1, K), as unary ones."""
    unary = chain.unary
    for at, potential in ((firsts, start), (lasts, end)):
        if potential is not None:
            unary = unary + jnp.where(at(chain)[:, :, None], potential[:, None], 0)
    return chain._replace(unary=unary)


# With more states a matrix product is as fast as sums of products over vectors of chains.
FEW_STATES = 32


def batch_last(chain: Chain) -> bool:
    """Whether what is kept of chains has them along its last axis: few states, the same steps."""
    return chain.homogeneous and chain.unary.shape[2] <= FEW_STATES


def by_edge(array: Array) -> Array | None:
    """Per-edge potentials, edges first, as a loop takes them; None where they do not change."""
    return None if array.shape[1] == 1 else jnp.moveaxis(array, 1, 0)


def matrix_of(own: Array | None, shared: Array | None) -> Array:
    """The transitions of a step: its own, or those of all."""
    found = shared if own is None else own
    assert found is not None  # one of both is there
    return found


def times(row: Float[Array, "B K"], matrix: Float[Array, "b K L"]) -> Float[Array, "B L"]:
    """Each row times its matrix, or times the one of all."""
    if matrix.shape[0] == 1:
        return lax.dot(row, matrix[0], precision=lax.Precision.HIGHEST)
    return jnp.einsum("bi,bij->bj", row, matrix, precision=lax.Precision.HIGHEST)


def rows_times(rows: Float[Array, "T B K"], matrices: Float[Array, "b K L"]) -> Array:
    """Each row times the matrix of its chain, or times the one of all, (T, B, L).

    The transpose is a sum over rows, of which that of one matrix goes in blocks as in `total`; on
    CPUs one long product of matrices is slow besides.
    """
    exact = lax.Precision.HIGHEST
    if matrices.shape[0] > 1:
        return jnp.einsum("tbi,bij->tbj", rows, matrices, precision=exact)
    length, batch, k = rows.shape
    least = max(128, k)
    turns = max(4 * least // max(batch, 1), 1)
    fitting = [n for n in range(1, turns + 1) if length % n == 0 and n * batch >= least]
    turns = max(fitting, default=min(turns, length))
    whole = length - length % turns if turns else 0

    def products(rows: Array, blocks: int) -> Array:
        each = jnp.broadcast_to(matrices, (blocks, *matrices.shape[1:]))
        flat = rows.reshape(blocks, len(rows) // blocks * batch, k)
        found = lax.dot_general(flat, each, (((2,), (1,)), ((0,), (0,))), precision=exact)
        return found.reshape(*rows.shape[:2], matrices.shape[2])

    if whole == length:
        return products(rows, max(length // max(turns, 1), 1))
    first = products(rows[:whole], whole // turns)
    return jnp.concatenate([first, products(rows[whole:], 1)])


def total(array: Float[Array, "B T"]) -> Float[Array, " B"]:
    """The sum over time, in blocks: in float32 the error of one long sum grows with its length."""
    batch, length = array.shape
    block = 64
    if length <= block:
        return array.sum(1)
    padded = jnp.pad(array, ((0, 0), (0, -length % block)))
    return total(padded.reshape(batch, padded.shape[1] // block, block).sum(2))
