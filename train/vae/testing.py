"""What is measured of a trained network by test images: its log-likelihood, its ELBO, its latent
nodes, and pictures."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import cgjax as cg
from train.engine import loop
from train.models.autoencoder import Shape, decoder, encoder
from train.report.pixels import coded

ELBO_SAMPLES = 10
ACTIVE = 0.01  # Burda, Grosse and Salakhutdinov 2016: the least variance of an active unit's mean
IMAGES, CHUNK = 20, 100  # of which log-likelihoods are computed at a time, and of how many samples
PLANE = 300  # images in the picture of the latent plane


class Figures(NamedTuple):
    """Of one trained network, in nats an image; errors are standard errors."""

    log_likelihood: float  # of all test images, see `log_likelihood`
    log_likelihood_error: float  # of that as an estimate of their mean
    elbo: float  # mean over all test images
    elbo_error: float  # by the scatter of images
    kl: float
    active_units: int


def figures(
    shape: Shape, params: Any, key: Any, x: Float[Array, "n pixels"], images: int, samples: int
) -> Figures:
    """The figures of a network by black and white test images, of which so many, spread evenly, are
    estimated with so many samples each."""
    of_bound, of_samples = jax.random.split(key)
    bounds, kl = (np.asarray(a, np.float64) for a in _elbos(shape)(params, of_bound, x))
    rows = np.arange(images) * len(x) // images
    estimate = _estimates(shape, samples)(params, of_samples, x[rows])
    value, error = log_likelihood(bounds, rows, *map(np.asarray, estimate))
    means = np.asarray(_proposals(shape)(params, x))
    return Figures(
        log_likelihood=value,
        log_likelihood_error=error,
        elbo=float(bounds.mean()),
        elbo_error=float(bounds.std(ddof=1) / len(bounds) ** 0.5),
        kl=float(kl.mean()),
        active_units=int((means.var(0) > ACTIVE).sum()),
    )


def log_likelihood(
    bounds: Float[np.ndarray, " n"],
    rows: np.ndarray,
    estimates: Float[np.ndarray, " m"],
    errors: Float[np.ndarray, " m"],
) -> tuple[float, float]:
    """The mean log-likelihood of n images by their bounds and estimates for some, and its standard
    error.

        mean_n(bound) + mean_m(estimate - bound)

    The second mean varies little from image to image, so that it takes few of them. Its error is of
    m images drawn from n without replacement, and of the estimates with their own errors; for m = n
    the value is the mean of the estimates.

    Args:
        bounds: the ELBO of each image, estimates: the log-likelihood of each image of `rows`,
        errors: the standard error of each of these.
    """
    gaps = estimates.astype(np.float64) - bounds[rows]
    missing = 1 - len(rows) / len(bounds)
    variance = gaps.var(ddof=1) * missing / len(rows) + (errors**2).mean() / len(rows)
    return float(bounds.mean() + gaps.mean()), float(variance**0.5)


@functools.lru_cache
def _elbos(shape: Shape) -> Callable[..., tuple[Array, Array]]:
    """The ELBO and the divergence of each image."""
    bound = jax.vmap(
        cg.elbo(decoder(shape), encoder(shape), num_samples=ELBO_SAMPLES), (0, 0, None)
    )

    @jax.jit
    def found(params: Any, key: Any, x: Array) -> tuple[Array, Array]:
        def some(x: Array, number: Any) -> Array:
            keys = jax.random.split(jax.random.fold_in(key, number), len(x))
            made = bound(keys, {"x": x}, params)
            return jnp.stack([made.value, made.kl], -1)

        values = loop.in_batches(some, x)
        return values[:, 0], values[:, 1]

    return found


@functools.lru_cache
def _estimates(shape: Shape, samples: int) -> Callable[..., cg.Estimate]:
    """The estimated log-likelihood of each image."""
    of_one = cg.log_likelihood(decoder(shape), encoder(shape), num_samples=samples, chunk=CHUNK)

    @jax.jit
    def found(params: Any, key: Any, x: Array) -> cg.Estimate:
        def one(image: tuple[Array, Array]) -> cg.Estimate:
            key, x = image
            return of_one(key, {"x": x}, params)

        return jax.lax.map(one, (jax.random.split(key, len(x)), x), batch_size=IMAGES)

    return found


@functools.lru_cache
def _proposals(shape: Shape) -> Callable[..., Array]:
    """What the guide expects of the latent nodes, for each image."""
    guide = encoder(shape)
    return jax.jit(jax.vmap(lambda params, x: guide({"x": x}, params), (None, 0)))


def pictures(
    shape: Shape, params: Any, key: Any, x: Float[Array, "n pixels"], y: np.ndarray, kept: int
) -> dict[str, Any]:
    """What a result keeps of a network for its figure: images as digits of two hexadecimal places,
    and the latent plane.

    Drawn by the model from its latent nodes ("samples"), given images ("images") and what the model
    makes of the latent nodes that the guide expects of these ("reconstructions"): of each pixel the
    probability that it is white. The plane is that of the first two principal axes of what the
    guide expects of test images, and their classes.
    """
    model, shown = decoder(shape), x[:kept]
    drawn = jax.vmap(cg.pcff(model, 1.0), (0, None))(jax.random.split(key, kept), params)
    means = _proposals(shape)(params, x[:PLANE])

    def given(z: Array) -> Array:
        return cg.clamp(model, {"z": z})(params)

    z = np.asarray(means, np.float64) - np.asarray(means).mean(0)
    axes = np.linalg.svd(z, full_matrices=False)[2][:2]
    return {
        "samples": coded(drawn),
        "images": coded(shown),
        "reconstructions": coded(jax.vmap(given)(means[:kept])),
        "plane": (z @ axes.T).round(2).tolist(),
        "classes": y[:PLANE].tolist(),
    }
