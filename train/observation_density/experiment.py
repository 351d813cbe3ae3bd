"""What a trained network believes it observes: simulated examples ([B] Figure 2).

    python -m train.observation_density                                  # scikit-learn's diabetes
    python -m train.observation_density --data boston --data-dir FOLDER  # [B] Figure 2

[B] samples "uncalibrated probabilities" exp(-E_q[loss(x, y)]) of inputs x and labels y together,
with q the posterior of the weights. As printed that is no density: along inputs on which the loss
does not depend, and wherever a label can follow the prediction, it does not fall, so its integral
is infinite. Here it is multiplied by a prior of the inputs,

    p(x, y)  ~  N(x; m, C) exp(-E_q[loss(x, y)]),

with m and C the mean and the covariance of the training inputs; all columns, also those of ones and
zeros, are taken as real numbers. The loss is the negative log-likelihood of Gaussian noise with a
variance that is learnt. Hamiltonian Monte Carlo (BlackJAX's NUTS, which chooses the length of its
trajectories) samples it: several chains that start at training examples with small perturbations,
each with its own step size and mass matrix from its warm-up; rank-normalised split R-hat of every
coordinate, of the prediction and of the log-density.

Networks with one hidden layer of ReLU, all trained by the same recipe:

- *moments*: q is Gaussian, trained on the ELBO by moments, which also give E_q.
- *ensemble*: independently trained networks; q gives each the same weight.
- *network*: the first of them alone.

**Claims** of the paper: observations of the network trained by moments lie close to the diagonal of
predicted and true labels and where predictions incur less loss; those of independently trained
networks diverge from it. **Expected**: given x, the label of *moments* and *network* is Gaussian
around the prediction with the noise's variance, so that their distance from the diagonal is the
learnt noise and nothing else; only the inputs and the ensemble depend on more.

**Cost**: about two minutes on a CPU core, most of it compilation.

**Left behind** in `--out`: `result.json`, with a thinned sample, and `figure.png`.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Key

import cgjax as cg
from cgjax import metrics, weights
from train.data import uci
from train.models.vgg import Perceptron
from train.report import commandline, machine
from train.report import tables as report
from train.report.files import write_atomic
from train.report.settings import require

CONVERGED = 1.05
Model = Literal["moments", "ensemble", "network"]


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the experiment."""

    data: Literal["diabetes", "boston"] = "diabetes"
    data_dir: Path | None = None
    """The folder with bostonHousing.npz; diabetes needs none."""
    split: int = 0
    """Which of the splits into training and test rows."""
    models: tuple[Model, ...] = ("moments", "ensemble", "network")
    hidden: int = 50
    members: int = 5
    """Independently trained networks."""
    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-2
    initial_variance: float = 0.01
    """Of a weight, relative to its prior's 2 / inputs."""
    chains: int = 4
    warmup: int = 1000
    """Steps in which a chain finds its step size and mass matrix."""
    draws: int = 1000
    """Draws of each chain after that."""
    perturbation: float = 0.1
    """Standard deviation of what is added to the training examples at which chains start, in units
    of the columns' own."""
    kept: int = 400
    """How many draws of a model the result holds, for the figure."""
    seed: int = 0
    out: Path | None = None
    """The folder for results; without it runs/observation_density/DATA."""

    def __post_init__(self) -> None:
        def count(value: int, least: int = 1) -> tuple[bool, str]:
            return value >= least, f"at least {least}"

        require(
            self,
            data_dir=(
                self.data_dir is None or self.data != "diabetes",
                "None for diabetes, which is part of scikit-learn",
            ),
            split=(self.split >= 0, "0 or more"),
            models=(
                len(self.models) > 0 and len(set(self.models)) == len(self.models),
                "at least one, and none twice",
            ),
            hidden=count(self.hidden),
            members=count(self.members, 2),
            epochs=count(self.epochs),
            batch_size=count(self.batch_size),
            learning_rate=(self.learning_rate > 0, "a positive number"),
            initial_variance=(self.initial_variance > 0, "a positive number"),
            # R-hat compares chains, and its estimates of their spread need some.
            chains=count(self.chains, 4),
            warmup=count(self.warmup, 20),
            draws=count(self.draws, 20),
            perturbation=(self.perturbation > 0, "a positive number"),
            kept=count(self.kept),
            seed=(0 <= self.seed < 2**32, "in [0, 2^32)"),
        )


