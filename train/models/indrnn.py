"""Deep independently recurrent networks for sequences of pixels ([A] sections 4.2 and 5.1).

Plain, residual and densely connected stacks of recurrent layers with batch normalisation, as in Li
et al., "Independently recurrent neural network" (CVPR 2018) and "Deep independently recurrent
neural network" (2019). No regulariser is written into them: `cgjax.pcff` samples their states, and
with a drop rate they have noise nodes, one mask for all steps of a sequence, which every sampling
procedure draws and plain evaluation marginalises.

Sequences are (*batch, time, features). Inside, time comes first.
"""

import abc
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

import cgjax as cg
from cgjax.layers import IndependentRecurrent, recurrent_weight_bound
from cgjax.nodes import Family
from train.indrnn.settings import Implementation
from train.models.dense import between, dropped

# Uniform with |w| <= sqrt(6 / (65 n)) for n inputs: He's initialisation for a leak of 8.
INPUT_WEIGHTS = nnx.initializers.variance_scaling(2 / 65, "fan_in", "uniform")
CLASSIFIER_WEIGHTS = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")
# Of the running statistics of batch normalisation; PyTorch's 0.1 is 0.9 in Flax's convention.
MOMENTUM = 0.9
RELU = cg.nodes.ReLU()


class Options(NamedTuple):
    """What networks of all kinds are built with."""

    steps: int = 784  # the length of the sequences, which bounds the recurrent weights
    in_features: int = 1  # of a step of the input
    classes: int = 10  # the number of logits
    family: Family = RELU  # of the nodes
    # Of the recurrence, as in `cgjax.layers.IndependentRecurrent`.
    implementation: Implementation | None = None


USUAL = Options()


class Layer(nnx.Module):
    """[affine,] recurrence, batch normalisation over batch and time, dropout.

    Args:
        in_features: the number of inputs; None: no affine map.
        features, name: of the nodes, how many and which.
        options, rngs: of the whole network.
        last: whether it is the last layer, whose weights start close to 1: its last state is all
            that the classifier sees, and so it remembers the whole sequence.
        drop_factor: the drop rate relative to the network's.
    """

    def __init__(
        self,
        in_features: int | None,
        features: int,
        name: str,
        options: Options,
        rngs: nnx.Rngs,
        *,
        last: bool = False,
        drop_factor: float = 1.0,
    ):
        bound = recurrent_weight_bound(options.steps)
        self.recurrent = IndependentRecurrent(
            in_features,
            features,
            family=options.family,
            max_recurrent_weight=bound,
            time_major=True,
            kernel_init=INPUT_WEIGHTS,
            recurrent_init=between(1 / bound, bound) if last else None,
            implementation=options.implementation,
            name=name,
            rngs=rngs,
        )
        self.norm = nnx.BatchNorm(features, momentum=MOMENTUM, epsilon=1e-5, rngs=rngs)
        self.name = name
        self.drop_factor = drop_factor

    def __call__(self, x: Float[Array, "time *batch n"], drop_rate: Any) -> Array:
        """The normalised states, time first."""
        rate = None if drop_rate is None else self.drop_factor * drop_rate
        # One mask for all steps.
        return dropped(self.norm(self.recurrent(x)), rate, f"{self.name}_dropout", (0,))


class _Network(nnx.Module):
    """What the networks share: the axis of time, and the classifier of the last state."""

    def __init__(self, features: int, classes: int, rngs: nnx.Rngs):
        self.classifier = nnx.Linear(features, classes, kernel_init=CLASSIFIER_WEIGHTS, rngs=rngs)

    def __call__(
        self, x: Float[Array, "*batch time n"], drop_rate: Any = None
    ) -> Float[Array, "*batch classes"]:
        """The logits of sequences. The drop rate, a number or a traced value, is the probability
        that a state is dropped on its way to the next layer, for all steps of a sequence at once;
        None: the network has no noise nodes."""
        states = self._states(jnp.moveaxis(x, -2, 0), drop_rate)
        return self.classifier(states[-1])

    @abc.abstractmethod
    def _states(self, x: Array, drop_rate: Any) -> Array:
        """The states of the last recurrent layer at all steps, time first."""


