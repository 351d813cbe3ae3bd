"""Variance of gradients by batch size, and learning curves, of procedures for weights ([B] Fig. 1).

    python -m train.gradient_variance                                  # scikit-learn's digits
    python -m train.gradient_variance --data mnist --data-dir FOLDER   # [B] Figure 1 a, b
    python -m train.gradient_variance --data cifar10 --network vgg16   # [B] Figure 1 c, d, on a GPU
    python -m train.gradient_variance --data cifar10 --network small_vgg --images 2000

A dense network with two hidden layers of ReLU, or a VGG without normalisation; kernels are
Gaussian, biases are numbers. Five procedures compute the gradient of the expected negative
log-likelihood of a batch: by moments, by local reparameterisation, by flipout, by one weight sample
for the batch, and plainly, of the network at the means of its weights.

**Measured** (`train/gradient_variance/noise.py` has the definitions and estimators):

- *variance*: the trace of the covariance of the gradient with respect to the means of the kernels,
  and with respect to their log-variances; due to the noise of the weights at a fixed batch, and to
  that and the choice of the batch together; by batch size. All procedures at the same posterior:
  the initial one, and the one that training by `--trained-by` led to.
- *bias*: the distance of the expected gradient from that of flipout, which is unbiased, relative to
  the norm of the latter, at a fixed batch and the same posteriors.
- *cost*: the time of a gradient.
- *learning curves*: every procedure trained by the same recipe from the same initial means, by Adam
  on the negative ELBO divided by the number of examples (plainly: on the negative log-likelihood).
  Negative log-likelihood and error on validation images after each epoch; on test images once, with
  the weights of the lowest validation loss. Predictions are those of moments and the average of
  weight samples, the same ways for all.

**Claims** of the paper, whose figure gives no numbers: the noise of weights is substantial compared
with that of batches; learning by moments converges faster than weight sampling and than networks
that are not Bayesian. **Expected**: moments have no variance but the batch's; that of one weight
sample for the batch does not fall with the batch size, those of local reparameterisation and
flipout fall as its inverse.

The paper states no recipe, prior or network size: those here are ours.

**Cost**: digits three minutes of CPU time, most of it compilation; MNIST with 200 nodes and five
epochs four. The small VGG is slower on a CPU, with a minute to compile moments for each batch size:
2,000 images, five epochs and few measurements took half an hour of one core. VGG16 is meant for a
GPU, on which it was not run.

**Left behind** in `--out`: `result.json`, `figure.png`, and the checkpoint of the training, from
which the same command continues.
"""

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

import cgjax as cg
from cgjax import metrics, weights
from train import data
from train.data import Dataset
from train.engine import loop
from train.engine.loop import Learner
from train.engine.recipes import PlateauRecipe
from train.engine.runs import Display, Finished, Group, train
from train.gradient_variance import noise as gradient_noise
from train.models.vgg import SMALL, VGG, VGG16, Perceptron
from train.report import commandline, machine
from train.report import tables as report
from train.report.files import write_atomic
from train.report.settings import require

CLASSES = 10
HEAD = weights.CategoricalHead()
REFERENCE = "flipout"  # its expectation is exact for any network
_VARIANCE, _BIAS = 10, 11  # streams of the key besides those of train.engine.loop

Data = Literal["digits", "mnist", "fashion_mnist", "cifar10"]
Network = Literal["dense", "small_vgg", "vgg16"]
Name = Literal["moments", "local", "flipout", "weights", "plain"]


class Procedure(NamedTuple):
    """A way to compute outputs of a network with uncertain weights."""

    transform: Callable[..., Any] | None  # none: the network at the means of its weights
    random: bool


