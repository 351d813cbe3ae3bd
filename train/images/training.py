"""What is learnt, as losses of the engine: a network plainly, and its posterior by four methods."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

import cgjax as cg
from cgjax import weights
from train.data import Dataset, augmentation
from train.data.augmentation import Images, Mixed
from train.engine import loop, sweep, testing
from train.engine.loop import Learner, Variables
from train.images.settings import MOMENTS, NATURAL, Config
from train.models import table_1
from train.models.classifiers import kernel_deviations
from train.models.parts import Parts

HEAD = weights.CategoricalHead()
OUTPUT_VARIANCE = 0.1  # of the logits at the start, of networks that `weights.balance` begins
# Of natural gradient, whose rate is that of the means' steps: the variances' is so many times as
# large, and Adam's, for what is certain.
VARIANCE_RATE, CERTAIN_RATE = 0.1, 0.02


class Problem(NamedTuple):
    """What a network is trained for."""

    shape: tuple[int, int, int]  # rows, columns, channels
    classes: int
    examples: int  # for training
    steps: int  # updates of the whole training
    mean: tuple[float, ...]  # of each channel of the training images, in [0, 1]
    deviation: tuple[float, ...]

    def images(self, x: Float[Array, "n features"]) -> Images:
        """Rows of the data set as images."""
        return x.reshape(-1, *self.shape)

    def standardised(self, x: Images) -> Images:
        """Images whose channels have mean 0 and deviation 1."""
        mean, deviation = (
            jnp.asarray(each, x.dtype).reshape(1, 1, 1, -1) for each in (self.mean, self.deviation)
        )
        return (x - mean) / deviation


class State(NamedTuple):
    """What changes besides what is trained."""

    network: Any  # running statistics
    step: Int[Array, ""]


class Method(NamedTuple):
    """One way to train a network and to predict by it, as functions of a posterior; of a plain
    network, this is its weights."""

    output: Callable[..., tuple[cg.Belief, Any]]  # (key, posterior, state, x), in training
    probs: Callable[..., Array]  # (posterior, state, x), of a trained network; without sampling
    sampled: Callable[..., Array] | None  # (key, posterior, state, x): those of a drawn network


def network_of(config: Config, problem: Problem) -> sweep.Network:
    """The network as functions."""

    def build(dtype: Any, rngs: nnx.Rngs) -> nnx.Module:
        rows, _, channels = problem.shape
        parts = Parts(
            rngs,
            config.normalisation,
            config.standardised,
            side=rows,
            channels=channels,
            classes=problem.classes,
            dtype=dtype,
        )
        return table_1.network(config.network, parts)

    evaluated = functools.partial(build, None)
    if config.dtype == "float32":
        return sweep.network(evaluated)
    # Running averages would be rounded to 16 bits.
    return sweep.network(functools.partial(build, jnp.dtype(config.dtype)), evaluated)


def method_of(config: Config, network: sweep.Network) -> Method:
    """The functions of a method."""
    random = config.normalisation == "stochastic"

    def known(logits: Array) -> cg.Belief:
        return cg.Belief(logits, jnp.zeros_like(logits))

    def drawn(key: Any, posterior: Any, state: Any, x: Images) -> tuple[cg.Belief, Any]:
        of_weights, of_nodes = jax.random.split(key)
        params = weights.sample(of_weights, posterior)
        if random:
            logits, state = cg.forward_sample(network.training)(of_nodes, params, state, x)
        else:
            logits, state = network.training(params, state, x)
        return known(logits), state

    def parts(key: Any, posterior: Any, state: Any, x: Images) -> tuple[cg.Belief, Any]:
        keys = jax.random.split(key, config.parts)
        split = x.reshape(config.parts, -1, *x.shape[1:])
        found, states = jax.vmap(drawn, (0, None, None, 0))(keys, posterior, state, split)
        whole = jax.tree.map(lambda a: a.reshape(len(x), -1), found)
        return whole, jax.tree.map(lambda a: a.mean(0), states)

    nodes = "random" if random else "collapsed"
    moments = functools.partial(weights.deterministic, nodes=nodes, positions=config.positions)

    def followed(key: Any, posterior: Any, state: Any, x: Images) -> tuple[cg.Belief, Any]:
        output, after = moments(network.training)(None, posterior, state, x)
        return output, weights.means(after)

    def at_means(posterior: Any, state: Any, x: Images) -> Array:
        logits, _ = network.evaluation(weights.means(posterior), state, x)
        return jax.nn.softmax(logits)

    def by_moments(posterior: Any, state: Any, x: Images) -> Array:
        output, _ = moments(network.evaluation)(None, posterior, state, x)
        return HEAD.predict(output)

    def of_sample(key: Any, posterior: Any, state: Any, x: Images) -> Array:
        return at_means(weights.sample(key, posterior), state, x)

    if config.method in MOMENTS:
        return Method(followed, by_moments, None)
    if config.method == "plain":
        return Method(drawn, at_means, None)
    return Method(parts if config.parts > 1 else drawn, at_means, of_sample)


def learner(
    config: Config, problem: Problem, network: sweep.Network, examples: Float[Array, "n features"]
) -> Learner:
    """What is trained.

    Args:
        config, problem, network: what, and how.
        examples: training images in [0, 1], on which layers are balanced.
    """
    method, plain = method_of(config, network), config.method == "plain"
    shapes = jax.eval_shape(network.init, jax.random.key(0)).params
    deviations = kernel_deviations(shapes)
    prior = {name: config.prior_scale * value for name, value in deviations.items()}
    variance = {name: config.initial_variance * value**2 for name, value in prior.items()}
    balanced = config.balance and config.normalisation == "none"
    shown = problem.standardised(problem.images(examples)) if balanced else None

    def init(key: Any) -> Variables:
        posterior, state = network.init(key)
        posterior = posterior if plain else weights.mean_field(posterior, variance)
        if shown is not None:
            target = {"output/kernel": OUTPUT_VARIANCE, "*": 1.0}
            posterior = weights.balance(
                network.evaluation, posterior, state, shown, target=target,
                positions=config.positions,
            )  # fmt: skip
        return Variables(posterior, State(state, jnp.int32(0)))

    def loss(
        variables: Variables, key: Any, hyper: Any, x: Array, y: Array
    ) -> tuple[Array, tuple[Array, Any]]:
        of_images, of_method = jax.random.split(key)
        mixed = augmented(config, of_images, problem.images(x))
        shown = problem.standardised(mixed.images)
        posterior, state = variables.params, variables.state
        output, after = method.output(of_method, posterior, state.network, shown)
        nll = HEAD.expected_nll(output, y).mean()
        if mixed.share is not None:
            other = HEAD.expected_nll(output, y[mixed.partners])
            nll = (mixed.share * HEAD.expected_nll(output, y) + (1 - mixed.share) * other).mean()
        wrong = (output.mean.argmax(-1) != y).sum(dtype=jnp.int32)
        if not plain:
            rising = jnp.minimum(1, (state.step + 1) / max(config.warm_up * problem.steps, 1))
            cost = config.temperature * rising / problem.examples
            nll = nll + cost * weights.kl(posterior, prior)
        return nll, (wrong, State(after, state.step + 1))

    def log_probs(variables: Variables, x: Array) -> Array:
        return _log_probs(method, problem, variables, x)

    return Learner(init, loss, log_probs, _optimiser(config, problem))


def augmented(config: Config, key: Any, x: Images) -> Mixed:
    """Training images, as they are shown."""
    mixed = Mixed(x, jnp.arange(len(x)), None)
    for number, name in enumerate(config.augmentations):
        mixed = augmentation.BY_NAME[name](jax.random.fold_in(key, number), mixed)
    return mixed


def _optimiser(config: Config, problem: Problem) -> optax.GradientTransformation | None:
    """At learning rate 1; none: the recipe's."""
    if config.method not in NATURAL:
        return None
    natural = weights.natural_gradient(
        1.0, VARIANCE_RATE, number_of_examples=float(problem.examples)
    )
    certain = optax.adam(CERTAIN_RATE)
    return optax.partition({"uncertain": natural, "certain": certain}, weights.partition_labels)