def main(config: Config, command: str, console: Any) -> dict[str, Any]:
    """Trains, samples, and leaves the result behind.

    Args:
        config: the settings.
        command: what was typed, for the result.
        console: the `rich.console.Console` to tell progress on.

    Returns:
        The result, as in `result.json`.

    Raises:
        DataFileError: no data, or a bad file.
        ValueError: the data have no such split.
    """
    from train.observation_density.figure import draw

    table = uci.load_table(config.data, config.data_dir)
    examples = examples_of(table, config.split)
    sizes = f"{len(table.x)} rows of {table.x.shape[1]} features, {len(table.train)} splits"
    source = f"{Path(table.source).name}, {sizes}"
    out = config.out or Path("runs/observation_density") / config.data
    say = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    say(f"{source}; results go to {out}")
    trained = train(config, examples)
    found = {}
    for name in config.models:
        found[name] = observe(config, examples, trained, name)
        say(told(name, found[name]))
    result = {
        "experiment": "examples that a trained network expects",
        "source": "[B] 4.2, Figure 2",
        "command": command,
        "commit": machine.commit(),
        "machine": machine.identity("vmap") | {"blackjax": _version("blackjax")},
        "data": source,
        "settings": settings(config),
        "prior of the inputs": "Gaussian, mean and covariance of the training inputs",
        "sizes": {
            "training examples": len(examples.train_y),
            "test examples": len(examples.test_y),
            "features": examples.train_x.shape[1],
        },
        "training examples": training_points(examples),
        "models": found,
    }
    write_atomic(out / "result.json", json.dumps(result, indent=1, allow_nan=False).encode())
    draw(out / "result.json", out / "figure.png")
    say(f"{out}/result.json, {out}/figure.png")
    return result


def told(name: str, found: dict[str, Any]) -> str:
    """A line about the samples of a model, which says where its chains do not agree."""
    line = (
        f"{name}: largest R-hat {found['largest R-hat']:.3f}, smallest effective sample size "
        f"{found['smallest effective sample size']:.0f}, {found['divergences']} divergences, "
        f"label - prediction {found['label - prediction']['value']:.3f} (root mean square)"
    )
    if not found["converged"]:
        line += f". R-hat exceeds {CONVERGED}: the chains do NOT agree, these are no samples of it"
    return line


def settings(config: Config) -> dict[str, Any]:
    """What the results depend on, in the form that JSON gives back."""
    chosen = dataclasses.asdict(config)
    for name in ("data_dir", "out"):
        del chosen[name]
    return json.loads(json.dumps(chosen))


def _version(package: str) -> str:
    from importlib import metadata

    return metadata.version(package)


# --- data -----------------------------------------------------------------------------------------


def examples_of(table: uci.Table, split: int) -> uci.Scaled:
    """One split, in units of its training rows.

    Raises:
        ValueError: there is no such split, or too few rows for a covariance of the columns.
    """
    if split >= len(table.train):
        raise ValueError(f"split is {split}; expected 0 to {len(table.train) - 1}.")
    rows, columns = len(table.train[split]), table.x.shape[1]
    if rows <= columns:
        raise ValueError(f"{rows} training rows have no covariance of {columns} columns.")
    return uci.scaled(table, split)


# --- networks -------------------------------------------------------------------------------------


class Parameters(NamedTuple):
    """Of a network with its noise; `network` may be a posterior."""

    network: Any
    log_noise: Float[Array, "..."]  # logarithm of the variance of a label


class Trained(NamedTuple):
    """Everything that was trained."""

    f: Callable[..., Any]  # f(params, x) -> one output per example
    posterior: Parameters
    members: Parameters  # arrays with a leading axis of members


def train(config: Config, examples: uci.Scaled) -> Trained:
    """Trains a posterior by moments, and independent networks, by the same recipe.

    Args:
        config: the settings.
        examples: the data.
    """
    features = examples.train_x.shape[1]
    net, _, state = cg.functional(_build(features, config.hidden, jax.random.key(0)))

    def f(params: Any, x: Array) -> Array:
        return net(params, state, x)[0][:, 0]

    def member(key: Any) -> Parameters:
        return Parameters(cg.functional(_build(features, config.hidden, key))[1], jnp.zeros(()))

    scales = _prior(member(jax.random.key(0)).network)
    variance = {name: config.initial_variance * scale**2 for name, scale in scales.items()}

    def bayesian(key: Any) -> Parameters:
        params, noise = member(key)
        return Parameters(weights.mean_field(params, variance), noise)

    def elbo(params: Parameters, x: Array, y: Array) -> Array:
        head = weights.GaussianHead(params.log_noise)
        output = weights.deterministic(f)(None, params.network, x)
        loss = weights.elbo(head, output, y, params.network, scales)
        return loss.per_example(len(examples.train_y))

    def likelihood(params: Parameters, x: Array, y: Array) -> Array:
        return _nll(f, params, x, y).mean()

    keys = jax.random.split(jax.random.key(config.seed), config.members)
    posterior = jax.jit(lambda key: _descend(config, examples, elbo, bayesian(key), key))(keys[0])
    members = jax.jit(
        jax.vmap(lambda key: _descend(config, examples, likelihood, member(key), key))
    )(keys)
    return Trained(f, posterior, members)


