"""Rectified Gaussians max(leak Y, Y), Y ~ N(e, s(e)^2), whose parameter e is Gaussian itself."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from cgjax._gaussian.bends import moments_of_changes
from cgjax._gaussian.numerics import MeanAndVariance
from cgjax._gaussian.quadrature import rectified_change
from cgjax._gaussian.rectified import bump_and_variance, rectified_moments

# Where a kink at 0 is closer than this, it is treated as this far away.
_SMALLEST_BEND = 1e-4

Nodes = Float[Array, "*nodes"]


def rectified_moments_given(
    mean: Nodes,
    variance: Nodes,
    scale: Callable[..., Nodes],
    leak: Nodes,
    *parameters: Nodes,
) -> tuple[MeanAndVariance, Nodes]:
    """Mean and variance of E[X given e], and the expectation of Var[X given e], by quadrature.

    Args:
        mean, variance: of e.
        scale: the standard deviation of Y given e and the parameters, at least 0.
        leak: from 0 to 1, of the mean's shape.
        parameters: arrays of the mean's shape.
    """

    def base(mean: Nodes, leak: Nodes, *parameters: Nodes) -> list[Nodes]:
        return list(rectified_moments(mean, scale(mean, *parameters), leak))

    def changes(mean: Nodes, by: Nodes, leak: Nodes, *parameters: Nodes) -> list[Nodes]:
        # E[X given e] is the leaky relu of e, whose change is known without rounding, plus
        # (1 - leak) times a small bump.
        there = mean + by
        up = rectified_change(mean, by)
        bump, noise = bump_and_variance(there, scale(there, *parameters), leak)
        bump_here, noise_here = bump_and_variance(mean, scale(mean, *parameters), leak)
        return [up + leak * (by - up) + (1 - leak) * (bump - bump_here), noise - noise_here]

    def bend(mean: Nodes, leak: Nodes, *parameters: Nodes) -> Nodes:
        # A kink at 0 is rounded by the scale there; elsewhere it is |mean| away.
        return jnp.clip(jnp.abs(mean) + scale(mean, *parameters), _SMALLEST_BEND, 1.0)

    (centre, spread), (noise, _) = moments_of_changes(
        base, changes, mean, variance, leak, *parameters, bend=bend
    )
    infinite = variance == jnp.inf
    centre = jnp.where(infinite & (leak < 1), jnp.inf, centre)
    noise_here = base(mean, leak, *parameters)[1]
    noise = jnp.where(noise_here == jnp.inf, noise_here, noise)
    return (centre, jnp.where(infinite, jnp.inf, spread)), noise
