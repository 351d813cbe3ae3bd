"""What is trained, as losses of the engine, and pieces of a text; see `train.characters`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key

import cgjax as cg
from train.characters.settings import Config, Latent, Reading
from train.data import Dataset
from train.data.texts import Text
from train.engine.groups import Group
from train.engine.loop import Learner, Variables
from train.models import reader
from train.models.reader import Weights

# The key of validation, which is the same in every epoch.
_VALIDATION = 17


def pieces_of(text: Text, length: int) -> Dataset:
    """Pieces of a text, each with the character before it and so many to be predicted; what is
    predicted is the first of the next one's known characters. What is left over is left out.
    ValueError if a part of the text is shorter than a piece."""

    def cut(part: np.ndarray) -> np.ndarray:
        count = (part.size - 1) // length
        if count < 1:
            raise ValueError(
                f"piece is {length}; expected less than the characters of each part of the text, "
                f"of which one has {part.size}."
            )
        starts = length * np.arange(count)[:, None]
        return part[starts + np.arange(length + 1)]

    parts = [cut(part) for part in (text.train, text.validation, text.test)]
    labelled = (array for part in parts for array in (part, part[:, 1:].astype(np.int32)))
    return Dataset(*labelled, largest=1, source=f"{text.source}, in pieces of {length}")


def groups(config: Config, symbols: int) -> list[Group]:
    """The programs: one for all rates, and one for each way to train latent states, or one for each
    run."""

    def group(name: str, runs: list[Any]) -> Group:
        reading = runs[0].reading
        learner = learner_of(
            reading.name if reading.latent else None,
            (symbols, config.nodes, config.piece),
            config.vimco_samples,
        )
        keys = np.stack([jax.random.key_data(jax.random.key(run.seed)) for run in runs])
        rates = np.array([run.reading.rate for run in runs], np.float32)
        return Group(name, learner, tuple(run.name for run in runs), keys, rates)

    if config.how == "sequential":
        return [group(run.name, [run]) for run in config.runs]
    kinds: dict[str, list[Any]] = {}
    for run in config.runs:
        kinds.setdefault(run.reading.name if run.reading.latent else "rates", []).append(run)
    return [group(name, runs) for name, runs in kinds.items()]


@functools.lru_cache
def learner_of(latent: Latent | None, sizes: tuple[int, int, int], samples: int) -> Learner:
    """What is learnt: by PCFF, at a rate that is handed over, or by a bound on latent states.

    Args:
        latent: how latent states are trained; none: by PCFF.
        sizes: symbols, states, and characters of a piece.
        samples: of VIMCO's bound.
    """
    symbols, states, length = sizes

    def init(key: Key[Array, ""]) -> Variables:
        return Variables(reader.initial(key, symbols, states), ())

    def nats(variables: Variables, key: Any, rate: Array, x: Array) -> Array:
        """A character, mean over pieces."""
        weights, text = variables.params, x.astype(jnp.int32)
        if latent is None:
            return _of_characters(sampled(key, weights, rate, text), text).mean()
        if latent == "straight_through":
            return (-evidence_bound(key, weights, text) / length).mean()
        bound = bounds(samples, symbols)(jax.random.split(key, len(text)), weights, text)
        return (-bound.value / length).mean()

    def loss(
        variables: Variables, key: Any, rate: Array, x: Array, y: Array
    ) -> tuple[Array, tuple[Array, Any]]:
        return nats(variables, key, rate, x), (_wrong(variables.params, x, y), ())

    def figures(variables: Variables, rate: Array, x: Array, y: Array) -> tuple[Array, Array]:
        key = jax.random.key(_VALIDATION)
        return nats(variables, key, rate, x), _wrong(variables.params, x, y) / len(y)

    return Learner(init, loss, None, figures=figures)


def _wrong(weights: Weights, x: Array, y: Array) -> Float[Array, ""]:
    """The share of characters that feed-forward gets wrong, times the number of pieces."""
    found = jax.vmap(reader.logits, (None, 0))(weights, x[:, :-1].astype(jnp.int32))
    return (found.argmax(-1) != y).mean(1).sum()


def _of_characters(
    logits: Float[Array, "*batch time symbols"], text: Int[Array, "*batch time+1"]
) -> Float[Array, "*batch time"]:
    """Nats of each character."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, text[..., 1:])


