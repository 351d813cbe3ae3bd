"""Training and testing a tagger: one compiled step for each length of sentences."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

import cgjax as cg
from train.models.tagger import Potentials, Shape, Tagger, tags
from train.tagging.features import Batch, Encoded
from train.tagging.settings import Cell, Config

_INIT, _NOISE, _ORDER = range(3)


class Rates(NamedTuple):
    """What regularises; numbers."""

    drop: float = 0.0
    hidden: float = 0.0  # PCFF's, of hidden nodes
    lower: float = 0.0  # PCFF's, of the lower one of stacked chains


class State(NamedTuple):
    """What the next step of a training needs."""

    params: Any
    momentum: Any
    step: Int[Array, ""]


class Schedule(NamedTuple):
    """How a network is trained: Adam with a rate that falls linearly to 0."""

    learning_rate: float
    steps: int

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """Gradients of a batch are cut off at a norm of 5."""
        rate = optax.linear_schedule(self.learning_rate, 0.0, self.steps)
        return optax.chain(optax.clip_by_global_norm(5.0), optax.adam(rate))


def rates_of(cell: Cell, drop: float, pcff: float) -> Rates:
    """The rates of a regulariser."""
    on = {"dropout": {"drop": drop}, "pcff": {"hidden": pcff}, "pcff_tags": {"lower": pcff}}
    return Rates(**on.get(cell.regulariser, {}))


@functools.lru_cache
def _network(shape: Shape) -> tuple[Any, Any]:
    """The network as a function of parameters and input, and its state, which is empty."""
    f, _, state = cg.functional(nnx.eval_shape(lambda: Tagger(shape, nnx.Rngs(0))))
    return f, state


@functools.partial(jax.jit, static_argnums=(0, 1))
def begin(shape: Shape, schedule: Schedule, key: Key[Array, ""]) -> State:
    """A training before its first step."""
    _, params, _ = cg.functional(Tagger(shape, nnx.Rngs(jax.random.fold_in(key, _INIT))))
    return State(params, schedule.optimiser.init(params), jnp.int32(0))


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def step(
    shape: Shape, schedule: Schedule, state: State, key: Key[Array, ""], rates: Rates, batch: Batch
) -> tuple[State, Float[Array, ""]]:
    """One step, and the negative log-probability of the tags of its batch, of all words together.

    The noise depends on nothing but the key and the number of the step.
    """
    noise = jax.random.fold_in(jax.random.fold_in(key, _NOISE), state.step)

    def loss(params: Any) -> tuple[Array, Array]:
        found = sampled(shape, noise, params, rates, batch)
        own, *below = (-log_prob(each, batch) for each in found)
        return sum(below, own) / len(batch.lengths), own

    gradient, value = jax.grad(loss, has_aux=True)(state.params)
    change, momentum = schedule.optimiser.update(gradient, state.momentum, state.params)
    params = optax.apply_updates(state.params, change)
    if shape.encoder == "recurrent":
        params = cg.layers.clip_recurrent_weights(params)
    return State(params, momentum, state.step + 1), value


def sampled(
    shape: Shape, key: Key[Array, ""], params: Any, rates: Rates, batch: Batch
) -> tuple[Potentials, ...]:
    """The potentials with noise."""
    f, state = _network(shape)
    of_nodes: dict[str, Any] = {"lower": rates.lower} if shape.head == "stacked" else {}
    sampler = cg.pcff(f, of_nodes | {"*": rates.hidden})
    return sampler(key, params, state, batch.words, batch.lengths, rates.drop)[0]


def log_prob(potentials: Potentials, batch: Batch) -> Float[Array, ""]:
    """The log-probability of the tags of all sentences of a batch."""
    right = jax.nn.one_hot(batch.tags, potentials.unary.shape[-1])
    return cg.log_joint(tags, batch_axes=0)({"tags": right}, potentials, batch.lengths)


class Prediction(NamedTuple):
    """What a network says of the sentences of a batch."""

    log_prob: Float[Array, ""]  # of the right tags of all
    mode: Int[Array, "sentences words"]  # the most probable tags
    marginals: Float[Array, "sentences words tags"]


@functools.partial(jax.jit, static_argnums=0)
def predicted(shape: Shape, params: Any, batch: Batch) -> Prediction:
    """The predictions by feed-forward, without noise."""
    f, state = _network(shape)
    found = cg.feed_forward(f)(params, state, batch.words, batch.lengths)[0][0]
    return Prediction(
        log_prob(found, batch),
        cg.mode(tags)(found, batch.lengths).argmax(-1),
        cg.feed_forward(tags)(found, batch.lengths),
    )


def trained(
    shape: Shape, config: Config, rates: Rates, seed: int, sentences: Encoded
) -> tuple[Any, list[float]]:
    """The parameters after all epochs, and the mean negative log-probability of a word's tag in the
    batches of each, with noise."""
    key = jax.random.key(seed)
    order = np.random.default_rng([_ORDER, seed])
    count = sum(1 for _ in sentences.batches(config.batch_size))
    words = sum(int(group.lengths.sum()) for group in sentences.by_length.values())
    schedule = Schedule(config.learning_rate, config.last_epoch * count)
    state, history = begin(shape, schedule, key), []
    for _ in range(config.last_epoch):
        losses = []
        for batch in sentences.batches(config.batch_size, order):
            state, loss = step(shape, schedule, state, key, rates, batch)
            losses.append(loss)
        history.append(float(np.sum(jax.device_get(losses))) / words)
    return state.params, history


class Predictions(NamedTuple):
    """What a network says of many sentences."""

    nll: float  # the negative log-probability of the right tags of all of them, in nats
    tags: list[np.ndarray]  # int[words] of each sentence
    marginals: np.ndarray  # float32[all words, tags], sentence by sentence


def predictions(shape: Shape, params: Any, size: int, sentences: Encoded) -> Predictions:
    """The predictions for sentences, so many at a time, in their order."""
    total, told, probabilities = 0.0, {}, {}
    for batch in sentences.batches(size):
        found = jax.device_get(predicted(shape, params, batch))
        total -= float(found.log_prob)
        for row, (number, length) in enumerate(zip(batch.numbers, batch.lengths, strict=True)):
            if number >= 0:
                told[int(number)] = found.mode[row, :length]
                probabilities[int(number)] = found.marginals[row, :length]
    every: Sequence[int] = sorted(told)
    return Predictions(
        total, [told[i] for i in every], np.concatenate([probabilities[i] for i in every])
    )
