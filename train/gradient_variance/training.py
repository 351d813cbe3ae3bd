"""The networks, the procedures for their weights, and trainings by all of them: by the same recipe,
from the same initial means."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

import cgjax as cg
from cgjax import weights
from train.data import Dataset
from train.engine import loop, testing
from train.engine.groups import Group, Layout
from train.engine.loop import Learner, Variables
from train.engine.recipes import PlateauRecipe
from train.engine.runs import Display, Finished, Keeping, train
from train.gradient_variance.settings import MEASUREMENTS, Config, Name
from train.models.classifiers import SMALL, VGG, VGG16, Perceptron, kernel_deviations

CLASSES = 10
HEAD = weights.CategoricalHead()


def at_means(f: Callable[..., Any]) -> Callable[..., Any]:
    """A procedure without uncertainty: the network at the means of its weights."""

    def output(key: Any, posterior: Any, *args: Any) -> tuple[cg.Belief, Any]:
        logits, state = f(weights.means(posterior), *args)
        return cg.Belief(logits, jnp.zeros_like(logits)), state

    return output


PROCEDURES: dict[str, Callable[..., Any]] = {
    "moments": weights.deterministic,
    "local": weights.local_reparameterization,
    "flipout": weights.flipout,
    "weights": weights.weight_sample,
    "plain": at_means,
}


def uncertain(posterior: Any) -> list[Any]:
    """The distributions among the leaves of a posterior."""
    leaves = jax.tree.leaves(posterior, is_leaf=lambda x: isinstance(x, weights.Normal))
    return [leaf for leaf in leaves if isinstance(leaf, weights.Normal)]


class Learning(NamedTuple):
    """A network as a function, and its prior."""

    f: Callable[..., Any]  # f(params, state, x) -> (logits, state)
    state: Any
    prior: dict[str, float]  # standard deviation by the name of each kernel

    def output(self, procedure: Name, key: Any, posterior: Any, x: Array) -> cg.Belief:
        """The belief about the logits."""
        return PROCEDURES[procedure](self.f)(key, posterior, self.state, x)[0]

    def predict(self, procedure: Name, posterior: Any, x: Array) -> Array:
        """Logarithms of probabilities of classes, for all posteriors by moments."""
        way = "plain" if procedure == "plain" else "moments"
        return testing.logarithm(HEAD.predict(self.output(way, None, posterior, x)))

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
def learning(config: Config, features: int) -> Learning:
    """The network of a configuration, without its weights, for so many inputs."""
    f, params, state = cg.functional(nnx.eval_shape(lambda: _build(config, features, 0)))
    deviations = kernel_deviations(params).items()
    return Learning(f, state, {name: config.prior_scale * scale for name, scale in deviations})


def _build(config: Config, features: int, key: Any) -> nnx.Module:
    network, hidden, rngs = config.scale.network, config.scale.hidden, nnx.Rngs(key)
    if hidden is not None:
        return Perceptron((features, hidden, hidden, CLASSES), rngs)
    side = math.isqrt(features // 3)
    return VGG(VGG16 if network == "vgg16" else SMALL, side, 3, CLASSES, rngs)


@functools.lru_cache
def learner(config: Config, procedure: Name, features: int, examples: int) -> Learner:
    """What is trained by a procedure, on so many examples: Adam on the negative ELBO divided by
    their number, or plainly on the negative log-likelihood."""
    net = learning(config, features)
    variance = {name: config.initial_variance * scale**2 for name, scale in net.prior.items()}

    plain = procedure == "plain"

    def init(key: Any) -> Variables:
        params = cg.functional(_build(config, features, key))[1]
        posterior = weights.mean_field(params, variance)
        return Variables(weights.means(posterior) if plain else posterior, ())

    def loss(variables: Variables, key: Any, hyper: Any, x: Array, y: Array) -> tuple[Array, Any]:
        output = net.output(procedure, key, variables.params, x)
        wrong = (output.mean.argmax(-1) != y).sum(dtype=jnp.int32)
        if plain:
            return HEAD.expected_nll(output, y).mean(), (wrong, ())
        parts = weights.elbo(HEAD, output, y, variables.params, net.prior)
        return parts.per_example(examples, config.temperature), (wrong, ())

    def log_probs(variables: Variables, x: Array) -> Array:
        return net.predict(procedure, variables.params, x)

    return Learner(init, loss, log_probs, optax.adam(1.0))


def recipe(config: Config) -> PlateauRecipe:
    """The same learning rate for all, until the last epoch."""
    size, epochs = config.scale.batch_size, config.scale.epochs
    lasting = dict.fromkeys(("epochs", "plateau_patience", "stop_patience"), epochs)
    return PlateauRecipe(size, config.learning_rate, **lasting)


def all_runs(config: Config) -> list[tuple[Name, int]]:
    """Procedure and seed of each training, in the order of the results."""
    return [(procedure, seed) for procedure in config.procedures for seed in config.seeds]


def learn(
    config: Config, dataset: Dataset, folder: Path | None, display: Display | None = None
) -> list[Finished]:
    """Trains by every procedure: one program for each, or for each of its seeds. The checkpoint
    lies in a folder, if there is one."""
    together = [config.seeds] if config.how == "vmap" else [(seed,) for seed in config.seeds]
    groups = [
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
    settings = config.facts(*MEASUREMENTS) | {"data digest": dataset.digest}
    keeping = Keeping(folder, settings=settings, save_seconds=config.save_seconds)
    return train(groups, dataset, recipe(config), Layout(config.how), keeping, display)


def tested(
    config: Config, dataset: Dataset, run: tuple[Name, int], finished: Finished
) -> dict[str, Any]:
    """What `result.json` says of a run, with the weights of its lowest validation loss."""
    procedure, seed = run
    told = {"procedure": procedure, "seed": seed, **testing.told(finished)}
    told |= {"test": None, "weight samples": None}
    if finished.best_epoch == 0:
        return told
    plain, sampled = _scorers(config, procedure == "plain", dataset.test_x.shape[1])
    told["test"] = plain(finished.best.params, dataset)
    if procedure != "plain":
        key = jax.random.fold_in(jax.random.key(seed), loop.TEST)
        told["weight samples"] = sampled(finished.best.params, dataset, key)
    return told


@functools.lru_cache
def _scorers(config: Config, plain: bool, features: int) -> tuple[Callable[..., Any], ...]:
    """Figures of predictions by moments, the same program for all posteriors, and by the average
    of weight samples."""
    net = learning(config, features)

    def by_moments(posterior: Any, x: Array, _: Any) -> Array:
        return net.predict("plain" if plain else "moments", posterior, x)

    def sampled(posterior: Any, x: Array, _: Any, key: Any) -> Array:
        def one(total: Array, key: Any) -> tuple[Array, None]:
            output = net.output("weights", key, posterior, x)
            return total + jax.nn.softmax(output.mean), None

        # The same networks for all images.
        keys = jax.random.split(key, config.samples)
        total, _ = jax.lax.scan(one, jnp.zeros((len(x), CLASSES)), keys)
        return testing.logarithm(total / config.samples)

    return testing.scorer(by_moments), testing.scorer(sampled)