PROCEDURES = {
    "moments": Procedure(weights.deterministic, random=False),
    "local": Procedure(weights.local_reparameterization, random=True),
    "flipout": Procedure(weights.flipout, random=True),
    "weights": Procedure(weights.weight_sample, random=True),
    "plain": Procedure(None, random=False),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the experiment."""

    data: Data = "digits"
    data_dir: Path | None = None
    """A folder with the files of the data set, see train/data."""
    network: Network | None = None
    """Without it dense, and for cifar10 small_vgg."""
    hidden: int | None = None
    """Nodes of each of the two hidden layers of a dense network; without it 64 for digits, 400."""
    images: int | None = None
    """How many training images are used; without it all."""
    evaluation_images: int | None = None
    """How many validation and how many test images are used; without it all."""
    procedures: tuple[Name, ...] = ("moments", "local", "flipout", "weights", "plain")
    seeds: tuple[int, ...] = (0,)
    """Of the trainings; variances are measured for the first."""
    initial_variance: float = 0.1
    """The initial variance of a kernel, relative to the prior's."""
    prior_scale: float = 1.0
    """The prior's standard deviation, relative to sqrt(2 / inputs)."""
    temperature: float = 1.0
    """The weight of the divergence in the objective; 1 is the ELBO."""
    batch_size: int | None = None
    """Of training, and of the measurements of bias and cost; without it 32 for digits, 128."""
    learning_rate: float = 1e-3
    epochs: int | None = None
    """Of training; without it 20 for digits, 10."""
    batch_sizes: tuple[int, ...] = (8, 32, 128, 512)
    """Where variances are measured."""
    pairs: int = 24
    """Pairs of batches of each measurement of a variance."""
    draws: int = 4
    """Draws of the noise of weights for each batch there."""
    bias_draws: int = 64
    """Draws of each of eight estimates of a bias."""
    trained_by: Name = "moments"
    """Whose posterior is the trained one."""
    samples: int = 32
    """Weight samples of a prediction of test images."""
    rounds: int = 9
    """Rounds of the measurement of cost."""
    out: Path | None = None
    """The folder for results; without it runs/gradient_variance/DATA."""
    save_seconds: float = 30.0
    """The least time between two checkpoints."""

    def __post_init__(self) -> None:
        def chosen(values: Sequence[Any]) -> tuple[bool, str]:
            fits = len(values) > 0 and len(set(values)) == len(values)
            return fits, "at least one, and none twice"

        def count(value: int | None, least: int = 1) -> tuple[bool, str]:
            return value is None or value >= least, f"at least {least}"

        def positive(value: float) -> tuple[bool, str]:
            return 0 < value < math.inf, "a positive number"

        coloured = self.data == "cifar10"
        require(
            self,
            procedures=chosen(self.procedures),
            seeds=chosen(self.seeds),
            data_dir=(
                self.data_dir is None or self.data != "digits",
                "None for digits, which are part of scikit-learn",
            ),
            network=(
                self.network in (None, "dense") or coloured,
                "dense: the VGG networks are for cifar10",
            ),
            hidden=count(self.hidden),
            images=count(self.images),
            evaluation_images=count(self.evaluation_images),
            initial_variance=positive(self.initial_variance),
            prior_scale=positive(self.prior_scale),
            temperature=(self.temperature >= 0, "0 or more"),
            batch_size=count(self.batch_size),
            learning_rate=positive(self.learning_rate),
            epochs=count(self.epochs),
            pairs=count(self.pairs, 2),
            draws=count(self.draws, 2),
            bias_draws=count(self.bias_draws, 2),
            trained_by=(self.trained_by in self.procedures, "one of the procedures"),
            samples=count(self.samples),
            rounds=count(self.rounds),
            save_seconds=(self.save_seconds >= 0, "0 or more"),
            batch_sizes=chosen(self.batch_sizes),
        )
        require(
            self,
            seeds=(all(0 <= s < 2**32 for s in self.seeds), "in [0, 2^32)"),
            batch_sizes=(min(self.batch_sizes) >= 1, "at least 1 each"),
            trained_by=(self.trained_by != "plain", "a procedure that trains a posterior"),
        )


def main(config: Config, command: str, console: Any) -> dict[str, Any]:
    """Trains, measures, and leaves the result behind.

    Args:
        config: the settings.
        command: what was typed, for the result.
        console: the `rich.console.Console` to tell progress on.

    Returns:
        The result, as in `result.json`.

    Raises:
        DataFileError: no data, or bad files.
        CheckpointError: see `train.engine.runs.train`.
    """
    from train.engine.progress import ProgressBar
    from train.gradient_variance.figure import draw

    dataset = restricted(config, data.load(config.data, config.data_dir))
    out = config.out or Path("runs/gradient_variance") / config.data
    say = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    say(f"{dataset.source}; results go to {out}")
    with ProgressBar(epochs(config), len(config.procedures) * len(config.seeds), console) as bar:
        finished = learn(config, dataset, out / "checkpoint", bar)
    runs = [test(config, dataset, *pair) for pair in zip(all_runs(config), finished, strict=True)]
    points = posteriors(config, dataset, finished)
    result = {
        "experiment": "variance of gradients and learning curves of procedures for weights",
        "source": "[B] 4.1, Figure 1",
        "command": command,
        "commit": machine.commit(),
        "machine": machine.identity(mode(config)),
        "data": dataset.source,
        "settings": settings(config),
        "sizes": sizes(config, dataset),
        "variance": variances(config, dataset, points, say),
        "bias": biases(config, dataset, points, say),
        "cost": costs(config, dataset, points["initial"]),
        "runs": runs,
    }
    write_atomic(out / "result.json", json.dumps(result, indent=1, allow_nan=False).encode())
    draw([out / "result.json"], out / "figure.png")
    console.print(*tables(result))
    say(f"{out}/result.json, {out}/figure.png")
    return result


# --- settings -------------------------------------------------------------------------------------


def settings(config: Config) -> dict[str, Any]:
    """What the results depend on, in the form that JSON gives back."""
    chosen = dataclasses.asdict(config)
    chosen |= {"network": network(config), "hidden": hidden(config)}
    chosen |= {"batch_size": batch_size(config), "epochs": epochs(config)}
    for name in ("data_dir", "out", "save_seconds"):
        del chosen[name]
    return json.loads(json.dumps(chosen))


def network(config: Config) -> Network:
    """Which network."""
    if config.network is not None:
        return config.network
    return "small_vgg" if config.data == "cifar10" else "dense"


def hidden(config: Config) -> int | None:
    """The width of the hidden layers of a dense network."""
    if network(config) != "dense":
        return None
    return config.hidden or (64 if config.data == "digits" else 400)


def batch_size(config: Config) -> int:
    """Of training."""
    return config.batch_size or (32 if config.data == "digits" else 128)


def epochs(config: Config) -> int:
    """Of training."""
    return config.epochs or (20 if config.data == "digits" else 10)


def mode(config: Config) -> loop.Mode:
    """Seeds side by side where the device has room for them."""
    roomy = jax.default_backend() != "cpu" or config.data == "digits"
    return "vmap" if roomy else "sequential"


def restricted(config: Config, dataset: Dataset) -> Dataset:
    """The images that are used."""
    some, few = slice(config.images), slice(config.evaluation_images)
    return dataset._replace(
        train_x=dataset.train_x[some],
        train_y=dataset.train_y[some],
        validation_x=dataset.validation_x[few],
        validation_y=dataset.validation_y[few],
        test_x=dataset.test_x[few],
        test_y=dataset.test_y[few],
    )


def sizes(config: Config, dataset: Dataset) -> dict[str, int]:
    """The sizes of data and network."""
    posterior = initial(config, dataset.train_x.shape[1], len(dataset.train_x))
    kernels = [leaf.mean.size for leaf in uncertain(posterior)]
    return {
        "training images": len(dataset.train_x),
        "validation images": len(dataset.validation_x),
        "test images": len(dataset.test_x),
        "uncertain weights": sum(kernels),
        "parameters": sum(a.size for a in jax.tree.leaves(weights.means(posterior))),
    }


def uncertain(posterior: Any) -> list[Any]:
    """The distributions among the leaves of a posterior."""
    leaves = jax.tree.leaves(posterior, is_leaf=lambda x: isinstance(x, weights.Normal))
    return [leaf for leaf in leaves if isinstance(leaf, weights.Normal)]


# --- networks and procedures ----------------------------------------------------------------------


class Learning(NamedTuple):
    """A network, and its prior."""

    f: Callable[..., Any]  # f(params, state, x) -> (logits, state)
    state: Any
    prior: dict[str, float]  # standard deviation by the name of each kernel

    def output(self, procedure: Name, key: Any, posterior: Any, x: Array) -> cg.Belief:
        """The belief about the logits."""
        transform = PROCEDURES[procedure].transform
        if transform is None:
            logits = self.f(weights.means(posterior), self.state, x)[0]
            return cg.Belief(logits, jnp.zeros_like(logits))
        return transform(self.f)(key, posterior, self.state, x)[0]

    def gradient(
        self, procedure: Name, key: Any, posterior: Any, x: Array, y: Array
    ) -> dict[str, Any]:
        """The gradient of the expected negative log-likelihood of a batch, by means and by
        log-variances of the kernels. The divergence has no noise, and is left out."""

        def loss(posterior: Any) -> Array:
            return HEAD.expected_nll(self.output(procedure, key, posterior, x), y).mean()

        kernels = uncertain(jax.grad(loss)(posterior))
        return {
            "means": [kernel.mean for kernel in kernels],
            "log variances": [kernel.log_variance for kernel in kernels],
        }


@functools.lru_cache
def learning(which: Network, features: int, hidden: int | None, prior_scale: float) -> Learning:
    """A network as a function, without its weights.

    Args:
        which: the network.
        features: the number of its inputs.
        hidden: the number of nodes of each hidden layer of a dense one.
        prior_scale: see `Config`.
    """
    abstract = nnx.eval_shape(lambda: _build(which, features, hidden, jax.random.key(0)))
    f, params, state = cg.functional(abstract)
    prior = {name: prior_scale * scale for name, scale in _scales(params).items()}
    return Learning(f, state, prior)


def _build(which: Network, features: int, hidden: int | None, key: Any) -> nnx.Module:
    rngs = nnx.Rngs(key)
    if which == "dense":
        assert hidden is not None
        return Perceptron((features, hidden, hidden, CLASSES), rngs)
    side = math.isqrt(features // 3)
    return VGG(VGG16 if which == "vgg16" else SMALL, side, 3, CLASSES, rngs)


def _scales(params: Any) -> dict[str, float]:
    """sqrt(2 / inputs) of each kernel, which keeps the size of ReLU activations, by its name."""
    scales = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        if name.endswith("kernel"):
            scales[name] = math.sqrt(2 / math.prod(leaf.shape[:-1]))
    return scales


def _learning(config: Config, features: int) -> Learning:
    return learning(network(config), features, hidden(config), config.prior_scale)


def _begin(config: Config, features: int, key: Any) -> Any:
    """An initial posterior."""
    built = cg.functional(_build(network(config), features, hidden(config), key))[1]
    prior = _learning(config, features).prior
    variance = {name: config.initial_variance * scale**2 for name, scale in prior.items()}
    return weights.mean_field(built, variance)


@functools.lru_cache
def initial(config: Config, features: int, examples: int) -> Any:
    """The posterior that training with the first seed begins with."""
    begin = learner(config, config.trained_by, features, examples)
    run = functools.partial(loop.init_run, begin, _recipe(config))
    return jax.jit(lambda key: run(key).variables.params)(
        jax.random.key_data(jax.random.key(config.seeds[0]))
    )


# --- learning curves ------------------------------------------------------------------------------


def all_runs(config: Config) -> list[tuple[Name, int]]:
    """Procedure and seed of each training, in the order of the results."""
    return [(procedure, seed) for procedure in config.procedures for seed in config.seeds]


def learn(
    config: Config, dataset: Dataset, folder: Path | None, display: Display | None = None
) -> list[Finished]:
    """Trains by every procedure.

    Args:
        config: the settings.
        dataset: the data.
        folder: where the checkpoint lies, if any.
        display: where progress is told.
    """
    chosen = settings(config) | {"data digest": dataset.digest}
    # What is measured of a training has no influence on it.
    for name in ("batch_sizes", "pairs", "draws", "bias_draws", "trained_by", "samples", "rounds"):
        del chosen[name]
    return train(
        groups(config, dataset),
        dataset,
        _recipe(config),
        mode=mode(config),
        folder=folder,
        settings=chosen,
        save_seconds=config.save_seconds,
        display=display,
    )


def _recipe(config: Config) -> PlateauRecipe:
    return PlateauRecipe(
        batch_size=batch_size(config),
        learning_rate=config.learning_rate,
        epochs=epochs(config),
        # The same rate for all, until the last epoch.
        plateau_patience=epochs(config),
        stop_patience=epochs(config),
    )


def groups(config: Config, dataset: Dataset) -> list[Group]:
    """The programs of the trainings: one for each procedure, or for each of its seeds."""
    together = [config.seeds] if mode(config) == "vmap" else [(seed,) for seed in config.seeds]
    return [
        Group(
            name=f"{procedure} {seeds[0]}" if len(together) > 1 else procedure,
            learner=learner(config, procedure, dataset.train_x.shape[1], len(dataset.train_x)),
            runs=tuple(f"{procedure} {seed}" for seed in seeds),
            keys=np.stack([jax.random.key_data(jax.random.key(seed)) for seed in seeds]),
            hyper=np.zeros(len(seeds), np.float32),
        )
        for procedure in config.procedures
        for seeds in together
    ]


@functools.lru_cache
def learner(config: Config, procedure: Name, features: int, examples: int) -> Learner:
    """What is trained by a procedure."""
    learning = _learning(config, features)

    def init(key: Any) -> Any:
        posterior = _begin(config, features, key)
        return weights.means(posterior) if procedure == "plain" else posterior

    def loss(posterior: Any, key: Any, hyper: Any, x: Array, y: Array) -> tuple[Array, Array]:
        output = learning.output(procedure, key, posterior, x)
        wrong = (output.mean.argmax(-1) != y).sum(dtype=jnp.int32)
        if procedure == "plain":
            return HEAD.expected_nll(output, y).mean(), wrong
        parts = weights.elbo(HEAD, output, y, posterior, learning.prior)
        return parts.per_example(examples, config.temperature), wrong

    def log_probs(posterior: Any, x: Array) -> Array:
        return _log(_predict(learning, procedure, posterior, x))

    # At learning rate 1: the loop multiplies by the recipe's.
    return loop.stateless(init, loss, log_probs, optax.adam(1.0))


def _predict(learning: Learning, procedure: Name, posterior: Any, x: Array) -> Array:
    """Probabilities of classes, for all posteriors by moments."""
    way = "plain" if procedure == "plain" else "moments"
    return HEAD.predict(learning.output(way, None, posterior, x))


def _log(probabilities: Array) -> Array:
    return jnp.log(jnp.maximum(probabilities, jnp.finfo(jnp.float32).tiny))


def test(
    config: Config, dataset: Dataset, run: tuple[Name, int], finished: Finished
) -> dict[str, Any]:
    """What `result.json` says of a run.

    Args:
        config: the settings.
        dataset: the data.
        run: procedure and seed.
        finished: what came of it.
    """
    procedure, seed = run
    columns = dict(zip(loop.Record._fields, finished.history.T, strict=True))
    told: dict[str, Any] = {
        "procedure": procedure,
        "seed": seed,
        "status": finished.status,
        "best epoch": finished.best_epoch,
        "history": {
            name: [round(float(v), 6) if math.isfinite(v) else None for v in columns[name]]
            for name in ("train_loss", "train_error", "validation_loss", "validation_error")
        },
        "test": None,
        "weight samples": None,
    }
    if finished.best_epoch == 0:
        return told
    features = dataset.test_x.shape[1]
    # Posteriors are all tested by the same programs.
    way: Name = "plain" if procedure == "plain" else "moments"
    plain, sampled = _testers(config, way, features)
    inputs = finished.best.params, dataset.test_x, dataset.test_y, np.float32(dataset.largest)
    told["test"] = _floats(plain(*inputs))
    if procedure != "plain":
        key = jax.random.fold_in(jax.random.key(seed), loop.TEST)
        told["weight samples"] = _floats(sampled(*inputs, key))
    return told


@functools.lru_cache
def _testers(config: Config, way: Name, features: int) -> tuple[Any, Any]:
    """Figures of predictions by moments, and by the average of weight samples."""
    learning = _learning(config, features)

    def plain(posterior: Any, x: Array, y: Array, largest: Array) -> dict[str, Array]:
        def some(x: Array) -> Array:
            return _predict(learning, way, posterior, loop.scaled(x, largest))

        return _figures(_log(loop.in_batches(some, x)), y)

    def sampled(posterior: Any, x: Array, y: Array, largest: Array, key: Any) -> dict[str, Array]:
        def some(x: Array, number: Array) -> Array:
            images = loop.scaled(x, largest)

            def one(total: Array, key: Any) -> tuple[Array, None]:
                output = learning.output("weights", key, posterior, images)
                return total + jax.nn.softmax(output.mean), None

            # The same networks for all images.
            keys = jax.random.split(key, config.samples)
            total, _ = jax.lax.scan(one, jnp.zeros((len(images), CLASSES)), keys)
            return total / config.samples

        return _figures(_log(loop.in_batches(some, x, numbered=True)), y)

    return jax.jit(plain), jax.jit(sampled)


def _figures(log_probs: Array, labels: Array) -> dict[str, Array]:
    return {
        "error": metrics.error(log_probs, labels),
        "nll": metrics.nll(log_probs, labels),
        "ece": metrics.ece(jnp.exp(log_probs), labels),
    }


def _floats(figures: dict[str, Array]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items()}


# --- variance, bias and cost of gradients ---------------------------------------------------------


def posteriors(config: Config, dataset: Dataset, finished: Sequence[Finished]) -> dict[str, Any]:
    """Where gradients are measured.

    Raises:
        ValueError: the training that leads there never had a finite loss.
    """
    begin = initial(config, dataset.train_x.shape[1], len(dataset.train_x))
    run = finished[all_runs(config).index((config.trained_by, config.seeds[0]))]
    if run.best_epoch == 0:
        raise ValueError(
            f"training by {config.trained_by} diverged, so that there is no trained posterior to "
            "measure gradients at: choose another --trained-by, or a smaller --learning-rate."
        )
    return {"initial": begin, "trained": jax.tree.map(jnp.asarray, run.best.params)}


@functools.lru_cache
def _variance(config: Config, procedure: Name, features: int, examples: int) -> Any:
    gradient = functools.partial(_learning(config, features).gradient, procedure)
    # Without noise, two draws show that they are equal.
    draws = config.draws if PROCEDURES[procedure].random else 2

    def measured(key: Any, posterior: Any, x: Array, y: Array, largest: Array) -> Any:
        def of_bytes(key: Any, posterior: Any, x: Array, y: Array) -> Any:
            return gradient(key, posterior, loop.scaled(x, largest), y)

        return gradient_noise.variance(
            of_bytes,
            key,
            posterior,
            x,
            y,
            batch_size=examples,
            pairs=config.pairs,
            draws=draws,
        )

    return jax.jit(measured)


def variances(
    config: Config,
    dataset: Dataset,
    points: dict[str, Any],
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """The variance of every procedure's gradient at every point, by batch size."""
    features = dataset.train_x.shape[1]
    key = jax.random.fold_in(jax.random.key(config.seeds[0]), _VARIANCE)
    inputs = jnp.asarray(dataset.train_x), jnp.asarray(dataset.train_y)
    rows = []
    for procedure in config.procedures:
        for examples in config.batch_sizes:
            measure = _variance(config, procedure, features, examples)
            for point, posterior in points.items():
                found = measure(key, posterior, *inputs, np.float32(dataset.largest))
                row: dict[str, Any] = {
                    "procedure": procedure,
                    "point": point,
                    "batch size": examples,
                }
                for group, each in jax.device_get(found).items():
                    row[group] = {
                        kind: _estimate(values) for kind, values in each._asdict().items()
                    }
                rows.append(row)
            say(f"variance of {procedure} at batch size {examples}")
    return rows


def _estimate(values: np.ndarray) -> dict[str, float]:
    found = report.mean([float(v) for v in values])
    return {"value": found.value, "standard error": found.standard_error}


def biases(
    config: Config,
    dataset: Dataset,
    points: dict[str, Any],
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """The distance of every procedure's expected gradient from flipout's, on one batch.

    A row holds, for either group of parameters, estimates of the squared distance and of the
    squared norm of the reference, and "relative": the root of their ratio; 0 where the estimate of
    the first is negative, which says that it is below the noise.
    """
    features = dataset.train_x.shape[1]
    key = jax.random.fold_in(jax.random.key(config.seeds[0]), _BIAS)
    batch = slice(batch_size(config))
    x = loop.scaled(jnp.asarray(dataset.train_x[batch]), jnp.float32(dataset.largest))
    y = jnp.asarray(dataset.train_y[batch])
    gradient = _learning(config, features).gradient
    sources = {
        procedure: gradient_noise.Source(
            functools.partial(gradient, procedure), PROCEDURES[procedure].random
        )
        for procedure in config.procedures
    }
    measure = jax.jit(
        functools.partial(
            gradient_noise.distances,
            sources,
            functools.partial(gradient, REFERENCE),
            draws=config.bias_draws,
            groups=8,
        )
    )
    rows = []
    for point, posterior in points.items():
        for procedure, found in jax.device_get(measure(key, posterior, x, y)).items():
            row: dict[str, Any] = {"procedure": procedure, "point": point}
            for group, each in found.items():
                difference, reference = _estimate(each.difference), _estimate(each.reference)
                share = max(difference["value"], 0) / max(reference["value"], 1e-30)
                row[group] = {
                    "difference": difference,
                    "reference": reference,
                    "relative": math.sqrt(share),
                }
            rows.append(row)
        say(f"bias at the {point} posterior")
    return rows


def costs(config: Config, dataset: Dataset, posterior: Any) -> list[dict[str, Any]]:
    """The time of a gradient: all procedures in turn, in several rounds."""
    features = dataset.train_x.shape[1]
    batch = slice(batch_size(config))
    x = loop.scaled(jnp.asarray(dataset.train_x[batch]), jnp.float32(dataset.largest))
    y = jnp.asarray(dataset.train_y[batch])
    gradient = _learning(config, features).gradient
    programs = {
        procedure: jax.jit(functools.partial(gradient, procedure))
        for procedure in config.procedures
    }
    seconds: dict[str, list[float]] = {procedure: [] for procedure in programs}
    for number in range(config.rounds + 1):
        for procedure, program in programs.items():
            key = jax.random.key(number)
            start = time.perf_counter()
            jax.block_until_ready(program(key, posterior, x, y))
            if number:  # the first round compiles
                seconds[procedure].append(time.perf_counter() - start)
    return [
        {
            "procedure": procedure,
            "batch size": len(x),
            "milliseconds": 1e3 * float(np.median(taken)),
            "fastest milliseconds": 1e3 * min(taken),
        }
        for procedure, taken in seconds.items()
    ]


def tables(result: dict[str, Any]) -> list[Any]:
    """The result as `rich` tables."""
    from rich import box
    from rich.table import Table

    made = []
    for group in ("means", "log variances"):
        of_batch = result["settings"]["batch_sizes"]
        table = Table(
            title=f"Variance of the gradient by {group}: total, and the part of weights",
            box=box.SIMPLE_HEAD,
        )
        for heading in ("posterior", "procedure", *(f"batch {size}" for size in of_batch)):
            table.add_column(heading)
        for point in ("initial", "trained"):
            for procedure in result["settings"]["procedures"]:
                rows = [
                    row
                    for row in result["variance"]
                    if (row["point"], row["procedure"]) == (point, procedure)
                ]
                cells = [
                    f"{row[group]['total']['value']:.2e}, {row[group]['weights']['value']:.1e}"
                    for row in rows
                ]
                table.add_row(point, procedure, *cells)
        made.append(table)
    return made


def cli(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commandline.run(
        "train.gradient_variance",
        Config,
        "train.gradient_variance.experiment",
        description="Variance of gradients of procedures for weights ([B] Figure 1).",
        example="python -m train.gradient_variance",
        continues="from its last checkpoint",
        arguments=arguments,
    )
