"""log Z and what follows from it, with derivatives of every order and without underflow.

The derivative of log Z is marginals and sums over pairs of neighbours, which one pass in each
direction finds; the derivative of those is one more such pass (`_curvature`), and later ones are
those of that pass.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float

from cgjax._static import Tree
from cgjax.kernels.chains import _lanes, _logarithmic, _scaled, _tree
from cgjax.kernels.chains._chain import Chain, batch_last, rows_times
from cgjax.kernels.chains._curvature import curvature

Implementation = Literal["two_passes", "lanes", "both_at_once", "tree", "logarithmic"]
# log Z (B,), marginals (B, T, K), and sums over pairs (B, T - 1 or 1, K, K).
Expectations: TypeAlias = tuple[Array, Array, Array]

_FORMS: dict[str, Callable[[_scaled.Scaled], _scaled.Passes]] = {
    "two_passes": _scaled.two_passes,
    "both_at_once": _scaled.both_at_once,
    "tree": _tree.of_products,
}
IMPLEMENTATIONS = (*_FORMS, "lanes", "logarithmic")


# Traced once for some shapes, as the other kernels; it stands in line where it is used.
@partial(jax.jit, static_argnums=(0, 1), inline=True)
def _computed(implementation: str, filtering: bool, chain: Chain) -> Tree:
    """Expectations, or filtered probabilities, by one form; on logarithms where that lost too much.

    A chain's result does not depend on those beside it.
    """

    if not chain.length:
        empty = _by_logarithms(chain)
        return jnp.transpose(chain.unary, (1, 2, 0)) if filtering else empty
    if implementation == "logarithmic":
        return _filtered_by_logarithms(chain) if filtering else _by_logarithms(chain)
    potentials = _scaled.scaled(chain)
    if implementation == "lanes":
        found, filtered = _lanes.sums(chain, potentials)
    else:
        passes = _FORMS[implementation](potentials)
        found, filtered = _scaled.finished(chain, potentials, passes), _scaled.filtered(passes)

    def mended(state: tuple[Array, Tree]) -> tuple[Array, Tree]:
        _, fast = state
        if filtering:
            reliable = found.reliable[None, None] > 0
            new = jnp.where(reliable, fast, _filtered_by_logarithms(chain))
        else:
            new = _scaled.mended(chain, fast, _logarithmic.sums(chain))
        return jnp.ones((), bool), new

    # A loop of one turn or none: unlike a condition, it leaves the results where they are.
    fast = filtered if filtering else found
    begin = jnp.all(found.reliable > 0), fast
    return lax.while_loop(lambda state: ~state[0], mended, begin)[1]


def _filtered_by_logarithms(chain: Chain) -> Float[Array, "T K B"]:
    return jnp.swapaxes(_logarithmic.forward(chain)[0], 1, 2)


def _by_logarithms(chain: Chain) -> _scaled.Sums:
    """All on logarithms, or of chains without positions."""
    batch, length, k = chain.unary.shape
    if length:
        log_z, marginals, pairs = _logarithmic.sums(chain)
    else:
        log_z, marginals = jnp.zeros(batch, chain.unary.dtype), chain.unary
        pairs = jnp.zeros((batch, chain.transitions.shape[1], k, k), chain.unary.dtype)
    none = None
    if chain.homogeneous:
        shape = (length, k, batch) if batch_last(chain) else (length, batch, k)
        none = jnp.zeros(shape, chain.unary.dtype)
    reliable = (jnp.zeros_like if length else jnp.ones_like)(log_z)
    marginals = _scaled.in_order(chain, marginals)
    return _scaled.Sums(log_z, marginals, pairs, none, none, reliable)


def _on_cpu(chain: Chain) -> str:
    return "lanes" if _lanes.suits(chain) else "two_passes"


def _by_platform(filtering: bool, chain: Chain) -> Tree:
    """By the fastest form on CPU; on GPUs, where nothing has been measured, by the one with fewest
    steps that does no more work."""
    on_gpu = partial(_computed, "both_at_once", filtering)  # one object is one branch for both
    on_cpu = partial(_computed, _on_cpu(chain), filtering)
    return lax.platform_dependent(chain, cuda=on_gpu, rocm=on_gpu, default=on_cpu)


def _mapped(
    function: Callable[[Chain], Tree], axes: Callable[[Chain], Tree]
) -> Callable[[Chain], Tree]:
    """A function of chains for which a mapped axis is more chains; axes: where its results have
    the axis of chains.

    Mapped as it stands, it would compute both sides of its condition.
    """
    mapped = custom_vmap(function)

    @mapped.def_vmap
    def rule(axis_size: int, in_batched: Tree, chain: Chain) -> tuple[Tree, Tree]:
        is_mapped = in_batched[0]
        batch = chain.unary.shape[1 if is_mapped.unary else 0]

        def flat(array: Array, batched: bool) -> Array:
            array = array if batched else array[None]
            own = array.shape[2:]
            return jnp.broadcast_to(array, (axis_size, batch, *own)).reshape(-1, *own)

        unary, transitions, mask = chain
        if is_mapped.transitions or transitions.shape[0] > 1:
            transitions = flat(transitions, is_mapped.transitions)
        mask = None if mask is None else flat(mask, is_mapped.mask)
        every = Chain(flat(unary, is_mapped.unary), transitions, mask)
        found = mapped(every)

        def unflat(axis: int, array: Array | None) -> Array | None:
            if array is None:  # what nobody asks for
                return None
            shape = (*array.shape[:axis], axis_size, batch, *array.shape[axis + 1 :])
            return jnp.moveaxis(array.reshape(shape), axis, 0)

        out = jax.tree.map(unflat, axes(every), found)
        return out, jax.tree.map(lambda _: True, out)

    return mapped


def _unmapped(name: str | None, filtering: bool) -> Callable[[Chain], Tree]:
    own = partial(_by_platform, filtering)
    axes = (lambda chain: 2) if filtering else _axes
    return _mapped(own if name is None else partial(_computed, name, filtering), axes)


def _axes(chain: Chain) -> _scaled.Sums:
    """Where `Sums` have the axis of chains."""
    order = 2 if batch_last(chain) else 1
    factors = order if chain.homogeneous else None
    return _scaled.Sums(0, order, 0, factors, factors, 0)  # pyright: ignore[reportArgumentType]


# One function for each choice, so that what was traced is found again.
_EXPECTATIONS = {name: _unmapped(name, False) for name in (None, *IMPLEMENTATIONS)}
_FILTERED = _unmapped(None, True)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _known(implementation: Implementation | None, chain: Chain) -> _scaled.Sums:
    """The sums of chains, with derivatives of marginals, pairs, states and weights such that those
    of the pairs as a whole are right."""
    return _EXPECTATIONS[implementation](chain)


@_known.defjvp
def _known_jvp(
    implementation: Implementation | None, primals: Tree, tangents: Tree
) -> tuple[Tree, Tree]:
    (chain,), (change,) = primals, tangents
    found = _known(implementation, chain)
    if not chain.length:
        return found, jax.tree.map(jnp.zeros_like, found)
    changed = _changed_log_partition(chain, found, change)
    moved = curvature(chain, found.reliable > 0, change.unary, change.transitions)
    marginals = _scaled.in_order(chain, moved[0])
    return found, _scaled.Sums(changed, marginals, *moved[1:], jnp.zeros_like(found.reliable))


def _changed_log_partition(chain: Chain, found: _scaled.Sums, change: Chain) -> Array:
    by_unary = jnp.sum(_scaled.by_chain(chain, found.marginals) * change.unary, (1, 2))
    moved = change.transitions
    if len(moved) == 1:  # a product of matrices, which is faster than a sum over chains
        pairs = found.pairs.reshape(len(found.pairs), moved.size)
        by_steps = lax.dot(pairs, moved.reshape(-1), precision=lax.Precision.HIGHEST)
    else:
        by_steps = jnp.sum(found.pairs * moved, (1, 2, 3))
    changed = by_unary + by_steps
    if found.states is None or found.weights is None:
        return changed
    # Flipped, so that its transpose is the product of states and weights as they are.
    matrices = (_scaled.scaled_steps(chain.transitions)[0] * change.transitions)[:, 0]
    if batch_last(chain):
        moved = _lanes.columns_times(found.weights, matrices)
        return changed + jnp.sum(moved * found.states, (0, 1))
    moved = rows_times(found.weights, jnp.swapaxes(matrices, 1, 2))
    return changed + jnp.sum(moved * found.states, (0, 2))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_partition(implementation: Implementation | None, chain: Chain) -> Array:
    return _known(implementation, chain).log_partition


@_log_partition.defjvp
def _log_partition_jvp(
    implementation: Implementation | None, primals: Tree, tangents: Tree
) -> tuple[Array, Array]:
    (chain,), (change,) = primals, tangents
    found = _known(implementation, chain)
    return found.log_partition, _changed_log_partition(chain, found, change)


def expectations(chain: Chain, implementation: Implementation | None = None) -> Expectations:
    """log Z, the marginals of all states and the expected number of each transition.

        marginals[t, k] = P(z_t = k) = d log Z / d unary[t, k]
        pairs[i, j] = sum_t P(z_t = i, z_{t+1} = j) = d log Z / d transitions[i, j]

    Probabilities scaled at each step, or logarithms for those chains in which probabilities of that
    size underflow: exact to rounding for all potentials, -inf included. A chain without a possible
    path has log Z = -inf, and marginals of 0. Derivatives of log Z cost nothing more than this;
    those of the marginals cost two more such passes.

    Args:
        chain: B chains of T positions with K states.
        implementation: "two_passes", a loop forwards and one backwards; "both_at_once", one loop in
            both directions; "lanes", such a loop over vectors of chains, for transitions that are
            the same at all edges; "tree", products of matrices in log2(T) steps, which has
            logarithms serve for every chain with potentials of ranges d and u of transitions and
            unary potentials where 3 d + 2 u > 60, and for long chains with forbidden steps;
            "logarithmic", what the others are held to. By default the fastest on CPU
            (`benchmarks.chains`): lanes for 4 chains and more of up to 32 states, else two passes;
            and on GPUs, where nothing has been measured, both at once. Memory is O(B T K), and of
            the tree O(B T K^2).

    Returns:
        log Z (B,), the marginals (B, T, K), and the sums over pairs (B, 1, K, K), or with
        transitions of their own for each edge the pairs (B, T - 1, K, K).

    Raises:
        ValueError: the implementation has another name, or is for other transitions.

    Example:
        >>> import jax.numpy as jnp
        >>> from cgjax.kernels.chains import Chain, expectations
        >>> chain = Chain(jnp.zeros((1, 3, 2)), jnp.zeros((1, 1, 2, 2)))
        >>> log_z, marginals, pairs = expectations(chain)
        >>> print(jnp.exp(log_z).round(3), marginals[0, 0], pairs[0, 0, 0])
        [8.] [0.5 0.5] [0.5 0.5]

    Source: Sutton and McCallum, "An introduction to conditional random fields", 2012, 4.1; the
    derivative is the identity of [B] Theorem 1.
    """
    _check(implementation, chain)
    found = _known(implementation, chain)
    pairs = found.pairs
    if found.states is not None:
        steps = _scaled.scaled_steps(chain.transitions)[0]
        exact = lax.Precision.HIGHEST
        axes = "tib,tjb->bij" if batch_last(chain) else "tbi,tbj->bij"
        own = jnp.einsum(axes, found.states, found.weights, precision=exact)
        pairs = pairs + steps * own[:, None]
    return found.log_partition, _scaled.by_chain(chain, found.marginals), pairs


def log_partition(chain: Chain, implementation: Implementation | None = None) -> Float[Array, " B"]:
    """log Z = log sum over all paths z of exp score(z).

    Args:
        chain: as in `expectations`.
        implementation: as in `expectations`.

    Returns:
        log Z, (B,): 0 for a chain without positions, -inf for one without a possible path. Its
        derivatives are `expectations`.

    Raises:
        ValueError: as `expectations`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from cgjax.kernels.chains import Chain, log_partition
        >>> transitions = jnp.array([[[[0.0, -jnp.inf], [0.0, 0.0]]]])
        >>> print(jnp.exp(log_partition(Chain(jnp.zeros((1, 3, 2)), transitions))).round(3))
        [4.]

    Source: as `expectations`.
    """
    _check(implementation, chain)
    return _log_partition(implementation, chain)


def filtered(chain: Chain) -> Float[Array, "T K B"]:
    """`filtered` of `_filter`, without derivative."""
    return _FILTERED(jax.tree.map(lax.stop_gradient, chain))


def _check(implementation: str | None, chain: Chain) -> None:
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is one of {', '.join(IMPLEMENTATIONS)}, got {implementation!r}."
        )
    if implementation == "lanes" and not chain.homogeneous:
        raise ValueError(
            "The implementation 'lanes' takes one matrix of transitions for all edges, shape "
            f"(b, 1, K, K), got {chain.transitions.shape}: use 'two_passes' for one at each."
        )
