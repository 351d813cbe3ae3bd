"""What is trained, as a loss of the engine; see `train.gan`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

import cgjax as cg
from train.data import Dataset
from train.engine.groups import Group
from train.engine.loop import Learner, Variables
from train.gan.settings import Config, Divergence, Run
from train.models import adversarial as networks
from train.models.adversarial import Layers, Sizes, Weights

MODES, RADIUS, DEVIATION = 8, 2.0, 0.02
_ANGLES = 2 * np.pi * np.arange(MODES) / MODES
CENTRES = (RADIUS * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)).astype(np.float32)
# Of the ring, for validation and test: points are drawn from the modes that these are.
_HELD_OUT = 2000
# Where in the training noise on examples has died away.
_QUIET = 0.8
_EVALUATION = 11


class Recipe(NamedTuple):
    """How both learn, besides the learning rate."""

    critic_rate: float
    penalty: float
    noise: float
    average: float
    steps: int  # of the whole training
    batch_size: int


class State(NamedTuple):
    """What changes with the updates, other than by gradients."""

    average: Layers  # of the generator's weights
    step: Int[Array, ""]


def dataset_of(config: Config, images: Dataset | None) -> Dataset:
    """The images, or without them the numbers of the modes that points of the ring are drawn from;
    in training at least as many as an epoch takes."""
    rows = config.recipe.updates * config.recipe.batch_size
    if images is None:
        told = f"{MODES} Gaussians of deviation {DEVIATION:g} on a circle of radius {RADIUS:g}"
        parts = [np.arange(n) % MODES for n in (rows, _HELD_OUT, _HELD_OUT)]
        labelled = (a for p in parts for a in (p[:, None].astype(np.uint8), p.astype(np.int32)))
        return Dataset(*labelled, largest=1, source=told)
    again = np.resize(np.arange(len(images.train_x)), max(rows, len(images.train_x)))
    return images._replace(train_x=images.train_x[again], train_y=images.train_y[again])


def sizes_of(config: Config, dataset: Dataset) -> Sizes:
    """Of the networks."""
    ring = config.data == "ring"
    return Sizes(config.nodes, config.hidden, 2 if ring else dataset.train_x.shape[1], not ring)


def real(sizes: Sizes, key: Key[Array, ""], x: Array) -> Float[Array, "n features"]:
    """Real examples, of rows of the data: images as they are, points drawn from modes."""
    if sizes.bounded:
        return x
    centres = jnp.asarray(CENTRES)[x[:, 0].astype(jnp.int32)]
    return centres + DEVIATION * jax.random.normal(key, centres.shape)


def groups(config: Config, dataset: Dataset) -> list[Group]:
    """The programs: one for each divergence, or one for each run."""
    recipe, sizes = config.recipe, sizes_of(config, dataset)
    steps = recipe.length * recipe.steps(len(dataset.train_x))
    how = Recipe(
        *(recipe.critic_rate, config.penalty, config.noise, config.average),
        *(steps, recipe.batch_size),
    )

    def group(name: str, runs: Sequence[Run]) -> Group:
        learner = learner_of(runs[0].divergence, sizes, how)
        keys = np.stack([jax.random.key_data(jax.random.key(run.seed)) for run in runs])
        return Group(name, learner, tuple(run.name for run in runs), keys, ())

    if config.how == "sequential":
        return [group(run.name, [run]) for run in config.runs]
    return [
        group(divergence, [run for run in config.runs if run.divergence == divergence])
        for divergence in config.divergences
    ]


@functools.lru_cache
def learner_of(divergence: Divergence, sizes: Sizes, recipe: Recipe) -> Learner:
    """Both networks, which learn at once: the loss is the sum of both, of which each is constant in
    what the other one learns.

    Its figures are of the validation examples and as many that the averaged generator makes, from
    the same noise in every epoch: the energy distance, and how often the critic finds a generated
    example more real than a real one.
    """

    def init(key: Key[Array, ""]) -> Variables:
        weights = networks.initial(key, sizes)
        return Variables(weights, State(jax.tree.map(jnp.copy, weights.generator), jnp.int32(0)))

    def generator(weights: Weights, scale: Array) -> Array:
        x = networks.generator(sizes, recipe.batch_size, weights.generator)
        noise = cg.node(networks.NORMAL, jnp.zeros_like(x), name="noise")
        return x + scale * noise

    def critic(x: Array, weights: Weights, scale: Array) -> Array:
        return networks.critic(x, weights.critic)

    both = cg.adversarial(generator, critic, divergence)

    def loss(
        variables: Variables, key: Any, hyper: Any, x: Array, y: Array
    ) -> tuple[Array, tuple[Array, Any]]:
        weights, (average, step) = variables.params, variables.state
        drawn, added, generated = jax.random.split(key, 3)
        left = jnp.maximum(1 - step / (_QUIET * recipe.steps), 0)
        scale = recipe.noise * left**2
        x = real(sizes, drawn, x)
        x += scale * jax.random.normal(added, x.shape)
        losses = both(generated, x, weights, scale)
        penalty = squared_slope(lambda x: networks.critic(x, weights.critic), x).mean()
        average = jax.tree.map(
            lambda kept, now: recipe.average * kept + (1 - recipe.average) * now,
            average,
            jax.lax.stop_gradient(weights.generator),
        )
        value = losses.critic + losses.generator + recipe.penalty / 2 * penalty
        fooled = (losses.of_generated > losses.of_real).sum()
        return value, (fooled, State(average, step + 1))

    def figures(variables: Variables, hyper: Any, x: Array, y: Array) -> tuple[Array, Array]:
        of_real, of_generated = jax.random.split(jax.random.key(_EVALUATION))
        x = real(sizes, of_real, x)[:_HELD_OUT]
        made = generated(sizes, len(x), variables.state.average, of_generated)
        told = [networks.critic(a, variables.params.critic) for a in (made, x)]
        return energy_distance(made, x), (told[0] > told[1]).mean()

    return Learner(init, loss, None, optimiser(recipe.critic_rate), figures=figures)


def optimiser(critic_rate: float) -> optax.GradientTransformation:
    """Adam without momentum for each network, at learning rate 1 for the generator."""
    adam = optax.adam(1.0, b1=0.0, b2=0.99)
    of_critic = optax.chain(adam, optax.scale(critic_rate))
    labels = Weights("generator", "critic")  # pyright: ignore[reportArgumentType]: of all layers
    return optax.partition({"generator": adam, "critic": of_critic}, labels)


def squared_slope(
    critic: Callable[[Array], Array], x: Float[Array, "n features"]
) -> Float[Array, " n"]:
    """The squared norm of the critic's derivative at each example."""
    return (jax.grad(lambda x: critic(x).sum())(x) ** 2).sum(-1)


def generated(
    sizes: Sizes, number: int, weights: Layers, key: Key[Array, ""]
) -> Float[Array, "number features"]:
    """So many examples by the generator, without noise."""
    sample = cg.forward_sample(functools.partial(networks.generator, sizes, number))
    return sample(key, weights)


def energy_distance(x: Float[Array, "n features"], y: Float[Array, "m features"]) -> Array:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, which is 0 for equal laws alone (Székely and Rizzo)."""

    def mean(a: Array, b: Array, pairs: int) -> Array:
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
        return jnp.sqrt(jnp.maximum(squares, 0)).sum() / pairs

    n, m = len(x), len(y)
    return 2 * mean(x, y, n * m) - mean(x, x, n * (n - 1)) - mean(y, y, m * (m - 1))
