"""How uncertain potentials move the marginals, to first order."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cgjax.kernels.chains._chain import Chain, edges
from cgjax.kernels.chains._sums import expectations


def neighbour_variance(chain: Chain, variance: Float[Array, "B T K"]) -> Float[Array, "B T K"]:
    """The variance of each marginal that comes from its own potentials and those of its neighbours.

        sum over s and l of Cov(z_t = k, z_s = l)^2 variance[s, l],   s = t - 1, t, t + 1

    Covariances are the derivatives of marginals by unary potentials; those of positions further
    apart are left out.

    Args:
        chain: B chains of T positions with K states.
        variance: of the unary potentials, which are independent, (B, T, K).

    Returns:
        (B, T, K), 0 at masked positions.

    Example:
        >>> import jax.numpy as jnp
        >>> from cgjax.kernels.chains import Chain, neighbour_variance
        >>> chain = Chain(jnp.zeros((1, 1, 2)), jnp.zeros((1, 1, 2, 2)))
        >>> print(neighbour_variance(chain, jnp.ones((1, 1, 2))))
        [[[0.125 0.125]]]
    """
    batch, length, k = chain.unary.shape
    steps = length - 1
    if steps < 1:
        q = expectations(chain)[1]
        return _own(q, variance)
    transitions = jnp.broadcast_to(chain.transitions, (chain.transitions.shape[0], steps, k, k))
    _, q, pairs = expectations(chain._replace(transitions=transitions))
    here, rows = jnp.arange(1, length)[None], jnp.arange(batch)[:, None]
    follows = jnp.broadcast_to(edges(chain), (batch, steps))
    if chain.mask is None:
        before = jnp.broadcast_to(here - 1, (batch, steps))
    else:
        turns = jnp.where(chain.mask, jnp.arange(length)[None], 0)
        before = lax.cummax(turns, 1)[:, :-1]
    covariance = pairs - q[rows, before][..., None] * q[:, 1:, None]
    squares = jnp.where(follows[..., None, None], covariance**2, 0)
    later = jnp.einsum("btij,bti->btj", squares, variance[rows, before])
    earlier = jnp.einsum("btij,btj->bti", squares, variance[:, 1:])
    found = _own(q, variance).at[:, 1:].add(later)
    return found.at[rows, before].add(earlier)


def _own(q: Array, variance: Array) -> Array:
    """The part of a position's own potentials, whose covariance is diag(q) - q q^T."""
    everything = jnp.sum(q**2 * variance, -1, keepdims=True)
    return q**2 * ((1 - 2 * q) * variance + everything)