def _log_probs(method: Method, problem: Problem, variables: Variables, x: Array) -> Array:
    shown = problem.standardised(problem.images(x))
    return testing.logarithm(method.probs(variables.params, variables.state.network, shown))


def scorers(
    config: Config, problem: Problem, network: sweep.Network
) -> dict[str, Callable[..., dict[str, float]]]:
    """Figures of predictions of test images, `scores(variables, dataset, key)`, by how these are
    made: "test" is that of the method (moments, or the average of drawn networks); "at means" that
    of the network at the means of its posterior."""
    method = method_of(config, network)

    def own(variables: Variables, x: Array, _: Any, key: Any) -> Array:
        drawn = method.sampled
        if drawn is None:
            return _log_probs(method, problem, variables, x)
        shown = problem.standardised(problem.images(x))

        def one(total: Array, key: Any) -> tuple[Array, None]:
            state = variables.state.network
            return total + drawn(key, variables.params, state, shown), None

        # The same networks for all images.
        keys = jax.random.split(key, config.samples)
        total, _ = jax.lax.scan(one, jnp.zeros((len(x), problem.classes)), keys)
        return testing.logarithm(total / config.samples)

    def at_means(variables: Variables, x: Array, _: Any, key: Any) -> Array:
        shown = problem.standardised(problem.images(x))
        params = weights.means(variables.params)
        logits, _ = network.evaluation(params, variables.state.network, shown)
        return jax.nn.log_softmax(logits)

    made = {"test": testing.scorer(own)}
    return made if config.method == "plain" else made | {"at means": testing.scorer(at_means)}


def first_images(dataset: Dataset, number: int) -> Float[Array, "n features"]:
    """The first training images in [0, 1]."""
    return loop.scaled(jnp.asarray(dataset.train_x[:number]), jnp.float32(dataset.largest))


def of_channels(
    dataset: Dataset, shape: tuple[int, int, int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel of the training images, in [0, 1]; the deviation of a
    channel that does not vary is 1."""
    levels, means, deviations = np.arange(256) / dataset.largest, [], []
    for channel in dataset.train_x.reshape(-1, shape[-1]).T:
        share = np.bincount(channel, minlength=256) / len(channel)
        mean = float(share @ levels)
        means.append(mean)
        deviations.append(math.sqrt(share @ (levels - mean) ** 2) or 1.0)
    return tuple(means), tuple(deviations)