class Plain(_Network):
    """A stack of layers, each affine, recurrent, normalised and dropped; 6 or 12 in the paper.

    With `last_close_to_one` the recurrent weights of the last layer start close to 1. (The
    published runs of this network do not do it, although they ask for it.)
    """

    def __init__(
        self,
        depth: int = 6,
        options: Options = USUAL,
        *,
        features: int = 128,
        last_close_to_one: bool = False,
        rngs: nnx.Rngs,
    ):
        super().__init__(features, options.classes, rngs)
        sizes = [options.in_features, *(depth - 1) * [features]]
        last = depth - 1 if last_close_to_one else None
        self.layers = nnx.List(
            Layer(size, features, f"layer_{i}", options, rngs, last=i == last)
            for i, size in enumerate(sizes)
        )

    def _states(self, x: Array, drop_rate: Any) -> Array:
        for layer in self.layers:
            x = layer(x, drop_rate)
        return x


class Residual(_Network):
    """Pre-activation residual blocks, x + affine(layer(affine(layer(x)))), and a last layer.

    A block is two times recurrence, normalisation, dropout, affine map; [A] section 4.1 derives the
    form. With 5 blocks it has 11 recurrent layers.
    """

    def __init__(
        self, blocks: int = 5, options: Options = USUAL, *, features: int = 128, rngs: nnx.Rngs
    ):
        super().__init__(features, options.classes, rngs)

        def affine(inputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, features, kernel_init=INPUT_WEIGHTS, rngs=rngs)

        def layer(number: int, last: bool = False) -> Layer:
            return Layer(None, features, f"layer_{number}", options, rngs, last=last)

        self.first = affine(options.in_features)
        self.layers = nnx.List(layer(i) for i in range(2 * blocks))
        self.affine = nnx.List(affine(features) for _ in range(2 * blocks))
        self.last = layer(2 * blocks, last=True)

    def _states(self, x: Array, drop_rate: Any) -> Array:
        x = self.first(x)
        for i in range(0, len(self.layers), 2):
            inner = self.affine[i](self.layers[i](x, drop_rate))
            x = x + self.affine[i + 1](self.layers[i + 1](inner, drop_rate))
        return self.last(x, drop_rate)


class DenselyConnected(_Network):
    """Blocks of several pairs of layers, each of which sees all features before it and adds
    `growth`.

    A pair is a bottleneck of 4 `growth` nodes and a layer of `growth` nodes; the first layer of all
    has 6 times as many. A transition behind each block halves the features. With blocks of 8, 6 and
    4 pairs it has 40 recurrent layers. The first layer and those that add features drop twice as
    often.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (8, 6, 4),
        options: Options = USUAL,
        *,
        growth: int = 16,
        rngs: nnx.Rngs,
    ):
        numbers = itertools.count()

        def layer(inputs: int, size: int, factor: float, last: bool = False) -> Layer:
            name = f"layer_{next(numbers)}"
            return Layer(inputs, size, name, options, rngs, last=last, drop_factor=factor)

        size = 6 * growth
        first = layer(options.in_features, size, 2.0)
        bottlenecks, added, transitions = [], [], []
        for block, pairs in enumerate(blocks):
            for _ in range(pairs):
                bottlenecks.append(layer(size, 4 * growth, 1.0))
                added.append(layer(4 * growth, growth, 2.0))
                size += growth
            transitions.append(layer(size, size // 2, 1.0, last=block == len(blocks) - 1))
            size //= 2
        super().__init__(size, options.classes, rngs)
        self.blocks = tuple(blocks)
        self.first = first
        self.bottlenecks = nnx.List(bottlenecks)
        self.added = nnx.List(added)
        self.transitions = nnx.List(transitions)

    def _states(self, x: Array, drop_rate: Any) -> Array:
        x = self.first(x, drop_rate)
        pairs = iter(zip(self.bottlenecks, self.added, strict=True))
        for number, transition in zip(self.blocks, self.transitions, strict=True):
            for _ in range(number):
                bottleneck, added = next(pairs)
                x = jnp.concatenate([x, added(bottleneck(x, drop_rate), drop_rate)], -1)
            x = transition(x, drop_rate)
        return x