def _build(features: int, hidden: int, key: Any) -> nnx.Module:
    return Perceptron((features, hidden, 1), nnx.Rngs(key))


def _prior(params: Any) -> dict[str, float]:
    """Standard deviation of the prior of each kernel, sqrt(2 / inputs), by its name."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        if name.endswith("kernel"):
            found[name] = (2 / leaf.shape[0]) ** 0.5
    return found


def _nll(f: Callable[..., Any], params: Parameters, x: Array, y: Array) -> Array:
    """The negative log-likelihood of each example, for a network whose weights are known."""
    output = f(params.network, x)
    known = cg.Belief(output, jnp.zeros_like(output))
    return weights.GaussianHead(params.log_noise).expected_nll(known, y)


def _descend(
    config: Config,
    examples: uci.Scaled,
    loss: Callable[..., Array],
    params: Parameters,
    key: Key[Array, ""],
) -> Parameters:
    """Adam on batches, every epoch with its own order, and the last examples of it left out."""
    count = len(examples.train_y)
    size = min(config.batch_size, count)
    adam = optax.adam(config.learning_rate)

    train_x, train_y = jnp.asarray(examples.train_x), jnp.asarray(examples.train_y)

    def step(carry: Any, rows: Array) -> Any:
        params, state = carry
        gradient = jax.grad(loss)(params, train_x[rows], train_y[rows])
        change, state = adam.update(gradient, state, params)
        return (optax.apply_updates(params, change), state), None

    def epoch(carry: Any, key: Any) -> Any:
        order = jax.random.permutation(key, count)[: count // size * size]
        return jax.lax.scan(step, carry, order.reshape(-1, size))

    keys = jax.random.split(jax.random.fold_in(key, 1), config.epochs)
    ((params, _), _) = jax.lax.scan(epoch, (params, adam.init(params)), keys)
    return params


# --- the density of observations ------------------------------------------------------------------


class Observation(NamedTuple):
    """An example, or many."""

    x: Float[Array, "*many features"]  # in coordinates in which the prior is N(0, 1)
    y: Float[Array, "*many"]


def expected_loss(trained: Trained, name: Model, x: Array, y: Array) -> Float[Array, ""]:
    """E_q[-log p(y | x)] of one example.

    Args:
        trained: the networks.
        name: which q.
        x: `[features]`.
        y: a number.
    """
    if name == "moments":
        output = weights.deterministic(trained.f)(None, trained.posterior.network, x[None])
        head = weights.GaussianHead(trained.posterior.log_noise)
        return head.expected_nll(output, y[None])[0]
    each = jax.vmap(lambda member: _nll(trained.f, member, x[None], y[None])[0])(trained.members)
    return each.mean() if name == "ensemble" else each[0]


def predictions(trained: Trained, name: Model, x: Array) -> Float[Array, " many"]:
    """The expected label of each input."""
    if name == "moments":
        return weights.deterministic(trained.f)(None, trained.posterior.network, x).mean
    each = jax.vmap(lambda network: trained.f(network, x))(trained.members.network)
    return each.mean(0) if name == "ensemble" else each[0]


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
    """Samples a density by Hamiltonian Monte Carlo, with chains side by side.

    Args:
        density: the logarithm of a density of a tree of arrays, but for a constant.
        key: of `jax.random`.
        initial: where the chains start: a tree with a leading axis of chains.
        warmup: steps in which each chain finds its own step size and diagonal mass matrix.
        draws: steps after that.

    Returns:
        The draws of all chains.
    """
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
            told = (
                state.position,
                state.logdensity,
                info.acceptance_rate,
                info.is_divergent,
                info.num_integration_steps,
            )
            return state, told

        columns: Any = jax.lax.scan(step, adapted.state, jax.random.split(second, draws))[1]
        return Chains(*columns, step_size=adapted.parameters["step_size"])

    count = len(jax.tree.leaves(initial)[0])
    return jax.jit(jax.vmap(chain))(jax.random.split(key, count), initial)


def diagnostics(columns: dict[str, Float[Array, "chains draws"]]) -> dict[str, Any]:
    """Whether chains agree: rank-normalised split R-hat and effective sample size of each column.

    Args:
        columns: what is looked at, by name.

    Returns:
        "R-hat" and "effective sample size" by name, the largest and the smallest of them, and
        "converged": whether no R-hat exceeds 1.05.
    """
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


def observe(config: Config, examples: uci.Scaled, trained: Trained, name: Model) -> dict[str, Any]:
    """Samples of the density of one model, and what they say.

    Args:
        config: the settings.
        examples: the data.
        trained: the networks.
        name: which.

    Returns:
        What `result.json` says of it; labels are in original units.
    """
    root = covariance_root(examples)
    density = functools.partial(log_density, functools.partial(expected_loss, trained, name), root)
    start, key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 2))
    chains = hamiltonian(
        density,
        key,
        initial_observations(config, examples, root, start),
        warmup=config.warmup,
        draws=config.draws,
    )
    x = jnp.einsum("fg,cdg->cdf", root, chains.positions.x)
    y = chains.positions.y
    flat = x.reshape(-1, x.shape[-1])
    predicted = predictions(trained, name, flat).reshape(y.shape)
    members = jax.vmap(lambda network: trained.f(network, flat))(trained.members.network)
    members = members.reshape(-1, *y.shape)
    columns = {f"input {i}": x[..., i] for i in range(x.shape[-1])}
    columns |= {"label": y, "prediction": predicted, "log density": chains.log_density}

    def rms(values: Array) -> dict[str, float]:
        """Root mean square of chains, with the standard error of independent chains."""
        found = report.mean([float(v) for v in jnp.mean(values**2, axis=-1)])
        value = found.value**0.5
        return {
            "value": examples.scale * value,
            "standard error": examples.scale * found.standard_error / max(2 * value, 1e-12),
        }

    every = max(y.size // config.kept, 1)
    components = flat @ principal(examples)
    return {
        **diagnostics(columns),
        "divergences": int(chains.divergent.sum()),
        "acceptance": float(chains.acceptance.mean()),
        "leapfrog steps": float(chains.steps.mean()),
        "step sizes": _rounded(chains.step_size),
        "noise": float(examples.scale * noise(trained, name)),
        "label - prediction": rms(y - predicted),
        # How far the independently trained networks are from the labels of these observations.
        "label - members": rms((y[None] - members).transpose(1, 0, 2).reshape(len(y), -1)),
        "spread of members": rms(members.std(0)),
        "spread of inputs": float(jnp.sqrt(jnp.mean(chains.positions.x**2))),
        "test": test(examples, trained, name),
        "draws": {
            "predicted": _rounded(examples.mean + examples.scale * predicted.reshape(-1)[::every]),
            "label": _rounded(examples.mean + examples.scale * y.reshape(-1)[::every]),
            "first component": _rounded(components[::every, 0]),
            "second component": _rounded(components[::every, 1]),
        },
    }


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


def principal(examples: uci.Scaled) -> Float[Array, "features 2"]:
    """The two directions in which training inputs vary most."""
    _, _, directions = np.linalg.svd(np.asarray(examples.train_x), full_matrices=False)
    return jnp.asarray(np.resize(directions, (2, directions.shape[1])).T)


def noise(trained: Trained, name: Model) -> Float[Array, ""]:
    """The learnt standard deviation of a label around its network's output."""
    if name == "moments":
        return jnp.exp(trained.posterior.log_noise / 2)
    each = jnp.exp(trained.members.log_noise)
    return jnp.sqrt(each.mean()) if name == "ensemble" else jnp.sqrt(each[0])


