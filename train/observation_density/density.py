"""The density of observations of a model, samples of it by Hamiltonian Monte Carlo, and what these
say."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from train.data import uci
from train.observation_density import settings
from train.observation_density.settings import Config
from train.observation_density.training import Trained
from train.report.statistics import mean

CONVERGED = 1.05  # the largest R-hat of chains that agree


class Observation(NamedTuple):
    """An example, or many."""

    x: Float[Array, "*many features"]  # in coordinates in which the prior is N(0, 1)
    y: Float[Array, "*many"]


def log_density(
    loss: Callable[[Array, Array], Array], root: Float[Array, "features features"], o: Observation
) -> Float[Array, ""]:
    """log N(x; 0, C) - E_q[loss(x, y)], but for a constant, at x = root @ o.x of one observation,
    with the Cholesky factor of the covariance C of the inputs, whose mean is 0."""
    return -jnp.sum(o.x**2) / 2 - loss(root @ o.x, o.y)


class Chains(NamedTuple):
    """What Hamiltonian Monte Carlo made."""

    positions: Any  # as the initial ones, with axes [chains, draws] in front
    log_density: Float[Array, "chains draws"]
    acceptance: Float[Array, "chains draws"]
    divergent: Any  # bool[chains, draws]
    steps: Any  # int[chains, draws], leapfrog steps of each draw
    step_size: Float[Array, " chains"]


def hamiltonian(
    density: Callable[[Any], Array], key: Key[Array, ""], initial: Any, *, warmup: int, draws: int
) -> Chains:
    """Samples the logarithm of a density of a tree of arrays, known but for a constant, by
    Hamiltonian Monte Carlo: chains side by side that start at a tree with a leading axis of chains.
    In the steps of the warm-up each chain finds its own step size and diagonal mass matrix."""
    import blackjax

    # Its annotations do not name what its functions return.
    windows: Any = blackjax.window_adaptation
    nuts: Any = blackjax.nuts

    def chain(key: Any, position: Any) -> Chains:
        first, second = jax.random.split(key)
        adapted, _ = windows(nuts, density).run(first, position, num_steps=warmup)
        kernel = nuts(density, **adapted.parameters)

        def step(state: Any, key: Any) -> Any:
            state, info = kernel.step(key, state)
            rate, steps = info.acceptance_rate, info.num_integration_steps
            return state, (state.position, state.logdensity, rate, info.is_divergent, steps)

        columns: Any = jax.lax.scan(step, adapted.state, jax.random.split(second, draws))[1]
        return Chains(*columns, step_size=adapted.parameters["step_size"])

    count = len(jax.tree.leaves(initial)[0])
    return jax.jit(jax.vmap(chain))(jax.random.split(key, count), initial)


def diagnostics(columns: dict[str, Float[Array, "chains draws"]]) -> dict[str, Any]:
    """Whether chains agree: rank-normalised split R-hat and effective sample size of each column by
    name, the largest and the smallest of them, and "converged": whether no R-hat exceeds 1.05."""
    from blackjax.diagnostics import ess_bulk, rhat

    stacked = jnp.stack(list(columns.values()), axis=-1)
    # Inside, BlackJAX relies on what the strict setting forbids.
    with jax.numpy_rank_promotion("allow"):
        both = jax.jit(lambda draws: (rhat(draws), ess_bulk(draws)))(stacked)
    ratios, sizes = (np.asarray(each, np.float64).reshape(-1) for each in both)
    # A column that never moves has none; it did not converge.
    ratios = np.where(np.isfinite(ratios), ratios, 1e6)
    sizes = np.where(np.isfinite(sizes), sizes, 0.0)
    return {
        "R-hat": dict(zip(columns, ratios.round(4).tolist(), strict=True)),
        "effective sample size": dict(zip(columns, sizes.round(1).tolist(), strict=True)),
        "largest R-hat": float(ratios.max()),
        "smallest effective sample size": float(sizes.min()),
        "converged": bool(ratios.max() <= CONVERGED),
    }


def covariance_root(examples: uci.Scaled) -> Float[Array, "features features"]:
    """The Cholesky factor of the covariance of the training inputs, whose mean is 0. A column that
    is a function of others would make it singular: a millionth is added to each variance."""
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
    """Samples of the density of one model, and what `result.json` says of them; labels are in
    original units."""
    model, root = trained.model(name), covariance_root(examples)
    start, key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 2))
    density = functools.partial(log_density, model.expected_loss, root)
    initial = initial_observations(config, examples, root, start)
    chains = hamiltonian(density, key, initial, warmup=config.warmup, draws=config.draws)

    @jax.jit
    def seen(chains: Chains) -> tuple[Array, Array, Array, dict[str, Array], Array]:
        """Observations, predictions of their labels, squares averaged over each chain, and that of
        the inputs."""
        x, y = jnp.einsum("fg,cdg->cdf", root, chains.positions.x), chains.positions.y
        flat = x.reshape(-1, x.shape[-1])
        predicted = model.predictions(flat).reshape(y.shape)
        members = jax.vmap(lambda network: trained.f(network, flat))(trained.members.network)
        members = members.reshape(-1, *y.shape)
        distances = {
            "label - prediction": y - predicted,
            # How far the independently trained networks are from the labels of these observations.
            "label - members": (y[None] - members).transpose(1, 0, 2).reshape(len(y), -1),
            "spread of members": members.std(0),
        }
        squares = {name: jnp.mean(d**2, axis=-1) for name, d in distances.items()}
        return x, y, predicted, squares, jnp.sqrt(jnp.mean(chains.positions.x**2))

    x, y, predicted, squares, spread = jax.tree.map(np.asarray, seen(chains))
    columns = {f"input {i}": x[..., i] for i in range(x.shape[-1])}
    columns |= {"label": y, "prediction": predicted, "log density": chains.log_density}

    def rms(squares: Float[Array, " chains"]) -> dict[str, float]:
        """Root mean square of chains, with the standard error of independent chains."""
        found = mean([float(v) for v in squares])
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
        **{name: rms(values) for name, values in squares.items()},
        "spread of inputs": float(spread),
        "test": model.test(examples),
        "draws": {
            "predicted": _rounded(examples.mean + examples.scale * predicted.reshape(-1)[::every]),
            **drawn(examples, x.reshape(-1, x.shape[-1]), y.reshape(-1), every),
        },
    }


def drawn(examples: uci.Scaled, x: Any, y: Any, every: int = 1) -> dict[str, list[float]]:
    """Examples as the figure shows them, one in so many: labels in original units, and inputs along
    the two directions in which training inputs vary most."""
    _, _, directions = np.linalg.svd(np.asarray(examples.train_x), full_matrices=False)
    components = np.asarray(x) @ np.resize(directions, (2, directions.shape[1])).T
    return {
        "label": _rounded(examples.mean + examples.scale * y[::every]),
        "first component": _rounded(components[::every, 0]),
        "second component": _rounded(components[::every, 1]),
    }


def _rounded(values: Any) -> list[float]:
    """Four digits, which a figure cannot tell from more."""
    return [float(f"{v:.4g}") for v in np.asarray(values, np.float64).reshape(-1)]
