"""Taggers of sentences: embeddings of the words' properties, one layer of hidden nodes, and the
potentials of tags, which are variables of their own or a linear chain ([A] section 3).

    v_t = embeddings of words t - 1, t, t + 1
    h_t = hidden nodes, as `train.models.encoders` has them
    tags ~ P(z) = exp(sum_t (U h_t)[z_t] + sum_t A[z_t, z_{t+1}] + start[z_1] + end[z_T]) / Z

The network computes the potentials; `tags` makes nodes of them. So one procedure can be applied to
the hidden layer (PCFF), and another to the tags: their log-probability, most probable values,
marginals.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

import cgjax as cg
from train.models.dense import dropped
from train.models.encoders import encoder
from train.tagging.settings import Encoder, Head

EMBEDDINGS = nnx.initializers.normal(0.1)


class Shape(NamedTuple):
    """What a network is built from."""

    encoder: Encoder
    head: Head
    hidden: int  # nodes
    tags: tuple[str, ...]
    sizes: tuple[int, ...]  # how many values each property of a word has
    widths: tuple[int, ...]  # of their embeddings


class Steps(NamedTuple):
    """Potentials of a chain besides those of single tags."""

    transitions: Float[Array, "tags tags"]  # from the tag of the row to that of the column
    start: Float[Array, " tags"]  # of the first tag
    end: Float[Array, " tags"]  # of the last one


class Potentials(NamedTuple):
    """Of the tags of sentences; without steps, tags are independent given the words."""

    unary: Float[Array, "sentences words tags"]
    steps: Steps | None


class Potential(nnx.Module):
    """An affine map to the potentials of tags, and those of steps between them.

    With `only_valid`, what IOB2 forbids has the potential -inf: it is part of the distribution, in
    training as in prediction.
    """

    def __init__(self, inputs: int, shape: Shape, only_valid: bool, rngs: nnx.Rngs):
        count = len(shape.tags)
        self.unary = nnx.Linear(inputs, count, rngs=rngs)
        self.forbidden = shape.tags if only_valid else None
        self.steps = shape.head != "softmax"
        if self.steps:
            self.transitions = nnx.Param(jnp.zeros((count, count)))
            self.start, self.end = nnx.Param(jnp.zeros(count)), nnx.Param(jnp.zeros(count))

    def __call__(self, h: Float[Array, "sentences words inputs"]) -> Potentials:
        """The potentials of tags from hidden nodes."""
        unary = self.unary(h)
        if not self.steps:
            return Potentials(unary, None)
        steps = Steps(self.transitions[...], self.start[...], self.end[...])
        if self.forbidden is not None:
            start, transitions, end = cg.nodes.bio_transitions(self.forbidden)
            steps = Steps(*map(jnp.add, steps, (transitions, start, end)))
        return Potentials(unary, steps)


class Tagger(nnx.Module):
    """The potentials of the tags of sentences; of the chain "stacked" those of a second chain,
    which sees the marginals, or a sample, of a first one ("lower") beside the hidden nodes, and
    then those of the first."""

    def __init__(self, shape: Shape, rngs: nnx.Rngs):
        self.embeddings = nnx.List(
            nnx.Embed(size, width, embedding_init=EMBEDDINGS, rngs=rngs)
            for size, width in zip(shape.sizes, shape.widths, strict=True)
        )
        count = len(shape.tags)
        self.encoder = encoder(shape.encoder, 3 * sum(shape.widths), shape.hidden, rngs)
        hidden = self.encoder.nodes
        only_valid = shape.head in ("constrained", "stacked") and "O" in shape.tags
        stacked = shape.head == "stacked"
        self.lower = Potential(hidden, shape, only_valid, rngs) if stacked else None
        hidden += 3 * count * stacked
        self.output = Potential(hidden, shape, only_valid, rngs)

    def __call__(
        self,
        words: Int[Array, "sentences words properties"],
        lengths: Int[Array, " sentences"],
        drop_rate: Any = None,
    ) -> tuple[Potentials, ...]:
        """Potentials of sentences of these lengths, padded with 0. The drop rate, a number or a
        traced value, is the probability that a hidden node is dropped on its way to the tags; None:
        the network has no noise nodes."""
        padded = jnp.pad(words, ((0, 0), (1, 1), (0, 0)))
        embedded = [table(padded[..., i]) for i, table in enumerate(self.embeddings)]
        v = _windows(jnp.concatenate(embedded, -1))
        h = self.encoder(v, lengths)
        h = dropped(h, drop_rate, "dropout")
        if self.lower is None:
            return (self.output(h),)
        lower = self.lower(h)
        below = tags(lower, lengths, "lower")
        around = _windows(jnp.pad(below, ((0, 0), (1, 1), (0, 0))))
        return self.output(jnp.concatenate([h, around], -1)), lower


def _windows(x: Float[Array, "sentences padded n"]) -> Float[Array, "sentences words m"]:
    """Each position but the first and the last beside its neighbours."""
    return jnp.concatenate([x[:, :-2], x[:, 1:-1], x[:, 2:]], -1)


def tags(
    potentials: Potentials, lengths: Int[Array, " sentences"], name: str = "tags"
) -> Float[Array, "sentences words tags"]:
    """Nodes of the tags, as a network: a chain for each sentence, or a node for each word. In the
    padding a chain is 0, and a node's tag is the first one for certain."""
    unary, steps = potentials
    if steps is not None:
        transitions, start, end = steps
        family = cg.nodes.LinearChain(transitions, start=start, end=end, lengths=lengths)
        return cg.node(family, unary, name=name)
    outside = (jnp.arange(unary.shape[1])[None] >= lengths[:, None])[..., None]
    certain = jnp.where(jnp.arange(unary.shape[2]) == 0, 0.0, -jnp.inf)[None, None]
    return cg.node(cg.nodes.Categorical(), jnp.where(outside, certain, unary), name=name)