def sampled(
    key: Key[Array, ""], weights: Weights, rate: Array, text: Int[Array, "pieces time+1"]
) -> Float[Array, "pieces time symbols"]:
    """Natural parameters of the characters, with some of the states sampled (PCFF)."""
    network = jax.vmap(reader.logits, (None, 0))
    return cg.pcff(network, rate)(key, weights, text[:, :-1])


def evidence_bound(
    key: Key[Array, ""], weights: Weights, text: Int[Array, "pieces time+1"]
) -> Float[Array, " pieces"]:
    """The ELBO of each piece from one sample of the guide, with straight-through derivatives.

        sum_t log P(x_t given s_t) - KL(q(S_t given s_{t-1}, x_t) || P(S_t given s_{t-1}))

    Given the states before, the divergence of a step is in closed form.
    """
    proposed = jax.vmap(reader.proposed, (None, 0))
    sampler = cg.forward_sample(proposed, estimator="straight_through")
    logits, divergences = sampler(key, weights, text)
    return -(_of_characters(logits, text) + divergences).sum(-1)


@functools.lru_cache
def bounds(samples: int, symbols: int) -> Any:
    """`bound(keys, weights, text)`: the importance-weighted bound of each of several pieces, whose
    derivative is VIMCO's."""
    bound = cg.importance_weighted(
        reader.model, reader.guide, num_samples=samples, gradient="vimco"
    )

    def of_one(key: Any, weights: Weights, text: Int[Array, " time+1"]) -> cg.Bound:
        return bound(key, {"text": jax.nn.one_hot(text[1:], symbols)}, weights, text[:-1])

    return jax.vmap(of_one, (0, None, 0))


def scores(
    reading: Reading, weights: Weights, dataset: Dataset, symbols: int, samples: int, seed: int
) -> dict[str, float]:
    """Bits a character of the test text, by each way to read the network that applies.

    "feed-forward": with collapsed states. "average": the average of the probabilities that so many
    samples of PCFF give to a character, at the rate of the training, or 1 for latent states; each
    sample's states depend on the characters before through the recurrence alone. "one sample" and
    "bound": the mean of log weights, and the logarithm of the mean weight, of so many samples of
    all states of a piece; PCFF's are drawn from the model, those of latent states by the guide.
    """
    key, text = jax.random.key(seed), dataset.test_x.astype(np.int32)
    found = _scored(reading.latent, samples, symbols, key, weights, reading.rate, text)
    random = reading.latent or reading.rate > 0
    kept = {k: v for k, v in found.items() if random or k == "feed-forward"}
    return {k: float(v) / (text.shape[1] - 1) / float(np.log(2)) for k, v in kept.items()}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _scored(
    latent: bool, samples: int, symbols: int, key: Any, weights: Weights, rate: Any, text: Array
) -> dict[str, Array]:
    """The same in nats a piece."""

    def of_piece(inputs: tuple[Array, Array]) -> dict[str, Array]:
        number, text = inputs
        own = jax.random.fold_in(key, number)
        draws, proposals = jax.random.split(own)
        drawn = jax.vmap(
            lambda key: (
                -_of_characters(
                    cg.pcff(reader.logits, 1.0 if latent else rate)(key, weights, text[:-1]), text
                )
            )
        )(jax.random.split(draws, samples))
        if latent:
            bound = bounds(samples, symbols)(proposals[None], weights, text[None])
            log_weights = bound.log_weights[0]
        else:
            log_weights = drawn.sum(1)
        count = jnp.log(samples)
        return {
            "feed-forward": _of_characters(reader.logits(weights, text[:-1]), text).sum(),
            "average": -(jax.nn.logsumexp(drawn, axis=0) - count).sum(),
            "one sample": -log_weights.mean(),
            "bound": -(jax.nn.logsumexp(log_weights) - count),
        }

    found = lax.map(of_piece, (jnp.arange(len(text)), text), batch_size=32)
    return jax.tree.map(jnp.mean, found)
