"""Rectified Gaussians max(leak Y, Y), Y ~ N(e, s(e)^2), whose parameter e is Gaussian itself."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cgjax._gaussian.numerics import MeanAndVariance, share
from cgjax._gaussian.quadrature import moments_of_changes, rectified_change
from cgjax._gaussian.rectified import rectified_moments

# Where a kink at 0 is closer than this, it is treated as this far away.
_SMALLEST_BEND = 1e-4

Nodes = Float[Array, "*nodes"]


def rectified_moments_given(
    mean: Nodes, variance: Nodes, scale: Callable[[Nodes], Nodes], leak: Nodes
) -> tuple[MeanAndVariance, Nodes]:
    """Mean and variance of E[X given e], and the expectation of Var[X given e], by quadrature.

    Args:
        mean, variance: of e.
        scale: the standard deviation of Y given e, at least 0.
        leak: from 0 to 1, of the mean's shape.
    """
    zero = jnp.zeros((), mean.dtype)

    def bump(e: Nodes) -> Nodes:
        # E[max(Y, 0)] - max(e, 0), which is E[max(Y, 0)] at -|e|.
        return rectified_moments(jnp.where(e > 0, -e, e), scale(e), zero)[0]

    here, noise_here = rectified_moments(mean, scale(mean), leak)
    bump_here = bump(mean)

    def changes(displacement: Nodes) -> list[Nodes]:
        # E[X given e] is the leaky relu of e, whose change is known without rounding, plus
        # (1 - leak) times a small bump.
        there = mean + displacement
        up = rectified_change(mean, displacement)
        linear = up + leak * (displacement - up)
        of_mean = linear + (1 - leak) * (bump(there) - bump_here)
        return [of_mean, rectified_moments(there, scale(there), leak)[1] - noise_here]

    # A kink at 0 is rounded by the scale there; elsewhere it is |mean| away.
    bend = lax.stop_gradient(jnp.clip(jnp.abs(mean) + scale(mean), _SMALLEST_BEND, 1.0))
    (shift, spread), (noise, _) = moments_of_changes(changes, mean, variance, bend)
    infinite = variance == jnp.inf
    given_mean = jnp.where(infinite, share(1 - leak, jnp.full_like(mean, jnp.inf)), shift)
    given_variance = jnp.where(infinite, jnp.inf, spread)
    noise = jnp.where(noise_here == jnp.inf, 0, noise)
    return (here + given_mean, given_variance), noise_here + noise
