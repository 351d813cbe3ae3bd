"""RealNVP: affine couplings, each of half of the data given the other half; a density of data."""

from tests.zoo.build import haiku_parts
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    import haiku as hk
    import jax
    import jax.numpy as jnp

    width, couplings = 4, 2

    def network(x, is_training):
        """The log-density of data."""
        log_volume = jnp.zeros(len(x))
        for k in range(couplings):
            a, b = jnp.split(x, 2, -1)
            h = hk.nets.MLP([8, width], name=f"coupling_{k}")(a)
            shift, log_scale = jnp.split(h, 2, -1)
            log_scale = jnp.tanh(log_scale)
            log_volume = log_volume + log_scale.sum(-1)
            x = jnp.concatenate([b * jnp.exp(log_scale) + shift, a], -1)
        return jax.scipy.stats.norm.logpdf(x).sum(-1) + log_volume

    return haiku_parts(network, normal(2, width))


# Of each coupling a relu, and the tanh that bounds its scale: a gate of the other half.
EXAMPLES = (
    Example(
        "RealNVP",
        "haiku",
        "density",
        _make,
        activations=4,
        optional=2,
        errors={"log_joint": "one number for the 2 rows"},
    ),
)
