"""A variational autoencoder: an encoder of a mean and a scale, a draw, and a decoder."""

from tests.zoo.build import nnx_parts
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    pixels, hidden, latent = 6, 8, 2

    class VAE(nnx.Module):
        def __init__(self, rngs):
            self.encoder = nnx.Linear(pixels, hidden, rngs=rngs)
            self.mean = nnx.Linear(hidden, latent, rngs=rngs)
            self.log_variance = nnx.Linear(hidden, latent, rngs=rngs)
            self.decoder = nnx.Linear(latent, hidden, rngs=rngs)
            self.output = nnx.Linear(hidden, pixels, rngs=rngs)

        def __call__(self, x, key):
            h = nnx.relu(self.encoder(x))
            mean, log_variance = self.mean(h), self.log_variance(h)
            z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
            divergence = 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance).sum(-1)
            return nnx.sigmoid(self.output(nnx.relu(self.decoder(z)))), divergence

    return nnx_parts(VAE, normal(2, pixels), jax.random.key(2))


# A relu of each half, and the logistic of the result.
EXAMPLES = (
    Example(
        "VAE",
        "nnx",
        "latent",
        _make,
        activations=3,
        errors={"log_joint": "one number for the 2 rows"},
    ),
)
