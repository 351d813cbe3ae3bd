"""What the positions of an element-wise function share."""

import jax
import jax.numpy as jnp
from jax import lax

from cgjax._beliefs.pairs import constant_root, over_pairs
from cgjax._beliefs.values import Gaussian, sharing
from cgjax._gaussian.numerics import wide


def correlated(
    x: Gaussian, out: Gaussian, slope: jax.Array | None, bend: jax.Array | None
) -> Gaussian:
    """What the positions of a function of x share, when those of x do.

    By the expansion of a covariance in that of two Gaussians (Price's theorem),

        Cov(f(x_p), f(x_q)) = E[f'_p] E[f'_q] C_pq + E[f''_p] E[f''_q] C_pq^2 / 2 + ...,

    averaged over the pairs of positions, with the derivatives of E[f] by the mean (the slope) and,
    twice, by the variance (the bend) for those of f.
    """
    assert x.correlation is not None and slope is not None and bend is not None
    v = lax.stop_gradient(wide(x.variance))
    gain = None if x.gain is None else wide(x.gain)
    beside = v if gain is None else v - gain**2
    deviation, weight = constant_root(beside), wide(x.correlation)
    shared = weight * over_pairs(slope * deviation, x.axes)
    shared = shared + 2 * weight**2 * over_pairs(bend * beside, x.axes)
    if gain is not None:
        shared = shared + over_pairs(slope * gain, x.axes)
        shared = shared + 2 * over_pairs(bend * gain**2, x.axes)
    return sharing(out.mean, out.variance, jnp.asarray(shared, out.dtype), x.axes).on(x.grid)
