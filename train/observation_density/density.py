"""The density of observations of a model, and what samples of it say."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from train.data import uci
from train.observation_density import settings
from train.observation_density.sampling import diagnostics, hamiltonian
from train.observation_density.settings import Config
from train.observation_density.training import Trained
from train.report.statistics import mean


class Observation(NamedTuple):
    """An example, or many."""

    x: Float[Array, "*many features"]  # in coordinates in which the prior is N(0, 1)
    y: Float[Array, "*many"]


def log_density(
    loss: Callable[[Array, Array], Array], root: Float[Array, "features features"], o: Observation
) -> Float[Array, ""]:
    """log N(x; 0, C) - E_q[loss(x, y)], but for a constant, at x = root @ o.x.

    Args:
        loss: the expected loss of one example.
        root: the Cholesky factor of the covariance C of the inputs, whose mean is 0.
        o: one observation.
    """
    return -jnp.sum(o.x**2) / 2 - loss(root @ o.x, o.y)


def covariance_root(examples: uci.Scaled) -> Float[Array, "features features"]:
    """The Cholesky factor of the covariance of the training inputs, whose mean is 0.

    A column that is a function of others would make it singular: a millionth is added to each
    variance.
    """
    x = np.asarray(examples.train_x, np.float64)
    covariance = np.cov(x.T, bias=True).reshape(x.shape[1], x.shape[1])
    return jnp.asarray(np.linalg.cholesky(covariance + 1e-6 * np.eye(len(covariance))), jnp.float32)


def initial_observations(
    config: Config, examples: uci.Scaled, root: Array, key: Key[Array, ""]
) -> Observation:
    """Training examples, one for each chain, with small perturbations."""
    keys = jax.random.split(key, 3)
    rows = jax.random.choice(keys[0], len(examples.train_y), (config.chains,), replace=False)
    x, y = examples.train_x[rows], examples.train_y[rows]
    x = x + config.perturbation * jax.random.normal(keys[1], x.shape)
    y = y + config.perturbation * jax.random.normal(keys[2], y.shape)
    return Observation(jax.scipy.linalg.solve_triangular(root, x.T, lower=True).T, y)


def observe(
    config: Config, examples: uci.Scaled, trained: Trained, name: settings.Model
) -> dict[str, Any]:
    """Samples of the density of one model, and what they say.

    Args:
        config: the settings.
        examples: the data.
        trained: the networks.
        name: which.

    Returns:
        What `result.json` says of it; labels are in original units.
    """
    model, root = trained.model(name), covariance_root(examples)
    start, key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 2))
    chains = hamiltonian(
        functools.partial(log_density, model.expected_loss, root),
        key,
        initial_observations(config, examples, root, start),
        warmup=config.warmup,
        draws=config.draws,
    )
    x = jnp.einsum("fg,cdg->cdf", root, chains.positions.x)
    y = chains.positions.y
    flat = x.reshape(-1, x.shape[-1])
    predicted = model.predictions(flat).reshape(y.shape)
    members = jax.vmap(lambda network: trained.f(network, flat))(trained.members.network)
    members = members.reshape(-1, *y.shape)
    columns = {f"input {i}": x[..., i] for i in range(x.shape[-1])}
    columns |= {"label": y, "prediction": predicted, "log density": chains.log_density}

    def rms(values: Array) -> dict[str, float]:
        """Root mean square of chains, with the standard error of independent chains."""
        found = mean([float(v) for v in jnp.mean(values**2, axis=-1)])
        value = found.value**0.5
        return {
            "value": examples.scale * value,
            "standard error": examples.scale * found.standard_error / max(2 * value, 1e-12),
        }

    every = max(y.size // config.kept, 1)
    return {
        **diagnostics(columns),
        "divergences": int(chains.divergent.sum()),
        "acceptance": float(chains.acceptance.mean()),
        "leapfrog steps": float(chains.steps.mean()),
        "step sizes": _rounded(chains.step_size),
        "noise": float(examples.scale * model.noise),
        "label - prediction": rms(y - predicted),
        # How far the independently trained networks are from the labels of these observations.
        "label - members": rms((y[None] - members).transpose(1, 0, 2).reshape(len(y), -1)),
        "spread of members": rms(members.std(0)),
        "spread of inputs": float(jnp.sqrt(jnp.mean(chains.positions.x**2))),
        "test": model.test(examples),
        "draws": {
            "predicted": _rounded(examples.mean + examples.scale * predicted.reshape(-1)[::every]),
            **_drawn(examples, flat, y.reshape(-1), every),
        },
    }


def training_points(examples: uci.Scaled) -> dict[str, list[float]]:
    """The training examples as the figure shows them."""
    return _drawn(examples, examples.train_x, examples.train_y)


def _drawn(examples: uci.Scaled, x: Any, y: Any, every: int = 1) -> dict[str, list[float]]:
    """Labels in original units, and inputs along the two directions in which training inputs vary
    most; one in so many."""
    _, _, directions = np.linalg.svd(np.asarray(examples.train_x), full_matrices=False)
    components = x @ jnp.asarray(np.resize(directions, (2, directions.shape[1])).T)
    return {
        "label": _rounded(examples.mean + examples.scale * y[::every]),
        "first component": _rounded(components[::every, 0]),
        "second component": _rounded(components[::every, 1]),
    }


def _rounded(values: Any) -> list[float]:
    """Four digits, which a figure cannot tell from more."""
    return [float(f"{v:.4g}") for v in np.asarray(values, np.float64).reshape(-1)]