def test(examples: uci.Scaled, trained: Trained, name: Model) -> dict[str, float]:
    """Root mean square error and negative log-likelihood of test examples, in original units."""
    x, y = jnp.asarray(examples.test_x), jnp.asarray(examples.test_y)
    if name == "moments":
        output = weights.deterministic(trained.f)(None, trained.posterior.network, x)
        head = weights.GaussianHead(trained.posterior.log_noise)
        nll = head.marginal_nll(output, y).mean()
    else:
        each = jax.vmap(lambda member: -_nll(trained.f, member, x, y))(trained.members)
        each = each if name == "ensemble" else each[:1]
        nll = -(jax.nn.logsumexp(each, axis=0) - np.log(len(each))).mean()
    error = metrics.rmse(predictions(trained, name, x), y)
    return {
        "rmse": float(examples.scale * error),
        "nll": float(nll + np.log(examples.scale)),
    }


def training_points(examples: uci.Scaled) -> dict[str, Any]:
    """The training examples as the figure shows them."""
    components = examples.train_x @ principal(examples)
    return {
        "label": _rounded(examples.mean + examples.scale * examples.train_y),
        "first component": _rounded(components[:, 0]),
        "second component": _rounded(components[:, 1]),
    }


def _rounded(values: Any) -> list[float]:
    """Four digits, which a figure cannot tell from more."""
    return [float(f"{v:.4g}") for v in np.asarray(values, np.float64).reshape(-1)]


def cli(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commandline.run(
        "train.observation_density",
        Config,
        "train.observation_density.experiment",
        description="Examples that a trained network expects ([B] Figure 2).",
        example="python -m train.observation_density",
        continues=None,
        arguments=arguments,
    )
