"""What is fixed about a recurrence when it is traced, and the randomness of a sampled one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cgjax._static import Tree
from cgjax.kernels._recurrence._activations import Activation, activation
from cgjax.kernels.random_bits import uniform


class Settings(NamedTuple):
    """What a recurrence computes, and how; hashable.

    Attributes:
        name: of the activation.
        leak: the slope of the negative part of the leaky activation.
        sampled: whether nodes may be sampled.
        implementation: "scan", "parallel" or "mosaic_gpu".
        interpret: whether the kernel for GPUs runs in Pallas's interpreter.
        ahead: how many steps the kernel for GPUs reads ahead.
    """

    name: str
    leak: float = 0.0
    sampled: bool = False
    implementation: str = "scan"
    interpret: bool = False
    ahead: int = 8

    @property
    def activation(self) -> Activation:
        """The functions of one step."""
        return activation(self.name, self.leak)

    @property
    def needs_e(self) -> bool:
        """Whether the derivative of a value depends on its natural parameter too."""
        return self.sampled and self.activation.sampled_slope is not None

    def slope(self, e: Tree, h: Array) -> Array:
        """The derivative of a value by its natural parameter, which may be None if not needed."""
        own = self.activation.sampled_slope
        return own(e, h) if self.sampled and own is not None else self.activation.slope(h)


class Noise(NamedTuple):
    """What decides which nodes are sampled, and their samples.

    Attributes:
        rate: the probability that a node is sampled, of as many axes as the states, time leading.
        key: two words of key data of threefry, from which each step draws; or None.
        words: or both words of all elements, time leading; or None.
    """

    rate: Array
    key: Array | None = None
    words: tuple[Array, Array] | None = None


def mixture(activation: Activation, words: tuple[Array, Array], rate: Array, e: Array) -> Array:
    """A sample with probability `rate`, else the activation ([A] Eq. 14)."""
    assert activation.sample is not None
    uncollapsed = uniform(words[0], jnp.float32) < rate
    return lax.select(uncollapsed, activation.sample(words[1], e), activation.value(e))


def varying_alike(*trees: Tree) -> Tree:
    """Arrays inside `jax.shard_map` as different on each device as the most different of them.

    So the derivative by what the devices share is a sum over them, as JAX differentiates the cast.
    """
    varying = [jax.typeof(leaf).mat.varying for leaf in jax.tree.leaves(trees)]
    axes = frozenset().union(*varying)

    def cast(leaf: Array) -> Array:
        missing = tuple(axes - jax.typeof(leaf).mat.varying)
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, trees)
